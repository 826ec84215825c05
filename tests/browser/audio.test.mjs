// Audio in the player: an audio-only stream plays; a stream with audio has a mute button, whose setting is
// remembered.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { overflow, screenshot, until } from "./support.mjs";
import { clip } from "./clips.mjs";

const SINE = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=60"];
const VIDEO = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15:duration=60"];
const AAC = ["-c:a", "aac", "-b:a", "64k"];
const X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "15", "-pix_fmt", "yuv420p"];

describe("audio", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.radio]
      source = "file:${clip("radio.m4a", [...SINE, ...AAC])}"
      [streams.demo]
      source = "file:${clip("both.mp4", [...VIDEO, ...SINE, ...X264, ...AAC])}"
      [transports.hls]
      part = "200ms"
      segment = "1s"
      # Without webcodecs, which has sound itself.
      [policy]
      near = ["nal", "mse", "mjpeg"]
    `,
  });

  const stats = (page) => page.evaluate(() => document.querySelector("sluicegate-player").stats);
  /** Waits until one of these transports plays. */
  const plays = (page, ...transports) =>
    page.waitForFunction((wanted) => {
      const { phase, transport } = document.querySelector("sluicegate-player").stats;
      return phase === "playing" && wanted.includes(transport);
    }, transports);
  /** Bytes of audio that the browser decoded for elements that are not muted. */
  const decodedAudioBytes = (page) =>
    page.evaluate(() => {
      const videos = [...document.querySelector("sluicegate-player").shadowRoot.querySelectorAll("video")];
      return videos.filter(({ muted, paused }) => !muted && !paused).reduce((sum, video) => sum + video.webkitAudioDecodedByteCount, 0);
    });
  const audioPlays = async (page, what) => {
    const before = await until(what, () => decodedAudioBytes(page));
    await until(`${what} continues`, async () => (await decodedAudioBytes(page)) > before);
  };

  for (const transport of ["auto", "mse", "hls"]) {
    test(`an audio-only stream plays on ${transport} and is labelled`, async () => {
      const { page, problems, close } = await openPage({ viewport: { width: 900, height: 700 } });
      await page.goto(`${gateway.url}watch/radio?transport=${transport}`);
      await plays(page, "mse", "hls");
      const player = page.locator("sluicegate-player");
      await player.getByText("Audio only: this stream has no video").waitFor();
      await player.getByRole("button", { name: "Unmute" }).click();
      await audioPlays(page, "audio");
      // Longer than the timeouts for missing video.
      const { transport: first, reconnects } = await stats(page);
      const began = await player.evaluate((element) => element.shadowRoot.querySelector("video.first").currentTime);
      await page.waitForFunction((least) => document.querySelector("sluicegate-player").shadowRoot.querySelector("video.first").currentTime > least, began + 12);
      const later = await stats(page);
      assert.deepEqual([later.phase, later.transport, later.reconnects], ["playing", first, reconnects]);
      await screenshot(page, `audio-only-${transport}`);
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("turning audio on moves to a transport with audio and is remembered", async (t) => {
    const { page, problems, close } = await openPage({ viewport: { width: 1280, height: 800 } });
    await page.goto(`${gateway.url}watch/demo`);
    await plays(page, "nal");
    const player = page.locator("sluicegate-player");
    const unmute = player.getByRole("button", { name: "Unmute" });
    await unmute.waitFor();
    // It is visible without hovering over the player.
    await page.waitForFunction(() => getComputedStyle(document.querySelector("sluicegate-player").shadowRoot.querySelector(".mute")).opacity === "1");
    await screenshot(page, "audio-muted-1280");
    const clicked = Date.now();
    await unmute.click();
    await plays(page, "mse");
    await audioPlays(page, "audio after a click");
    t.diagnostic(`audible ${Date.now() - clicked} ms after the click`);
    assert.match(await page.locator("#why").textContent(), /sound is on, and H.264 carries none/);
    await player.getByRole("button", { name: "Mute", exact: true }).waitFor();
    await screenshot(page, "audio-on-1280");

    await page.reload();
    await plays(page, "mse");
    await audioPlays(page, "audio after a reload");
    assert.match(await page.locator("#why").textContent(), /it carries the sound and has the lowest latency/);
    // The dashboard's dialog has the same player.
    await page.locator("label", { hasText: "HLS" }).click();
    await plays(page, "hls");
    await audioPlays(page, "audio over hls");

    await player.getByRole("button", { name: "Mute", exact: true }).click();
    await page.reload();
    await plays(page, "hls");
    await unmute.waitFor();
    assert.equal(await decodedAudioBytes(page), 0);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a selected transport without audio displays which ones have it", async () => {
    for (const width of [1280, 390]) {
      const { page, problems, close } = await openPage({ viewport: { width, height: 800 } });
      await page.goto(`${gateway.url}watch/demo?transport=mse`);
      await plays(page, "mse");
      const player = page.locator("sluicegate-player");
      await player.getByRole("button", { name: "Unmute" }).click();
      await audioPlays(page, "audio over mse");
      await page.locator("label", { hasText: "H.264" }).click();
      await plays(page, "nal");
      await player.getByText("H.264 has no sound; choose Auto or one of: WebCodecs, MSE, HLS").waitFor();
      assert.equal(await overflow(page), 0);
      await screenshot(page, `audio-none-${width}`);
      await page.locator("label", { hasText: "MSE" }).click();
      await plays(page, "mse");
      await audioPlays(page, "audio once more");
      assert.deepEqual(problems, []);
      await close();
    }
  });
});

describe("a browser that blocks autoplay with audio", { timeout: 120_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: `[streams.demo]\nsource = "file:${clip("both.mp4", [...VIDEO, ...SINE, ...X264, ...AAC])}"\n[policy]\nnear = ["nal", "mse", "mjpeg"]\n`,
    browserArguments: ["--autoplay-policy=document-user-activation-required"],
  });

  test("plays muted, and unmuted after a click, if audio was left on", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 1000, height: 800 } });
    await page.addInitScript(() => localStorage.setItem("sluicegate-muted", "false"));
    await page.goto(`${gateway.url}watch/demo`);
    await page.waitForFunction(() => {
      const { phase, transport } = document.querySelector("sluicegate-player").stats;
      return phase === "playing" && transport === "mse";
    });
    const muted = () => page.evaluate(() => document.querySelector("sluicegate-player").muted);
    // Chromium allows unmuted autoplay if it does not know at the start that there is audio.
    await page.locator("#name").click();
    await until("it is unmuted", async () => !(await muted()));
    await page.locator("sluicegate-player").getByRole("button", { name: "Mute", exact: true }).waitFor();
    assert.deepEqual(problems, []);
    await close();
  });
});
