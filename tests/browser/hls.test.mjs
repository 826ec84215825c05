// HLS in the page: by hls.js, and by the browser itself where it has no Media Source Extensions.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway, launch, newPage, numberReaches, picture, playing, refusePlay, settled, until } from "./support.mjs";

/** How long low latency is watched, in seconds. */
const WATCHED = 60;
/** A pause (ms) shorter than one picture is none: Chromium was seen to say `waiting` and `playing` in the same millisecond. */
const PICTURE = 1000 / 30;

describe("hls", { timeout: 240_000 }, () => {
  const gateway = new Gateway({
    config: `
      [streams.demo]
      source = "test-pattern"
      encode = { width = 640, height = 360, frame-rate = 30, keyframe-interval = "1s" }
      [transports.hls]
      part = "200ms"
      segment = "1s"
    `,
  });
  let browser;

  before(async () => {
    await gateway.start();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await gateway.stop();
  });

  test(`hls.js plays ${WATCHED} s at low latency without a stall`, async (t) => {
    const { page, problems, close } = await newPage(browser, { viewport: { width: 800, height: 600 } });
    // As by a gateway that chooses something unknown here: left to itself, the page plays the playlist of all renditions.
    const choice = { transport: "later", rendition: "", base: "/live/demo", session: "/api/sessions/none", reason: "new", pattern: true };
    await page.route(({ pathname }) => pathname === "/live/demo", (route) => route.fulfill({ json: choice }));
    const playlists = new Set();
    page.on("request", (request) => playlists.add(new URL(request.url()).pathname));
    await page.goto(`${gateway.url}watch/demo?transport=hls`);
    // It begins with a seek to where live is.
    const first = await numberReaches(page, (await playing(page, "hls")).number + 30);
    await page.evaluate((picture) => {
      window.stalls = [];
      const video = document.querySelector("sluicegate-player").shadowRoot.querySelector("video");
      const began = performance.now();
      const note = (name, pause) => {
        const { buffered, currentTime } = video;
        const ahead = buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : 0;
        window.stalls.push({ name, pause, after: performance.now() - began, ahead });
      };
      for (const name of ["stalled", "seeking", "emptied", "error"]) video.addEventListener(name, () => note(name));
      let waits = null;
      video.addEventListener("waiting", () => (waits ??= performance.now()));
      video.addEventListener("playing", () => {
        if (waits !== null && performance.now() - waits > picture) note("waiting", performance.now() - waits);
        waits = null;
      });
      window.waits = () => waits !== null;
    }, PICTURE);
    const { median, worst } = await settled(page, WATCHED);
    t.diagnostic(`picture latency over hls, parts of 200 ms: median ${median} ms, worst ${worst} ms`);
    await page.waitForFunction(() => !window.waits());
    assert.ok(playlists.has("/live/demo/hls/index.m3u8"), `${[...playlists]}`);
    assert.deepEqual(await page.evaluate(() => window.stalls), []);
    assert.ok(median > 0 && median < 3000, `median ${median} ms`);
    const last = await picture(page);
    const seconds = ((last.clock - first.clock + 2 ** 24) % 2 ** 24) / 1000;
    assert.ok(seconds > WATCHED - 2, `${seconds} s of pictures in ${WATCHED} s`);
    assert.ok(last.number - first.number > seconds * 25, `${last.number - first.number} pictures in ${seconds} s`);
    assert.equal(last.stats.reconnects, 0);
    assert.ok(last.stats.bitsPerSecond > 0);
    assert.deepEqual(problems, []);
    await close();
  });

  test("without Media Source Extensions the browser's own HLS plays, and hls.js is not even fetched", async (t) => {
    const { page, problems, close } = await newPage(browser, { viewport: { width: 800, height: 600 } });
    await page.addInitScript(() => {
      for (const name of ["MediaSource", "ManagedMediaSource", "WebKitMediaSource"]) Reflect.deleteProperty(window, name);
    });
    const scripts = [];
    page.on("request", (request) => request.resourceType() === "script" && scripts.push(request.url()));
    await page.goto(`${gateway.url}watch/demo?transport=hls`);
    const { number } = await playing(page, "hls");
    await numberReaches(page, number + 60);
    const { median } = await settled(page, 2);
    t.diagnostic(`picture latency of Chromium's own HLS: median ${median} ms`);
    const source = await page.locator("sluicegate-player video.first").getAttribute("src");
    assert.equal(source, `${gateway.url}live/demo/hls/media.m3u8`);
    assert.ok(scripts.every((url) => !url.includes("hls")), `${scripts}`);
    assert.deepEqual(problems, []);
    await close();
  });

  test("hls.js is fetched by who needs it only, and let go with the element", async () => {
    const { page, problems, close } = await newPage(browser, { viewport: { width: 800, height: 600 } });
    const loaded = [];
    page.on("request", (request) => loaded.push(request.url()));
    const fetches = (text) => loaded.filter((url) => url.includes(text)).length;
    await page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(page, "nal");
    assert.equal(fetches("/assets/hls_js"), 0);
    await page.locator("label", { hasText: "HLS" }).click();
    const { number } = await playing(page, "hls");
    await numberReaches(page, number + 30);
    assert.equal(fetches("/assets/hls_js"), 1);
    await page.evaluate(() => document.querySelector("sluicegate-player").remove());
    await until("no request for two parts' time", async () => {
      const asked = fetches("/hls/");
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return fetches("/hls/") === asked;
    });
    assert.deepEqual(problems, []);
    await close();
  });

  test("a browser that plays nothing unasked is given a button for hls too", async () => {
    const { page, problems, close } = await newPage(browser, { viewport: { width: 800, height: 600 } });
    await refusePlay(page);
    await page.goto(`${gateway.url}watch/demo?transport=hls`);
    const tap = page.locator("sluicegate-player").getByRole("button", { name: "Tap to play" });
    await tap.click();
    const { number } = await playing(page, "hls");
    await numberReaches(page, number + 30);
    await tap.waitFor({ state: "hidden" });
    assert.deepEqual(problems, []);
    await close();
  });
});
