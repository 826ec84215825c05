// HLS in the player: by hls.js, and by the browser itself if it has no Media Source Extensions; and in an unmodified
// hls.js.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, displayedFrame, playing, blockAutoplay, measureLatency, until } from "./support.mjs";

/** Duration of the low-latency test in seconds. */
const DURATION = 60;
/**
 * Pauses shorter than one frame (ms) are ignored: Chromium was observed to fire `waiting` and `playing` within the
 * same millisecond.
 */
const FRAME_MS = 1000 / 30;

describe("hls", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.demo]
      source = "test-pattern"
      encode = { width = 640, height = 360, frame-rate = 30, keyframe-interval = "1s" }
      [transports.hls]
      part = "200ms"
      segment = "1s"
    `,
  });

  test(`hls.js plays ${DURATION} s at low latency without a stall`, async (t) => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    // Simulates a gateway whose choice this page does not know: the page then plays the multivariant playlist by
    // itself.
    const choice = { transport: "later", rendition: "", base: "/live/demo", session: "/api/sessions/none", reason: "new", pattern: true };
    await page.route(({ pathname }) => pathname === "/live/demo", (route) => route.fulfill({ json: choice }));
    const playlists = new Set();
    page.on("request", (request) => playlists.add(new URL(request.url()).pathname));
    await page.goto(`${gateway.url}watch/demo?transport=hls`);
    // Playback starts with a seek to the live edge.
    const first = await frameNumberReaches(page, (await playing(page, "hls")).number + 30);
    await page.evaluate((frameMs) => {
      window.stalls = [];
      const video = document.querySelector("sluicegate-player").shadowRoot.querySelector("video");
      const began = performance.now();
      const ahead = () => (video.buffered.length > 0 ? video.buffered.end(video.buffered.length - 1) - video.currentTime : 0);
      const record = (name, details) => window.stalls.push({ name, after: performance.now() - began, ahead: ahead(), ...details });
      for (const name of ["stalled", "seeking", "emptied", "error"]) video.addEventListener(name, () => record(name));
      let waits = null;
      video.addEventListener("waiting", () => (waits ??= { since: performance.now(), left: ahead() }));
      video.addEventListener("playing", () => {
        // With at least three frames buffered, media was not missing: the browser had no CPU time to decode.
        const pause = waits === null ? 0 : performance.now() - waits.since;
        if (pause > frameMs && waits.left * 1000 < 3 * frameMs) record("waiting", { pause, left: waits.left });
        waits = null;
      });
      window.waits = () => waits !== null;
    }, FRAME_MS);
    const { median, worst } = await measureLatency(page, DURATION);
    t.diagnostic(`end-to-end latency over hls, parts of 200 ms: median ${median} ms, worst ${worst} ms`);
    await page.waitForFunction(() => !window.waits());
    assert.ok(playlists.has("/live/demo/hls/index.m3u8"), `${[...playlists]}`);
    assert.deepEqual(await page.evaluate(() => window.stalls), []);
    assert.ok(median > 0 && median < 3000, `median ${median} ms`);
    const last = await displayedFrame(page);
    const seconds = ((last.clock - first.clock + 2 ** 24) % 2 ** 24) / 1000;
    assert.ok(seconds > DURATION - 2, `${seconds} s of video in ${DURATION} s`);
    assert.ok(last.number - first.number > seconds * 25, `${last.number - first.number} frames in ${seconds} s`);
    assert.equal(last.stats.reconnects, 0);
    assert.ok(last.stats.bitsPerSecond > 0);
    assert.deepEqual(problems, []);
    await close();
  });

  test("without MSE the browser's native HLS plays, and hls.js is not loaded", async (t) => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await page.addInitScript(() => {
      for (const name of ["MediaSource", "ManagedMediaSource", "WebKitMediaSource"]) Reflect.deleteProperty(window, name);
    });
    const scripts = [];
    page.on("request", (request) => request.resourceType() === "script" && scripts.push(request.url()));
    await page.goto(`${gateway.url}watch/demo?transport=hls`);
    const { number } = await playing(page, "hls");
    await frameNumberReaches(page, number + 60);
    const { median } = await measureLatency(page, 2);
    t.diagnostic(`end-to-end latency of Chromium's native HLS: median ${median} ms`);
    const source = await page.locator("sluicegate-player video.first").getAttribute("src");
    assert.equal(source, `${gateway.url}live/demo/hls/media.m3u8`);
    assert.ok(scripts.every((url) => !url.includes("hls")), `${scripts}`);
    assert.deepEqual(problems, []);
    await close();
  });

  test("hls.js is loaded only if needed, and stops with the element", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    const loaded = [];
    page.on("request", (request) => loaded.push(request.url()));
    const fetches = (text) => loaded.filter((url) => url.includes(text)).length;
    await page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(page, "nal");
    assert.equal(fetches("/assets/hls_js"), 0);
    await page.locator("label", { hasText: "HLS" }).click();
    const { number } = await playing(page, "hls");
    await frameNumberReaches(page, number + 30);
    assert.equal(fetches("/assets/hls_js"), 1);
    await page.evaluate(() => document.querySelector("sluicegate-player").remove());
    await until("no requests for the duration of two parts", async () => {
      const before = fetches("/hls/");
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return fetches("/hls/") === before;
    });
    assert.deepEqual(problems, []);
    await close();
  });

  test("hls: a browser that blocks autoplay gets a play button", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await blockAutoplay(page);
    await page.goto(`${gateway.url}watch/demo?transport=hls`);
    const tap = page.locator("sluicegate-player").getByRole("button", { name: "Tap to play" });
    await tap.click();
    const { number } = await playing(page, "hls");
    await frameNumberReaches(page, number + 30);
    await tap.waitFor({ state: "hidden" });
    assert.deepEqual(problems, []);
    await close();
  });
});

