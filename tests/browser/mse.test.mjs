// Fragmented MP4 through Media Source Extensions: output, latency, and cleanup.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { Camera } from "./relay.mjs";
import { gatewayAndBrowser } from "./setup.mjs";
import {
  recordMediaSources,
  onlyManagedMediaSource,
  recordMediaSockets,
  frameNumberReaches,
  displayedFrame,
  playing,
  blockAutoplay,
  measureLatency,
  until,
} from "./support.mjs";

describe("mse", { timeout: 240_000 }, () => {
  const camera = new Camera();
  const { gateway, openPage } = gatewayAndBrowser({
    config: async () => `
      [streams.demo]
      source = "test-pattern"
      encode = { width = 640, height = 360, frame-rate = 30 }
      [streams.small]
      source = "test-pattern"
      encode = { width = 640, height = 360, frame-rate = 30, keyframe-interval = "500ms" }
      [streams.large]
      source = "test-pattern"
      encode = { width = 1280, height = 720, frame-rate = 30, keyframe-interval = "500ms" }
      [streams.audio]
      source = "lavfi:testsrc2=size=640x360:rate=30[out0];sine=frequency=440[out1]"
      [streams.changing]
      source = "${await camera.listen()}"
    `,
  });
  after(() => camera.close());

  test("playback advances with less than 500 ms latency", async (t) => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await page.goto(`${gateway.url}watch/demo?transport=mse`);
    const first = await playing(page, "mse");
    await frameNumberReaches(page, first.number + 60);
    const { median, worst } = await measureLatency(page, 8);
    t.diagnostic(`end-to-end latency over mse: median ${median} ms, worst ${worst} ms`);
    assert.ok(median > 0 && median < 500, `median ${median} ms`);
    const { stats } = await displayedFrame(page);
    assert.ok(stats.framesPerSecond > 15 && stats.bitsPerSecond > 0, JSON.stringify(stats));
    assert.equal(await page.evaluate(() => document.querySelector("sluicegate-player").shadowRoot.querySelector(".frame").dataset.screen), "first");
    assert.deepEqual(problems, []);
    await close();
  });

  test("a change of frame size keeps the connection and the media source", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    const sockets = recordMediaSockets(page);
    await recordMediaSources(page);
    camera.show(`${gateway.url}live/small`);
    await page.goto(`${gateway.url}watch/changing?transport=mse`);
    await playing(page, "mse");
    await page.waitForFunction(() => document.querySelector("sluicegate-player").stats.width === 640);
    for (const [name, width] of [["large", 1280], ["small", 640]]) {
      const before = await displayedFrame(page);
      camera.show(`${gateway.url}live/${name}`);
      await page.waitForFunction((wanted) => document.querySelector("sluicegate-player").stats.width === wanted, width);
      const { clock } = await playing(page, "mse");
      const advanced = await page.waitForFunction((earlier) => {
        const now = document.querySelector("sluicegate-player").readClock();
        return now !== null && (now - earlier + 2 ** 24) % 2 ** 24 > 1000 && (now - earlier + 2 ** 24) % 2 ** 24 < 2 ** 23;
      }, clock);
      assert.ok(await advanced.jsonValue());
      assert.equal(before.stats.reconnects, 0);
    }
    const { stats } = await displayedFrame(page);
    assert.deepEqual([stats.reconnects, stats.phase, sockets.length], [0, "playing", 1]);
    assert.equal(await page.evaluate(() => window.sources.length), 1);
    assert.deepEqual(problems, []);
    await close();
  });

  test("audio is muted initially, and plays on mse and hls when turned on", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await page.goto(`${gateway.url}watch/audio?transport=nal`);
    const player = page.locator("sluicegate-player");
    const shows = (transport) =>
      page.waitForFunction((wanted) => {
        const { phase, transport: now, painted } = document.querySelector("sluicegate-player").stats;
        return phase === "playing" && now === wanted && painted > 0;
      }, transport);
    await shows("nal");
    const unmute = player.getByRole("button", { name: "Unmute" });
    // Displayed although the current transport carries no audio.
    await unmute.waitFor();
    // The two video elements alternate; the hidden one must be muted.
    const decodedAudioBytes = () =>
      player.evaluate(({ shadowRoot }) => {
        const { screen } = shadowRoot.querySelector(".frame").dataset;
        const unmuted = [...shadowRoot.querySelectorAll("video")].filter(({ muted }) => !muted);
        return unmuted.length === 1 && unmuted[0].classList.contains(screen) && unmuted[0].webkitAudioDecodedByteCount;
      });
    for (const transport of ["mse", "hls"]) {
      await page.locator(`input[value="${transport}"]`).evaluate((choice) => choice.click());
      await shows(transport);
      if (transport === "mse") await unmute.click();
      const before = await decodedAudioBytes();
      await until("audio is decoded", async () => (await decodedAudioBytes()) > before);
      await player.getByRole("button", { name: "Mute", exact: true }).waitFor();
    }
    await player.getByRole("button", { name: "Mute", exact: true }).click();
    assert.equal(await player.evaluate(({ muted }) => muted), true);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a removed element leaves no socket and no media source behind", async () => {
    const { page, problems, close } = await openPage();
    const sockets = [];
    page.on("websocket", (socket) => sockets.push(socket));
    await recordMediaSources(page);
    await page.goto(`${gateway.url}watch/demo?transport=mse`);
    await playing(page, "mse");
    await page.evaluate(() => {
      window.player = document.querySelector("sluicegate-player");
      window.player.remove();
    });
    await until("all sockets closed", () => sockets.length > 0 && sockets.every((socket) => socket.isClosed()));
    await page.waitForFunction(() => window.sources.every(({ readyState }) => readyState === "closed"));
    const state = await page.evaluate(() => {
      const video = window.player.shadowRoot.querySelector("video");
      return { phase: window.player.stats.phase, source: video.getAttribute("src"), ready: video.readyState, paused: video.paused };
    });
    assert.deepEqual(state, { phase: "idle", source: null, ready: 0, paused: true });
    await until("no viewer", async () => (await gateway.device()).viewers === 0);
    // It plays again when it is reinserted.
    await page.evaluate(() => document.querySelector(".stage").append(window.player));
    await playing(page, "mse");
    assert.deepEqual(problems, []);
    await close();
  });

  test("ManagedMediaSource is used if there is no other, as on iPhones", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await onlyManagedMediaSource(page);
    await page.goto(`${gateway.url}watch/demo?transport=mse`);
    const { number } = await playing(page, "mse");
    await frameNumberReaches(page, number + 30);
    const video = page.locator("sluicegate-player video.first");
    assert.deepEqual(await video.evaluate(({ disableRemotePlayback, muted, playsInline }) => [disableRemotePlayback, muted, playsInline]), [true, true, true]);
    assert.equal(await page.evaluate(() => window.managed), 1);
    assert.deepEqual(problems, []);
    await close();
  });

  test("mse: a browser that blocks autoplay gets a play button", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await blockAutoplay(page);
    await page.goto(`${gateway.url}watch/demo?transport=mse`);
    const player = page.locator("sluicegate-player");
    const tap = player.getByRole("button", { name: "Tap to play" });
    await tap.waitFor();
    assert.equal(await player.evaluate(({ stats }) => stats.phase), "blocked");
    await tap.click();
    const { number } = await playing(page, "mse");
    await frameNumberReaches(page, number + 30);
    await tap.waitFor({ state: "hidden" });
    // A pause from outside, for example by a headset's key, displays the button again.
    await player.locator("video.first").evaluate((video) => video.pause());
    await tap.click();
    await frameNumberReaches(page, (await playing(page, "mse")).number + 30);
    // It jumps over what it has missed, and keeps away from the live edge for 5 s more if frames came late.
    const began = performance.now();
    let { median } = await measureLatency(page, 3);
    while (median >= 1000 && performance.now() - began < 9000) ({ median } = await measureLatency(page, 1));
    assert.ok(median < 1000, `${median} ms`);
    assert.deepEqual(problems, []);
    await close();
  });

  test("auto plays mse without WebCodecs, and MJPEG without MediaSource", async () => {
    for (const [missing, transport] of [[["VideoDecoder"], "mse"], [["VideoDecoder", "MediaSource", "WebKitMediaSource"], "mjpeg"]]) {
      const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
      await page.addInitScript((names) => {
        for (const name of names) Reflect.deleteProperty(window, name);
      }, missing);
      await page.goto(`${gateway.url}watch/demo`);
      await playing(page, transport);
      await page.locator("#fallback").getByText("this browser does not support WebCodecs").waitFor();
      assert.deepEqual(problems, []);
      await close();
    }
  });
});
