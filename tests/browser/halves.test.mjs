// Transports whose component brings a player for browsers: the test's own `canvas` in a sandboxed frame, and the same
// component in the page itself because the config trusts it. Everything that the frame must not be able to do is first
// shown to work for the trusted one.

import assert from "node:assert/strict";
import { once } from "node:events";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, playing, setHidden, until } from "./support.mjs";

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const component = root("target/plugins/canvas.wasm");
const VIEW = { viewport: { width: 800, height: 600 } };

/** The reader of block codes, which the frame, an origin of its own, cannot load from the gateway. */
const blockCode = createRequire(new URL("../../web/package.json", import.meta.url))("esbuild").transformSync(
  readFileSync(root("web/src/media/block_code.ts"), "utf8"),
  { loader: "ts", format: "iife", globalName: "blockCode" },
).code;

/** The player's statistics once they are `wanted`. */
function statsThat(page, wanted) {
  return until(`statistics with ${wanted}`, async () => {
    const stats = await page.evaluate(() => document.querySelector("sluicegate-player")?.stats);
    return stats !== undefined && wanted(stats) && stats;
  });
}

/** Waits until the half plays in a frame; returns that frame. */
async function playingInFrame(page, name = "canvas") {
  await statsThat(page, (stats) => stats.phase === "playing" && stats.transport === name && stats.painted >= 5);
  return until("the frame", () => page.frames().find((frame) => frame.url().includes("/halves/")));
}

/** Frame number in the picture that the half displays in this frame; null if there is none. */
async function numberIn(where) {
  await where.evaluate(blockCode.replace("var blockCode", "globalThis.blockCode"));
  return where.evaluate(() => {
    const canvas = document.querySelector("canvas");
    const row = blockCode.rowHeight(canvas.height);
    const pixels = canvas.getContext("2d").getImageData(0, canvas.height - row, canvas.width, row);
    return blockCode.readRow(pixels, 0, row);
  });
}

/** Writes a component to this file, with another text of the same length. */
function writeWith(file, was, becomes, from = component) {
  const bytes = readFileSync(from);
  assert.notEqual(bytes.indexOf(was), -1);
  bytes.write(becomes, bytes.indexOf(was));
  writeFileSync(file, bytes);
}

const attack = (where, name, argument) => where.evaluate(([name, argument]) => half.attack(name, argument), [name, argument]);