/** Unmodified hls.js, as any other page may use it. */
const STOCK = createRequire(new URL("../../web/package.json", import.meta.url)).resolve("hls.js/dist/hls.js");
/** Duration of each variant in seconds; set HLS_WATCHED for longer manual runs. */
const STOCK_DURATION = Number(process.env.HLS_WATCHED ?? 8);

describe("stock hls.js", { timeout: 240_000 }, () => {
  // One rendition per variant, so that each variant starts a rendition that has never been watched.
  const names = ["start", "manual", "down", "up"];
  const renditions = names.map((name, nth) => `renditions.${name} = { width = ${160 + 32 * nth}, bitrate = "${100 + 50 * nth}k" }`);
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.demo]
      source = "test-pattern"
      always-on = true
      encode = { width = 640, height = 360, frame-rate = 30, bitrate = "1M" }
      ${renditions.join("\n      ")}
    `,
  });

  /**
   * Plays the multivariant playlist. `settings` are for hls.js; `then` runs in the page with hls and a function from
   * level name to level index.
   */
  const play = async (settings, then = "") => {
    const { page, close } = await openPage({ viewport: { width: 320, height: 200 }, bypassCSP: true });
    // Any page of the same origin.
    await page.goto(`${gateway.url}healthz`);
    await page.setContent("<video muted></video>");
    await page.addScriptTag({ path: STOCK });
    await page.evaluate(
      ([settings, then]) => {
        const results = { loads: {}, errors: [], levels: [], stalls: 0, began: null };
        window.results = results;
        const video = document.querySelector("video");
        const { Hls } = window;
        const hls = new Hls(settings);
        const level = (name) => hls.levels.findIndex(({ url }) => url[0].includes(`demo@${name}/`));
        hls.on(Hls.Events.ERROR, (_, data) => {
          // Before playback starts the position is 0, and the distance to the live edge is reported as a hole.
          if (data.details === "bufferSeekOverHole" && results.began === null) return;
          // hls.js reports when it aborts a load of its own, as at a switch of levels on a busy machine.
          if (data.details === "aborted" && !data.fatal) return;
          if (data.details === "bufferStalledError") results.stalls += results.began === null ? 0 : 1;
          else results.errors.push(`${data.details} ${data.fatal} at ${video.currentTime}`);
        });
        hls.on(Hls.Events.FRAG_LOADED, (_, { frag, part }) => {
          const url = (part ?? frag).url;
          results.loads[url] = (results.loads[url] ?? 0) + 1;
        });
        hls.on(Hls.Events.LEVEL_SWITCHED, (_, data) => results.levels.push(hls.levels[data.level].url[0]));
        video.addEventListener("playing", () => (results.began ??= performance.now()));
        video.addEventListener("waiting", () => (results.stalls += results.began === null ? 0 : 1));
        hls.on(Hls.Events.MANIFEST_PARSED, () => {
          void video.play();
          if (then !== "") new Function("hls", "level", "video", then)(hls, level, video);
        });
        hls.attachMedia(video);
        hls.loadSource("/live/demo/hls/index.m3u8");
      },
      [settings, then],
    );
    await page.waitForFunction(() => window.results.began !== null);
    const [at, from] = await page.evaluate(() => [document.querySelector("video").currentTime, performance.now()]);
    await page.waitForFunction((until) => performance.now() > until, from + STOCK_DURATION * 1000, { timeout: 2 * STOCK_DURATION * 1000 });
    const results = await page.evaluate(() => ({ ...window.results, at: document.querySelector("video").currentTime, now: performance.now() }));
    await close();
    return { ...results, played: results.at - at, passed: (results.now - from) / 1000 };
  };

  const checkPlayback = ({ loads, errors, stalls, played, passed, levels }, name) => {
    const maxLoads = Math.max(...Object.values(loads));
    const all = JSON.stringify({ errors, levels, played, passed, maxLoads, stalls });
    assert.deepEqual(errors, [], all);
    // A player that seeks to the live edge at its start plays more media than time passes; one that repeats media
    // plays less.
    assert.ok(played > passed - 1.5, all);
    assert.ok(maxLoads <= 3, all);
    assert.ok(levels.some((url) => url.includes(`demo@${name}/`)), all);
  };

  test("plays idle renditions, and switches manually and automatically", async (t) => {
    const low = { lowLatencyMode: true };
    const manual = "hls.currentLevel = level('start'); setTimeout(() => (hls.nextLevel = level('manual')), 2000);";
    const capped = (from, to) =>
      `hls.startLevel = level('${from}'); hls.loadLevel = level('${from}'); setTimeout(() => { hls.loadLevel = -1; hls.autoLevelCapping = level('${to}'); hls.bandwidthEstimate = 1; }, 2000);`;
    const [start, manualSwitch, down] = await Promise.all([
      play(low, "hls.currentLevel = level('up');"),
      play(low, manual),
      play({ ...low, abrEwmaDefaultEstimate: 5e6 }, capped("manual", "down")),
    ]);
    checkPlayback(start, "up");
    checkPlayback(manualSwitch, "manual");
    checkPlayback(down, "manual");
    for (const [name, { stalls, played, passed }] of Object.entries({ start, manualSwitch, down })) {
      t.diagnostic(`${name}: ${played.toFixed(1)} s of ${passed.toFixed(1)} s, ${stalls} stalls`);
    }
  });
});
