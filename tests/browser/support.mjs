// Support for the browser tests: a real gateway process, a real headless Chromium, and pages that collect every
// error.
//
// SLUICEGATE_BIN is the path of the gateway (default: target/release or target/debug), CHROMIUM that of the browser
// (default: /usr/bin/chromium). Screenshots are saved in target/screenshots.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

// playwright-core is installed only in web/.
const { chromium } = createRequire(new URL("../../web/package.json", import.meta.url))("playwright-core");

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** Timeout for any condition in ms: generous, since the machine may be busy with other tests. */
export const DEADLINE = 30_000;

/** Number of config files written, so that each gateway of a test has its own. */
let configs = 0;

/**
 * A gateway process on a free port of `address`. `config` is the text of a config file, or a function, possibly async,
 * that returns it and is called at the first start. Without `config`, the gateway has its default stream `demo`. `env`
 * are more variables of its environment.
 */
export class Gateway {
  #address;
  #config;
  #env;
  #child = null;
  #arguments = null;
  url = "";

  constructor({ address = "127.0.0.1", config, env = {} } = {}) {
    this.#address = address;
    this.#config = config;
    this.#env = env;
  }

  /** Writes the config file, and returns the arguments for it. */
  async #writeConfig() {
    const config = typeof this.#config === "function" ? await this.#config() : this.#config;
    if (config === undefined) return [];
    const directory = root("target/scratch/browser");
    mkdirSync(directory, { recursive: true });
    const file = `${directory}/sluice-${process.pid}-${++configs}.toml`;
    writeFileSync(file, config);
    return ["--config", file];
  }

  /** Starts the process, on the same port if it is started again. Resolves once it listens. */
  async start() {
    this.#arguments ??= await this.#writeConfig();
    const listen = this.url === "" ? `${this.#address}:0` : new URL(this.url).host;
    const child = spawn(binary(), ["serve", "--listen", listen, ...this.#arguments], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, XDG_STATE_HOME: root("target/scratch/browser"), ...this.#env },
    });
    this.#child = child;
    // Kills the process however the tests end.
    const end = () => child.kill("SIGKILL");
    process.once("exit", end);
    child.once("exit", () => process.off("exit", end));
    let log = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (log = (log + text).slice(-4000)));
    const url = new Promise((resolve, reject) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const found = /https?:\/\/([\d.]+):\d+\//.exec(line);
        if (found?.[1] === this.#address) resolve(found[0]);
      });
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`the gateway exited with ${code} before it listened:\n${log}`)));
    });
    this.url = await url;
    return this;
  }

  /** Sends this signal to the process and waits until it has exited. */
  async stop(signal = "SIGTERM") {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }

  /** The current state of the stream in `/api/devices`. */
  async device(serial = "demo") {
    const response = await fetch(new URL("/api/devices", this.url));
    assert.equal(response.status, 200);
    return (await response.json()).find((device) => device.serial === serial);
  }
}

/** Path of the gateway to test. */
export function binary() {
  return process.env.SLUICEGATE_BIN || built("sluicegate");
}

/** Path of a program that was built. */
export function built(name) {
  const path = ["release", "debug"].map((profile) => root(`target/${profile}/${name}`)).find((path) => existsSync(path));
  assert.ok(path, `${name} is missing: build it with \`make test\``);
  return path;
}

/**
 * Features of Chromium that are off. The first are those that playwright leaves out: of two such options, Chromium takes
 * the last. The others load two pages of its own for each window, for suggestions in an address bar that nobody sees.
 */
const DISABLED_FEATURES = [
  ...["AvoidUnnecessaryBeforeUnloadCheckSync", "BoundaryEventDispatchTracksNodeRemoval", "DestroyProfileOnBrowserClose"],
  ...["DialMediaRouteProvider", "GlobalMediaControls", "HttpsUpgrades", "LensOverlay", "MediaRouter", "PaintHolding"],
  ...["ThirdPartyStoragePartitioning", "Translate", "AutoDeElevate", "RenderDocument", "OptimizationHints"],
  ...["WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup"],
];

/** Starts a headless Chromium. QUIC stays enabled: other tests of this browser need it. */
export function launch(extraArguments = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
      `--disable-features=${DISABLED_FEATURES}`,
      ...extraArguments,
    ],
  });
}

