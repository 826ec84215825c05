// Audio in the player: an audio-only stream plays; a stream with audio has a sound button, whose setting is
// remembered.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway, launch, newPage, overflow, screenshot, until } from "./support.mjs";
import { clip } from "./clips.mjs";

const SINE = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=60"];
const PICTURES = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15:duration=60"];
const AAC = ["-c:a", "aac", "-b:a", "64k"];
const X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "15", "-pix_fmt", "yuv420p"];

describe("sound", { timeout: 240_000 }, () => {
  const gateway = new Gateway({
    config: `
      [streams.radio]
      source = "file:${clip("radio.m4a", [...SINE, ...AAC])}"
      [streams.demo]
      source = "file:${clip("both.mp4", [...PICTURES, ...SINE, ...X264, ...AAC])}"
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

  const stats = (page) => page.evaluate(() => document.querySelector("sluicegate-player").stats);
  /** Waits until one of these transports plays. */
  const plays = (page, ...transports) =>
    page.waitForFunction((wanted) => {
      const { phase, transport } = document.querySelector("sluicegate-player").stats;
      return phase === "playing" && wanted.includes(transport);
    }, transports);
  /** Bytes of audio that the browser decoded for elements that are not muted. */
  const heard = (page) =>
    page.evaluate(() => {
      const videos = [...document.querySelector("sluicegate-player").shadowRoot.querySelectorAll("video")];
      return videos.filter(({ muted, paused }) => !muted && !paused).reduce((sum, video) => sum + video.webkitAudioDecodedByteCount, 0);
    });
  const sounds = async (page, what) => {
    const before = await until(what, () => heard(page));
    await until(`${what} continues`, async () => (await heard(page)) > before);
  };

  for (const transport of ["auto", "mse", "hls"]) {
    test(`an audio-only stream plays on ${transport} and is labelled`, async () => {
      const { page, problems, close } = await newPage(browser, { viewport: { width: 900, height: 700 } });
      await page.goto(`${gateway.url}watch/radio?transport=${transport}`);
      await plays(page, "mse", "hls");
      const player = page.locator("sluicegate-player");
      await player.getByText("Audio only: this stream has no video").waitFor();
      await player.getByRole("button", { name: "Unmute" }).click();
      await sounds(page, "sound");
      // Longer than the timeouts for missing video.
      const { transport: first, reconnects } = await stats(page);
      const began = await player.evaluate((element) => element.shadowRoot.querySelector("video.first").currentTime);
      await page.waitForFunction((least) => document.querySelector("sluicegate-player").shadowRoot.querySelector("video.first").currentTime > least, began + 12);
      const later = await stats(page);
      assert.deepEqual([later.phase, later.transport, later.reconnects], ["playing", first, reconnects]);
      await screenshot(page, `sound-only-${transport}`);
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("turning audio on moves to a transport with audio and is remembered", async (t) => {
    const { page, problems, close } = await newPage(browser, { viewport: { width: 1280, height: 800 } });
    await page.goto(`${gateway.url}watch/demo`);
    await plays(page, "nal");
    const player = page.locator("sluicegate-player");
    const unmute = player.getByRole("button", { name: "Unmute" });
    await unmute.waitFor();
    // It is visible without hovering over the player.
    await page.waitForFunction(() => getComputedStyle(document.querySelector("sluicegate-player").shadowRoot.querySelector(".sound")).opacity === "1");
    await screenshot(page, "sound-muted-1280");
    const clicked = Date.now();
    await unmute.click();
    await plays(page, "mse");
    await sounds(page, "sound after a click");
    t.diagnostic(`heard ${Date.now() - clicked} ms after the click`);
    assert.match(await page.locator("#why").textContent(), /sound is on, and H.264 carries none/);
    await player.getByRole("button", { name: "Mute", exact: true }).waitFor();
    await screenshot(page, "sound-on-1280");

    await page.reload();
    await plays(page, "mse");
    await sounds(page, "sound after a reload");
    assert.match(await page.locator("#why").textContent(), /it carries the sound and has the lowest latency/);
    // The dashboard's dialog has the same player.
    await page.locator("label", { hasText: "HLS" }).click();
    await plays(page, "hls");
    await sounds(page, "sound over hls");

    await player.getByRole("button", { name: "Mute", exact: true }).click();
    await page.reload();
    await plays(page, "hls");
    await unmute.waitFor();
    assert.equal(await heard(page), 0);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a selected transport without audio displays which ones have it", async () => {
    for (const width of [1280, 390]) {
      const { page, problems, close } = await newPage(browser, { viewport: { width, height: 800 } });
      await page.goto(`${gateway.url}watch/demo?transport=mse`);
      await plays(page, "mse");
      const player = page.locator("sluicegate-player");
      await player.getByRole("button", { name: "Unmute" }).click();
      await sounds(page, "sound over mse");
      await page.locator("label", { hasText: "WebCodecs" }).click();
      await plays(page, "nal");
      await player.getByText("WebCodecs has no sound; choose Auto or one of: MSE, HLS").waitFor();
      assert.equal(await overflow(page), 0);
      await screenshot(page, `sound-none-${width}`);
      await page.locator("label", { hasText: "MSE" }).click();
      await plays(page, "mse");
      await sounds(page, "sound once more");
      assert.deepEqual(problems, []);
      await close();
    }
  });
});

describe("a browser that blocks autoplay with audio", { timeout: 120_000 }, () => {
  const gateway = new Gateway({
    config: `[streams.demo]\nsource = "file:${clip("both.mp4", [...PICTURES, ...SINE, ...X264, ...AAC])}"\n`,
  });
  let browser;

  before(async () => {
    await gateway.start();
    browser = await launch(["--autoplay-policy=document-user-activation-required"]);
  });
  after(async () => {
    await browser?.close();
    await gateway.stop();
  });

  test("plays muted, and unmuted after a click, if audio was left on", async () => {
    const { page, problems, close } = await newPage(browser, { viewport: { width: 1000, height: 800 } });
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
