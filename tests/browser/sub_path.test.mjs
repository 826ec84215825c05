// Below a path of a site that nginx serves, with the configuration of the examples: pages, players, frames of components,
// dashboard and documentation ask for nothing elsewhere, and nothing is missing.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Nginx } from "./nginx.mjs";
import { Gateway, launch, newPage, frameNumberReaches, playing, screenshot, until } from "./support.mjs";

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const EXAMPLE = readFileSync(root("examples/proxies/nginx-sub-path.conf"), "utf8");
/** What the example says that the gateway needs. */
const SERVER = EXAMPLE.split("\n").flatMap((line) => /^#     (.*)$/.exec(line)?.[1] ?? []).join("\n");

const CONFIG = `${SERVER}

[streams.demo]
source = "test-pattern"
encode = { width = 640, height = 384, frame-rate = 30, keyframe-interval = "1s" }
renditions.small = { width = 320 }

[transports.canvas]
plugin = "${root("target/plugins/canvas.wasm")}"
`;

describe("below a path of nginx", { timeout: 240_000 }, () => {
  const gateway = new Gateway({ config: CONFIG });
  const nginx = new Nginx();
  let browser;

  before(async () => {
    await gateway.start();
    await nginx.start((address) =>
      // The browser asks the site for an icon of its own when it shows a text file.
      EXAMPLE.replace("listen 443 ssl;", `listen ${address};\n  location = /favicon.ico { return 204; }`)
        .replace("http://127.0.0.1:8080", new URL(gateway.url).origin)
        .replaceAll(/^.*ssl_certificate.*$/gm, ""),
    );
    browser = await launch(["--host-resolver-rules=MAP home.example 127.0.0.1"]);
  });
  after(async () => {
    await browser?.close();
    await nginx.stop();
    await gateway.stop();
  });

  /** Opens a page of the site. `wrong` collects requests elsewhere and those that fail. */
  const open = async (host, path) => {
    const opened = await newPage(browser);
    const { page } = opened;
    const site = `http://${host}:${nginx.port}`;
    const wrong = [];
    const isOurs = (url) => /^(?:blob|data):/.test(url) || url.replace(/^ws/, "http").startsWith(`${site}/cams/`);
    page.on("request", (request) => isOurs(request.url()) || wrong.push(request.url()));
    page.on("websocket", (socket) => isOurs(socket.url()) || wrong.push(socket.url()));
    page.on("response", (response) => {
      const { pathname } = new URL(response.url());
      // Components are for administrators, of whom there is none behind a proxy.
      if (response.status() >= 400 && pathname !== "/cams/api/plugins") wrong.push(`${response.status()} ${pathname}`);
    });
    await page.goto(`${site}${path}`);
    return { ...opened, wrong };
  };

  const select = (page, transport) => page.locator("label", { has: page.locator(`input[name="transport"][value="${transport}"]`) }).click();

  test("the dashboard shows streams, opens one, and leads to its page", async () => {
    const { page, wrong, close } = await open("home.example", "/cams/?show=all");
    await page.locator('[data-serial="demo"] .screen[data-current="true"] canvas').waitFor();
    await screenshot(page, "sub-path-dashboard");
    await page.getByRole("button", { name: "Open demo" }).click();
    await playing(page);
    await page.getByRole("link", { name: "Player page" }).click();
    await page.waitForURL("**/cams/watch/demo");
    await playing(page);
    await page.getByRole("link", { name: "All streams" }).click();
    await page.waitForURL("**/cams/");
    assert.deepEqual(wrong, []);
    await close();
  });

  test("the player plays every transport and switches, also to one that brings its player in a frame", async () => {
    // A secure context, in which all transports play.
    const { page, wrong, problems, close } = await open("127.0.0.1", "/cams/watch/demo");
    await playing(page);
    for (const transport of ["nal", "mse", "hls", "mjpeg", "webcodecs"]) {
      await select(page, transport);
      const { number } = await playing(page, transport);
      await frameNumberReaches(page, number + 20);
    }
    await select(page, "canvas");
    await until("canvas plays", () =>
      page.evaluate(() => {
        const { phase, transport, painted } = document.querySelector("sluicegate-player").stats;
        return phase === "playing" && transport === "canvas" && painted >= 5;
      }),
    );
    assert.ok(page.frames().some((frame) => new URL(frame.url()).pathname.startsWith("/cams/halves/demo/canvas")));
    await select(page, "mjpeg");
    await playing(page, "mjpeg");
    // A move to a rendition, whose address the gateway tells.
    await page.locator("#rendition").selectOption("small");
    await page.waitForFunction(() => document.querySelector("sluicegate-player").stats.width === 320);
    const shown = await page.locator("#addresses input").evaluateAll((inputs) => inputs.map(({ value }) => value));
    assert.ok(shown.length >= 5 && shown.every((text) => text.includes(`:${nginx.port}/cams/live/demo/`)), shown.join("\n"));
    assert.deepEqual(wrong, []);
    assert.deepEqual(problems, []);
    await close();
  });

  test("the documentation and the description of the API are there", async () => {
    const { page, wrong, problems, close } = await open("home.example", "/cams/docs");
    await page.getByRole("navigation", { name: "Documentation" }).getByRole("link", { name: "Operate" }).click();
    await page.waitForURL("**/cams/docs/guide/operate");
    await page.getByRole("link", { name: "nginx-sub-path.conf" }).click();
    await page.waitForURL("**/cams/docs/repo/examples/proxies/nginx-sub-path.conf");
    await page.goBack();
    await page.getByRole("link", { name: "API", exact: true }).click();
    await page.waitForURL("**/cams/docs/api");
    await page.locator(".operation").first().waitFor();
    assert.deepEqual(wrong, []);
    assert.deepEqual(problems, []);
    await close();
  });

  test("the pages can be installed as an app of their own", async () => {
    const { page, close } = await open("127.0.0.1", "/cams/");
    const devtools = await page.context().newCDPSession(page);
    const { url, errors, data } = await devtools.send("Page.getAppManifest");
    const site = `http://127.0.0.1:${nginx.port}/cams/`;
    assert.deepEqual([url, errors], [`${site}assets/app.webmanifest`, []]);
    const { start_url: start, scope } = JSON.parse(data);
    assert.deepEqual([start, scope].map((place) => new URL(place, url).href), [site, site]);
    await close();
  });
});