/** Opens a page with its own profile. `problems` collects console errors, exceptions and CSP violations. */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE);
  const problems = [];
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.exposeFunction("reportViolation", (text) => problems.push(text));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      window.reportViolation(`CSP: ${event.violatedDirective} blocked ${event.blockedURI}`);
    });
  });
  const close = async () => {
    // A request that is being answered by a test may just be under way.
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await context.close();
  };
  return { page, problems, close };
}

/** Waits until the player displays frames with a frame number, and returns its state. */
export async function playing(page, transport) {
  await page.waitForFunction(
    (wanted) => {
      const player = document.querySelector("sluicegate-player");
      const stats = player?.stats;
      return stats?.phase === "playing" && (wanted === undefined || stats.transport === wanted) && player.readNumber() !== null;
    },
    transport,
  );
  return displayedFrame(page);
}

/** Frame number and clock of the displayed frame, read at the same moment. */
export function displayedFrame(page) {
  return page.evaluate(() => {
    const player = document.querySelector("sluicegate-player");
    return { number: player.readNumber(), clock: player.readClock(), stats: player.stats };
  });
}

/** Waits until the displayed frame number is at least `number` (numbers here are far from their wrap). */
export async function frameNumberReaches(page, number) {
  await page.waitForFunction((least) => (document.querySelector("sluicegate-player").readNumber() ?? -1) >= least, number);
  return displayedFrame(page);
}

/** Samples the end-to-end latency once a second; returns median and maximum in ms. */
export function measureLatency(page, seconds) {
  return page.evaluate(async (wanted) => {
    const player = document.querySelector("sluicegate-player");
    const found = [];
    while (found.length < wanted) {
      const { detail } = await new Promise((resolve) => player.addEventListener("sluicegate-stats", resolve, { once: true }));
      if (detail.latencyKind === "picture") found.push(Math.round(detail.latencyMs));
    }
    found.sort((a, b) => a - b);
    return { median: found[found.length >> 1], worst: found.at(-1) };
  }, seconds);
}

/** Collects the URLs of WebSockets that carry media, without the control channel. */
export function recordMediaSockets(page) {
  const urls = [];
  page.on("websocket", (socket) => {
    if (!socket.url().includes("/api/sessions/")) urls.push(socket.url());
  });
  return urls;
}

/** Records every MediaSource that the page creates, in `window.sources`. */
export function recordMediaSources(page) {
  return page.addInitScript(() => {
    window.sources = [];
    window.MediaSource = class extends MediaSource {
      constructor() {
        super();
        window.sources.push(this);
      }
    };
  });
}

/**
 * Blocks playback, muted or not, except right after a tap, like an iPhone in low power mode. The browser's own user
 * activation cannot be used: playwright's access to the page counts as one.
 */
export function blockAutoplay(page) {
  return page.addInitScript(() => {
    let tapped = false;
    window.addEventListener(
      "click",
      ({ isTrusted }) => {
        tapped = isTrusted;
        setTimeout(() => (tapped = false), 1000);
      },
      { capture: true },
    );
    const play = HTMLMediaElement.prototype.play;
    HTMLMediaElement.prototype.play = function () {
      if (tapped) return play.call(this);
      return Promise.reject(new DOMException("a tap is needed", "NotAllowedError"));
    };
  });
}

/** Calls `check` until it returns something truthy, and returns that; fails with `what` after the timeout. */
export async function until(what, check) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert.ok(Date.now() < end, `${what}: not within ${DEADLINE} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * Makes the page believe that it was hidden or visible. Headless Chromium treats every tab as visible, even minimised
 * or in the background, so this simulates the browser; everything that follows from it is real.
 */
export function setHidden(page, hidden) {
  return page.evaluate((value) => {
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (value ? "hidden" : "visible") });
    Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
}

/** Number of pixels by which the page is wider than its window. */
export function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

/** Saves a screenshot as target/screenshots/NAME.png. */
export async function screenshot(page, name, options = {}) {
  const directory = root("target/screenshots");
  mkdirSync(directory, { recursive: true });
  await page.screenshot({ path: `${directory}/${name}.png`, ...options });
}

/** Leaves the page only ManagedMediaSource, as on an iPhone; `window.managed` counts instances. */
export function onlyManagedMediaSource(page) {
  return page.addInitScript(() => {
    window.managed = 0;
    window.ManagedMediaSource = class extends MediaSource {
      constructor() {
        super();
        window.managed++;
      }
    };
    Reflect.deleteProperty(window, "MediaSource");
  });
}