describe("a transport that brings its player", { timeout: 480_000 }, () => {
  const site = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://site");
    const transport = searchParams.get("transport");
    response.writeHead(200, { "content-type": "text/html", ...(pathname === "/opaque" && { "content-security-policy": "sandbox allow-scripts" }) });
    if (pathname === "/opaque") {
      response.end("<!doctype html><title>Opaque</title>");
      return;
    }
    response.end(`<!doctype html><title>Pets</title><script type="module" src="${gateway.url}assets/player.js"></script>
      <sluicegate-player stream="demo" transport="${transport}"></sluicegate-player>`);
  });
  before(async () => {
    site.listen(0, "127.0.0.1");
    await once(site, "listening");
  });
  const swapped = root(`target/scratch/browser/halves-${process.pid}.wasm`);
  const broken = root(`target/scratch/browser/halves-broken-${process.pid}.wasm`);
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => {
      mkdirSync(root("target/scratch/browser"), { recursive: true });
      copyFileSync(component, swapped);
      writeWith(broken, "canvas's build A", "canvas's build N");
      const plugin = (name, more = "") => `[transports.${name}]\nplugin = ${JSON.stringify(component)}\n${more}\n`;
      return `
        [server]
        origins = ["http://127.0.0.1:${site.address().port}"]
        [streams.demo]
        source = "test-pattern"
        encode = { width = 640, height = 360, frame-rate = 30, keyframe-interval = "1s" }
        [streams.other]
        source = "test-pattern"
        [streams.other.renditions.small]
        width = 320
        ${plugin("canvas")}
        ${plugin("trusted", "trusted = true")}
        [transports.swapped]
        plugin = ${JSON.stringify(swapped)}
        [transports.broken]
        plugin = ${JSON.stringify(broken)}
        [[clients]]
        match = { client = "canvas" }
        transport = ["canvas", "mjpeg"]
        policy = { near = ["canvas"], far = ["mjpeg"] }
      `;
    },
  });
  after(() => {
    site.closeAllConnections();
    site.close();
  });

  test("plays in a frame by ?transport=, is listed by its label, and its statistics are true", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=canvas`);
    const frame = await playingInFrame(page);
    const first = await numberIn(frame);
    assert.notEqual(first, null);
    await until("later frames", async () => (await numberIn(frame)) >= first + 20);
    const stats = await statsThat(page, (stats) => stats.framesPerSecond > 2 && stats.bitsPerSecond > 10000);
    assert.deepEqual([stats.label, stats.width, stats.height, stats.reason, stats.reconnects], ["Canvas", 640, 360, "", 0]);
    assert.equal(stats.latencyKind, "decode");
    assert.ok(stats.latencyMs >= 0 && stats.latencyMs < 2000, `${stats.latencyMs} ms`);
    assert.ok(stats.framesPerSecond < 40, `${stats.framesPerSecond} frames a second`);
    // The page cannot see the picture.
    assert.equal(await page.evaluate(() => document.querySelector("sluicegate-player").readNumber()), null);
    assert.equal(await page.locator("#transport-now").textContent(), "Canvas");
    const labels = await page.locator("#transports label").allTextContents();
    assert.deepEqual(labels, ["Auto", "WebCodecs", "H.264", "MSE", "HLS", "MJPEG", "Canvas (canvas)", "Canvas (swapped)", "Canvas (trusted)"]);
    assert.equal(await page.locator('#transports input[value="canvas"]').isChecked(), true);
    // The picture has its shape, and covers the player.
    const [player, picture] = await Promise.all(["sluicegate-player", "sluicegate-player iframe"].map((name) => page.locator(name).boundingBox()));
    assert.deepEqual(picture, player);
    assert.ok(Math.abs(player.width / player.height - 16 / 9) < 0.02, JSON.stringify(player));
    // The gateway attributes the frame's connection to the session of the page.
    const session = await until("the session", async () => {
      const { sessions } = await (await fetch(new URL("/api/sessions", gateway.url))).json();
      const found = sessions.find(({ stream, transport }) => stream === "demo" && transport === "canvas");
      return found?.bytes > 0 && found;
    });
    assert.equal(session.pin.transport, "canvas");
    await page.locator('#transports input[value="nal"]').check({ force: true });
    await playing(page, "nal");
    await until("the frame to end", () => page.frames().length === 1);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a page that is hidden stops it", async () => {
    const { page, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=canvas`);
    await playingInFrame(page);
    await setHidden(page, true);
    await until("the frame to end", () => page.frames().length === 1);
    await setHidden(page, false);
    await playingInFrame(page);
    await close();
  });

  test("plays by the element's attribute on a page of a listed origin, and knows what is muted", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`http://127.0.0.1:${site.address().port}/?transport=canvas`);
    const frame = await playingInFrame(page);
    assert.notEqual(await numberIn(frame), null);
    assert.equal(await frame.evaluate(() => half.context.muted), true);
    await page.evaluate(() => (document.querySelector("sluicegate-player").muted = false));
    await frame.waitForFunction(() => half.muted === false && half.context.muted === false);
    assert.deepEqual(problems.filter((text) => !text.includes("favicon")), []);
    await close();
  });

  test("auto chooses it where it can play", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?client=canvas`);
    await playingInFrame(page);
    assert.equal(await page.evaluate(() => document.querySelector("sluicegate-player").transport), "auto");
    assert.deepEqual(problems, []);
    await close();
  });

  test("where it cannot play, auto does not choose it, it is not offered, and a fixed choice says why", async () => {
    const { page, close } = await openPage({ ...VIEW, userAgent: "NoCanvas" });
    await page.goto(`${gateway.url}watch/demo?client=canvas`);
    await playing(page, "mjpeg");
    const labels = await page.locator("#transports label").allTextContents();
    assert.deepEqual(labels, ["Auto", "WebCodecs", "H.264", "MSE", "HLS", "MJPEG"]);
    await page.goto(`${gateway.url}watch/demo?transport=canvas`);
    await page.getByText("this browser has no canvas").first().waitFor();
    await close();
  });

  test("one whose module has no class is not offered, and a fixed choice says why", async () => {
    const { page, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=broken`);
    const stats = await statsThat(page, (stats) => stats.phase === "playing");
    assert.notEqual(stats.transport, "broken");
    await page.getByText("the module has no class as its default export").first().waitFor();
    assert.equal(await page.locator('#transports input[value="broken"]').count(), 0);
    await close();
  });

  test("a session moves to it and away from it", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=nal`);
    const { number } = await playing(page, "nal");
    await frameNumberReaches(page, number + 10);
    await page.evaluate(() => {
      window.phases = new Set();
      document.querySelector("sluicegate-player").addEventListener("sluicegate-state", ({ detail }) => window.phases.add(detail.phase));
    });
    await page.locator('#transports input[value="canvas"]').check({ force: true });
    await playingInFrame(page);
    await page.locator('#transports input[value="trusted"]').check({ force: true });
    await statsThat(page, (stats) => stats.transport === "trusted" && stats.phase === "playing");
    await page.locator('#transports input[value="mse"]').check({ force: true });
    await playing(page, "mse");
    // Each was prepared beside the one before.
    assert.deepEqual(await page.evaluate(() => [...window.phases]), ["playing"]);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a transport that there is not is named, and nothing else plays instead", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=flip`);
    await page.locator("sluicegate-player").getByRole("status").getByText('Cannot play: there is no transport "flip"').waitFor();
    const { phase, transport, reason } = await statsThat(page, (stats) => stats.phase === "unplayable");
    assert.deepEqual([phase, transport], ["unplayable", null]);
    assert.match(reason, /choose one of: auto, webcodecs, nal, mse, hls, mjpeg, canvas/);
    assert.equal(await page.locator("#transports input:checked").count(), 0);
    await page.locator('#transports input[value="auto"]').check({ force: true });
    await playing(page);
    // What was stored on this device, perhaps by another gateway, is not insisted on.
    await page.evaluate(() => localStorage.setItem("sluicegate-transport", "flip"));
    await page.goto(`${gateway.url}watch/demo`);
    await playing(page);
    assert.equal(await page.locator('#transports input[value="auto"]').isChecked(), true);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a trusted one plays in the page itself, with the same module", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=trusted`);
    const { number, stats } = await playing(page, "trusted");
    await frameNumberReaches(page, number + 20);
    assert.equal(page.frames().length, 1);
    // The page can read its picture, so it knows the whole latency.
    await statsThat(page, (stats) => stats.latencyKind === "picture" && stats.framesPerSecond > 2);
    assert.deepEqual([stats.label, stats.width, stats.height], ["Canvas", 640, 360]);
    assert.deepEqual(problems, []);
    await close();
  });

  test("its component is exchanged: a page that plays keeps its module, a later one gets the new", async () => {
    const { page, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=swapped`);
    const frame = await playingInFrame(page, "swapped");
    // The same component with other text of the same length in its module.
    const becomes = "this browser has no window";
    writeWith(swapped, "this browser has no canvas", becomes);
    const moduleOf = async () => {
      const halves = await (await fetch(new URL("/api/halves/demo", gateway.url))).json();
      return halves.find(({ transport }) => transport === "swapped").module;
    };
    const old = await moduleOf();
    const response = await fetch(new URL("/api/plugins/swapped/reload", gateway.url), { method: "POST" });
    assert.equal(response.status, 200, await response.text());
    await until("the exchange", async () => {
      const plugins = await (await fetch(new URL("/api/plugins", gateway.url))).json();
      return plugins.find(({ name }) => name === "swapped").swap?.state === "switched";
    });
    assert.notEqual(await moduleOf(), old);
    const number = await numberIn(frame);
    await until("later frames", async () => (await numberIn(frame)) >= number + 20);
    assert.equal((await statsThat(page, () => true)).reconnects, 0);
    const text = await (await fetch(new URL(await moduleOf(), gateway.url))).text();
    assert.ok(text.includes(becomes));
    await close();
  });

  test("one that is added or removed is so in an open page, too, when that is shown the next time", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=nal`);
    const { number } = await playing(page, "nal");
    const change = async (method, path, body) => {
      const response = await fetch(new URL(`/api/plugins${path}`, gateway.url), { method, body });
      assert.equal(response.status, 200, await response.text());
      await setHidden(page, true);
      await setHidden(page, false);
    };
    await page.locator('#transports input[value="canvas"]').waitFor({ state: "attached" });
    assert.equal(await page.locator('#transports input[value="late"]').count(), 0);
    await change("POST", "", JSON.stringify({ name: "late", plugin: component }));
    await page.locator('#transports input[value="late"]').check({ force: true });
    await playingInFrame(page, "late");
    await page.locator('#transports input[value="nal"]').check({ force: true });
    await playing(page, "nal");
    await frameNumberReaches(page, number + 1);
    await change("DELETE", "/late");
    await page.locator('#transports input[value="late"]').waitFor({ state: "detached" });
    assert.deepEqual(problems, []);
    await close();
  });

  test("it reconnects to a gateway that was started again", async () => {
    const { page, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=canvas`);
    const old = new URL((await playingInFrame(page)).url()).searchParams.get("ticket");
    await gateway.stop();
    await statsThat(page, (stats) => stats.phase === "waiting");
    await gateway.start();
    await statsThat(page, (stats) => stats.phase === "playing" && stats.reconnects > 0);
    const frame = await playingInFrame(page);
    assert.notEqual(new URL(frame.url()).searchParams.get("ticket"), old);
    await close();
  });

  /**
   * Plays the half with a clock that the test can turn forward, and spoils its context. `ends`: that ends the frame, maybe
   * before the call returns.
   */
  async function spoiled(spoil, { ends = false } = {}) {
    const opened = await openPage(VIEW);
    await opened.page.clock.install();
    await opened.page.goto(`${gateway.url}watch/demo?transport=canvas`);
    const frame = await playingInFrame(opened.page);
    await frame.evaluate(spoil).catch((error) => {
      if (!ends || !/detached|destroyed|closed/.test(error.message)) throw error;
    });
    return { ...opened, frame };
  }

  /** Turns the clock forward by a second, in which the half in this frame, if it is still there, gets further frames. */
  async function nextSecond(page, frame) {
    await page.clock.fastForward(1000);
    const received = () => frame.evaluate(() => half.received).catch(() => Infinity);
    const before = await received();
    await until("further frames", async () => before === Infinity || (await received()) > before);
  }

  /** Collects the player's states from now on in `window.states`. */
  function followState(page) {
    return page.evaluate(() => {
      window.states = [];
      document.querySelector("sluicegate-player").addEventListener("sluicegate-state", ({ detail: { phase, reason } }) => {
        const state = `${phase}: ${reason}`;
        if (window.states.at(-1) !== state) window.states.push(state);
      });
    });
  }

  const hasBeenConnecting = (page) => page.evaluate(() => window.states.includes("connecting: "));

  test("one that breaks without a word is started again, and the silence before is told", async () => {
    const { page, frame, close } = await spoiled(() => {
      half.received = 0;
      half.context.bytes = () => {
        half.received++;
        throw new Error("broken");
      };
    });
    const { painted } = await statsThat(page, () => true);
    await followState(page);
    await until("its end", async () => {
      await nextSecond(page, frame);
      return hasBeenConnecting(page);
    });
    const stats = await statsThat(page, (stats) => stats.phase === "playing" && stats.reconnects === 1);
    assert.ok(stats.transport === "canvas" && stats.painted > painted, JSON.stringify(stats));
    assert.deepEqual(await page.evaluate(() => window.states), ["silent: connected, but no new frames arrive", "connecting: ", "playing: "]);
    await close();
  });

  test("one that no longer displays what it receives is started again, with the reason", async () => {
    const { page, close } = await spoiled(() => {
      half.context.displayed = () => undefined;
    });
    await followState(page);
    await until("its end", async () => {
      await page.clock.fastForward(1000);
      return hasBeenConnecting(page);
    });
    const { transport } = await statsThat(page, (stats) => stats.phase === "playing" && stats.reconnects === 1);
    assert.equal(transport, "canvas");
    assert.deepEqual(await page.evaluate(() => window.states), [
      "waiting: Canvas receives video but no longer displays it: its module reports no `displayed`",
      "connecting: ",
      "playing: ",
    ]);
    await close();
  });

  test("one that says that it cannot go on is left, with its reason", async () => {
    const { page, close } = await spoiled(() => half.context.ended("unsupported", "the decoder gave up"), { ends: true });
    const stats = await statsThat(page, (stats) => stats.phase === "playing" && stats.transport === "webcodecs");
    assert.equal(stats.reconnects, 1);
    await page.getByText("Fell back to WebCodecs: the decoder gave up").first().waitFor();
    await until("the frame to end", () => page.frames().length === 1);
    await close();
  });

  test("what the player itself implements does not wait for the list of transports", async () => {
    const { page, close } = await openPage(VIEW);
    // Never answered.
    await page.route("**/api/halves/**", () => undefined);
    await page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(page, "nal");
    await close();
  });

  test("auto is chosen for while the transports are listed", async () => {
    const { page, close } = await openPage(VIEW);
    const can = (request) => new URL(request.url()).searchParams.get("can");
    const choice = page.waitForRequest(can);
    const choices = [];
    page.on("request", (request) => can(request) && choices.push(can(request)));
    let outcome = null;
    page.on("requestfailed", (request) => request.url().includes("/api/halves/") && (outcome = "failed"));
    page.on("requestfinished", (request) => request.url().includes("/api/halves/") && (outcome ??= "finished"));
    await page.route("**/api/halves/**", async (route) => {
      await choice;
      await route.continue();
    });
    await page.goto(`${gateway.url}watch/demo?client=canvas`);
    await playingInFrame(page);
    assert.equal(outcome, "finished");
    assert.deepEqual(choices, ["webcodecs,nal,mse,hls,mjpeg", "webcodecs,nal,mse,hls,mjpeg,canvas,swapped,trusted"]);
    await close();
  });

  describe("in its frame, which is hostile", () => {
    /** A page with secrets in which the half plays, and where the half can be called. */
    async function withSecrets(transport) {
      const opened = await openPage(VIEW);
      const { page } = opened;
      await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      await page.evaluate(() => {
        document.cookie = "secret=cookie; path=/";
        localStorage.setItem("secret", "local");
        sessionStorage.setItem("secret", "session");
        window.secret = "variable";
      });
      if (transport === "canvas") return { ...opened, where: await playingInFrame(page) };
      await playing(page, transport);
      return { ...opened, where: page };
    }

    const address = (path, scheme = "http") => `${scheme}://${new URL(gateway.url).host}${path}`;
    /** Attacks with arguments, and what the trusted half finds. */
    const attacks = () => [
      ["cookies", null, "secret=cookie"],
      ["localStorage", null, "local"],
      ["sessionStorage", null, "session"],
      ["indexedDB", null, 1],
      ["caches", null, 0],
      ["page", null, "demo · Sluicegate"],
      ["pageVariable", null, "variable"],
      ["origin", null, new URL(gateway.url).origin],
      ["fetch", "/api/devices", /^200 \[/],
      ["fetch", "/api/halves/demo", /^200 \[/],
      ["fetch", "/live/other/canvas/whoami", /^200 whoami/],
      ["fetch", "/live/demo/swapped/whoami", /^200 whoami/],
      ["socket", address("/live/other/canvas", "ws"), "open"],
      ["socket", address("/live/demo/nal", "ws"), "open"],
      ["image", address("/live/other/frame.jpg"), 1280],
      ["import", address("/assets/player.js"), /./],
      ["own", null, /^200 whoami\?\n$/],
      ["worker", null, /./],
      ["wasm", null, /./],
    ];

    test("it reads nothing of the page, the gateway or other streams; in the page it could", async () => {
      const trusted = await withSecrets("trusted");
      const framed = await withSecrets("canvas");
      // What a page's policy forbids to everybody is no evidence about the frame.
      const forbiddenToAll = new Set(["worker", "wasm"]);
      const allowedInFrame = new Set(["own", "worker", "wasm"]);
      for (const [name, argument, expected] of attacks()) {
        const control = await attack(trusted.where, name, argument);
        if (!forbiddenToAll.has(name)) {
          assert.ok(expected instanceof RegExp ? expected.test(String(control.found)) : control.found === expected, `${name} in the page: ${JSON.stringify(control)}`);
        }
        const result = await attack(framed.where, name, argument?.startsWith("/") ? address(argument) : argument);
        if (allowedInFrame.has(name)) assert.equal(result.refused, undefined, `${name} in the frame: ${result.refused}`);
        else assert.notEqual(result.refused, undefined, `${name} in the frame found ${JSON.stringify(result.found)}`);
      }
      // It goes on playing.
      const number = await numberIn(framed.where);
      await until("later frames", async () => (await numberIn(framed.where)) >= number + 10);
      await trusted.close();
      await framed.close();
    });

    test("its ticket opens nothing else, also where the frame's policy does not apply", async () => {
      const { where, close } = await withSecrets("canvas");
      const ticket = new URL(where.url()).searchParams.get("ticket");
      const { page: opaque, close: closeOther } = await openPage();
      // Another page with an opaque origin, without the policy of the frame.
      await opaque.goto(`http://127.0.0.1:${site.address().port}/opaque`);
      const get = (path) =>
        opaque.evaluate(async (url) => {
          try {
            return (await fetch(url)).status;
          } catch {
            return null;
          }
        }, address(path));
      const open = (path) =>
        opaque.evaluate(
          (url) =>
            new Promise((resolve) => {
              const socket = new WebSocket(url);
              socket.onopen = () => resolve(true);
              socket.onerror = () => resolve(false);
            }),
          address(path, "ws"),
        );
      assert.equal(await get(`/live/demo/canvas/whoami?ticket=${ticket}`), 200);
      assert.equal(await open(`/live/demo/canvas?ticket=${ticket}`), true);
      for (const path of ["/live/other/canvas", "/live/other@small/canvas", "/live/demo/swapped", "/live/demo/nal", "/live/demo/canvas%20"]) {
        assert.equal(await get(`${path}/whoami?ticket=${ticket}`), null, path);
        assert.equal(await open(`${path}?ticket=${ticket}`), false, path);
      }
      for (const path of ["/api/devices", "/api/halves/demo", "/api/sessions", "/live/demo", "/live/demo/frame.jpg", "/api/events"]) {
        assert.equal(await get(`${path}?ticket=${ticket}`), null, path);
      }
      assert.equal(await open(`/api/ws/stream/demo?ticket=${ticket}`), false);
      assert.equal(await get("/live/demo/canvas/whoami"), null);
      await closeOther();
      await close();
    });

    /** Accepts every dialog of the page; returns their kinds. */
    function acceptDialogs(page) {
      const kinds = [];
      page.on("dialog", (dialog) => {
        kinds.push(dialog.type());
        void dialog.accept("secret");
      });
      return kinds;
    }

    test("it opens no window, asks nothing, runs no text and does not navigate the page; in a page it could", async () => {
      const { page, where, close } = await withSecrets("canvas");
      const asked = acceptDialogs(page);
      const before = page.url();
      assert.ok((await attack(where, "popup")).refused);
      assert.equal(page.context().pages().length, 1);
      for (const kind of ["confirm", "prompt"]) assert.ok((await attack(where, "dialog", kind)).refused, kind);
      await attack(where, "dialog", "alert");
      assert.deepEqual(asked, []);
      assert.ok((await attack(where, "eval")).refused);
      assert.ok((await attack(where, "top", address("/healthz"))).refused);
      assert.equal(page.url(), before);
      await close();
      // The same class in a page that has no policy of its own.
      const trusted = await openPage(VIEW);
      const shown = acceptDialogs(trusted.page);
      await trusted.page.goto(`http://127.0.0.1:${site.address().port}/?transport=trusted`);
      await playing(trusted.page, "trusted");
      const found = async (name, argument) => (await attack(trusted.page, name, argument)).found;
      assert.equal(await found("popup"), "open");
      for (const kind of ["alert", "confirm", "prompt"]) assert.equal(await found("dialog", kind), "shown");
      assert.deepEqual(shown, ["alert", "confirm", "prompt"]);
      assert.equal(await found("eval"), 2);
      const navigated = trusted.page.waitForURL(address("/healthz"));
      // The navigation may end the call.
      await found("top", address("/healthz")).catch(() => undefined);
      await navigated;
      await trusted.close();
    });

    test("a busy loop stops its picture, while the page and its other player go on", async () => {
      const { page, close } = await openPage(VIEW);
      await page.clock.install();
      await page.goto(`http://127.0.0.1:${site.address().port}/?transport=canvas`);
      const frame = await playingInFrame(page);
      await page.evaluate(() => {
        const other = document.createElement("sluicegate-player");
        other.id = "other";
        other.setAttribute("stream", "demo");
        other.setAttribute("transport", "mjpeg");
        document.body.append(other);
      });
      const numberOfOther = () => page.evaluate(() => document.querySelector("#other").readNumber());
      const first = await until("the other player's picture", numberOfOther);
      // The same loop in the page, as a trusted half could run it, stops the page.
      const pause = await page.evaluate(async () => {
        const began = performance.now();
        setTimeout(() => {
          const end = performance.now() + 500;
          while (performance.now() < end);
        });
        await new Promise((resolve) => setTimeout(resolve, 1));
        return performance.now() - began;
      });
      assert.ok(pause >= 500, `${pause} ms`);
      const looping = attack(frame, "loop", 20_000).catch(() => "ended");
      // The player tells the silence, and then starts the transport again in a new frame, which ends the old one.
      await followState(page);
      let number = first;
      await until("its end", async () => {
        await page.clock.fastForward(5000);
        await until("the other player's later pictures", async () => (await numberOfOther()) > number);
        number = await numberOfOther();
        return hasBeenConnecting(page);
      });
      // The new frame may wait for the process of the old one, where the loop goes on until it or the browser ends it.
      await looping;
      await statsThat(page, (stats) => stats.phase === "playing" && stats.transport === "canvas");
      assert.deepEqual(await page.evaluate(() => window.states), ["silent: connected, but no new frames arrive", "connecting: ", "playing: "]);
      await close();
    });

    test("it cannot flood the page: it is stopped, and another transport plays", async () => {
      // Browsers limit nothing: in a page without the player's limit all messages arrive.
      const { page: plain, close: closePlain } = await openPage();
      await plain.goto(`http://127.0.0.1:${site.address().port}/opaque`);
      const arrived = await plain.evaluate(
        () =>
          new Promise((resolve) => {
            const { port1, port2 } = new MessageChannel();
            let count = 0;
            port1.onmessage = () => ++count === 200_000 && resolve(count);
            for (let nth = 0; nth < 200_000; nth++) port2.postMessage('["bytes",1]');
          }),
      );
      assert.equal(arrived, 200_000);
      await closePlain();
      const { page, where, close } = await withSecrets("canvas");
      void attack(where, "flood").catch(() => undefined);
      const stats = await statsThat(page, (stats) => stats.phase === "playing" && stats.transport !== "canvas");
      assert.match(stats.reason, /more than 600 messages a second/);
      await until("the frame to end", () => page.frames().length === 1);
      await close();
    });

    test("a frame that navigates itself away gets nothing", async () => {
      const { page, where, close } = await withSecrets("canvas");
      await where.evaluate((url) => (location.href = url), address("/api/devices"));
      // Its connection ends with it, and the player reports the silence; the page stays.
      const shown = await until("the answer", async () => {
        const frame = page.frames().find((frame) => frame !== page.mainFrame());
        return frame === undefined || frame.url() !== where.url() ? "gone" : frame.evaluate(() => document.body?.textContent ?? "").catch(() => "gone");
      });
      assert.ok(!shown.includes("test-pattern"), shown);
      await close();
    });
  });
});

describe("the half of a new project", { timeout: 120_000 }, () => {
  const example = root("target/plugins/h264.wasm");
  const overHttp = root(`target/scratch/browser/halves-http-${process.pid}.wasm`);
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => {
      mkdirSync(root("target/scratch/browser"), { recursive: true });
      // Without the carrier, as the gateway knows none of that name.
      writeWith(overHttp, "websocket", "websockey", example);
      const plugin = (name, file) => `[transports.${name}]\nplugin = ${JSON.stringify(file)}\n`;
      return `
        [streams.demo]
        source = "test-pattern"
        encode = { width = 640, height = 360, frame-rate = 30, keyframe-interval = "1s" }
        ${plugin("mine", example)}
        ${plugin("http-only", overHttp)}
        ${plugin("plain", root("target/plugins/nal.wasm"))}
      `;
    },
  });

  test("has at most 30 lines, and plays", async () => {
    const lines = readFileSync(root("examples/plugins/h264/src/half.js"), "utf8").trimEnd().split("\n");
    assert.ok(lines.length <= 30, `${lines.length} lines`);
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=mine`);
    const frame = await playingInFrame(page, "mine");
    const first = await numberIn(frame);
    assert.notEqual(first, null);
    await until("later frames", async () => (await numberIn(frame)) >= first + 20);
    const stats = await statsThat(page, (stats) => stats.framesPerSecond > 20 && stats.bitsPerSecond > 10000);
    assert.deepEqual([stats.label, stats.width, stats.height, stats.reason, stats.reconnects], ["H.264", 640, 360, "", 0]);
    assert.ok(stats.latencyMs >= 0 && stats.latencyMs < 2000, `${stats.latencyMs} ms`);
    // Two of one label are told apart, and its URL is listed.
    const labels = await page.locator("#transports label").allTextContents();
    assert.deepEqual(labels, ["Auto", "WebCodecs", "H.264 (nal)", "MSE", "HLS", "MJPEG", "H.264 (http-only)", "H.264 (mine)"]);
    await until("the URLs", async () => {
      const urls = await page.locator("#addresses input").evaluateAll((inputs) => inputs.map(({ value }) => value));
      return ["mine", "plain"].every((name) => urls.includes(`${gateway.url}live/demo/${name}`));
    });
    assert.deepEqual(problems, []);
    await close();
  });

  test("says which carrier its transport lacks, instead of trying again and again", async () => {
    const { page, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=http-only`);
    await page.getByText("the transport is not available over websocket, only over http: see `carriers` of its profile").first().waitFor();
    const stats = await statsThat(page, (stats) => stats.phase === "playing");
    assert.notEqual(stats.transport, "http-only");
    await close();
  });

  test("is what the player misses of a transport without one, and it says where that plays", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=plain`);
    const text = 'Cannot play: "plain" has no half in the browser; play it at /live/demo/plain, or choose one of: auto, webcodecs';
    await page.locator("sluicegate-player").getByRole("status").getByText(text).waitFor();
    assert.deepEqual(problems, []);
    await close();
  });
});
