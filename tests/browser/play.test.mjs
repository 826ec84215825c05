// The player page with the demo stream: output on the canvas, fallback, and error messages.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, displayedFrame, playing, screenshot } from "./support.mjs";

describe("watch page", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser();

  for (const transport of ["webcodecs", "nal", "mjpeg"]) {
    test(`${transport}: the frame number advances with less than 1 s latency`, async () => {
      const { page, problems, close } = await openPage();
      await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      // After the initial burst of the newest group, and the start of the source.
      const first = await frameNumberReaches(page, (await playing(page, transport)).number + 30);
      const second = await frameNumberReaches(page, first.number + 90);
      // Frame rate of the demo stream; a busy machine skips frames but does not fall behind.
      const rate = 30;

      // The clock row is the capture time, so frame number and clock must advance alike.
      const frames = second.number - first.number;
      const seconds = ((second.clock - first.clock + 2 ** 24) % 2 ** 24) / 1000;
      assert.ok(Math.abs(frames - seconds * rate) <= 5 + frames * 0.2, `${frames} frames in ${seconds} s at ${rate}/s`);

      await page.waitForFunction(() => {
        const { latencyKind, latencyMs, framesPerSecond } = document.querySelector("sluicegate-player").stats;
        return latencyKind === "picture" && latencyMs < 1000 && framesPerSecond > 0;
      });
      const { stats } = await displayedFrame(page);
      assert.ok(stats.latencyMs > -50, `the frame is from the future: ${stats.latencyMs} ms`);
      assert.ok(stats.width > 0 && stats.height > 0 && stats.bitsPerSecond > 0, JSON.stringify(stats));
      assert.ok((await colours(page)) > 8, "the canvas is blank");

      await page.locator("sluicegate-player").getByRole("button", { name: "Stats" }).click();
      await page.locator("sluicegate-player").locator('[data-figure="latency"]', { hasText: "end-to-end latency" }).waitFor();
      await screenshot(page, `watch-${transport}`);
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("all three transports display the same frames with the same clock", async () => {
    const pages = await Promise.all(["nal", "mjpeg", "webcodecs"].map(async (transport) => {
      const opened = await openPage({ viewport: { width: 800, height: 600 } });
      await opened.page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      await playing(opened.page, transport);
      return opened;
    }));
    const [nal, ...others] = await Promise.all(pages.map(({ page }) => page.evaluate(collect, 3000)));
    for (const other of others) {
      const clocks = new Map(other);
      const common = nal.filter(([number]) => clocks.has(number));
      assert.ok(common.length > 0, `no common frame among ${nal.length} and ${other.length}`);
      for (const [number, clock] of common) assert.equal(clock, clocks.get(number), `frame ${number}`);
    }
    await Promise.all(pages.map(({ close }) => close()));
  });

  test("the transport is switched without reloading the page", async () => {
    const { page, problems, close } = await openPage();
    await page.goto(`${gateway.url}watch/demo`);
    const before = await playing(page, "webcodecs");
    await page.evaluate(() => (window.sameDocument = true));

    await page.locator("label", { hasText: "MJPEG" }).click();
    await playing(page, "mjpeg");
    await frameNumberReaches(page, before.number + 1);
    assert.equal(new URL(page.url()).searchParams.get("transport"), "mjpeg");

    // By keyboard.
    await page.getByRole("radio", { name: "MJPEG" }).focus();
    await page.keyboard.press("ArrowLeft");
    await playing(page, "hls");
    assert.equal(new URL(page.url()).searchParams.get("transport"), "hls");
    assert.equal(await page.evaluate(() => window.sameDocument), true);
    assert.deepEqual(problems, []);
    await close();
  });

  test("without WebCodecs, MSE and HLS, MJPEG plays and the reason is displayed", async () => {
    const { page, problems, close } = await openPage();
    await page.addInitScript(() => {
      for (const name of ["VideoDecoder", "MediaSource", "WebKitMediaSource"]) Reflect.deleteProperty(window, name);
      HTMLMediaElement.prototype.canPlayType = () => "";
    });
    await page.goto(`${gateway.url}watch/demo`);
    await playing(page, "mjpeg");
    const why = "this browser does not support WebCodecs; this browser does not support Media Source Extensions; this browser does not support HLS";
    await page.getByText(`Fell back to MJPEG: ${why}`, { exact: false }).first().waitFor();
    assert.deepEqual(problems, []);
    await close();
  });

  test("an unknown stream displays the gateway's error message", async () => {
    const { page, close } = await openPage();
    const response = page.waitForResponse((response) => response.url().includes("/api/devices/"));
    await page.goto(`${gateway.url}watch/no%20such%20stream`);
    const body = await (await response).text();
    await page.getByRole("alert").waitFor();
    const message = await page.getByRole("alert").innerText();
    // Quotes are escaped in JSON.
    const plain = (text) => text.replaceAll("\\", "");
    assert.ok(message.length > 0 && plain(body).includes(plain(message)), `"${message}" is not in ${body}`);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "no such stream");
    await screenshot(page, "watch-unknown");
    await close();
  });

  test("a removed element closes its connection", async () => {
    const { page, close } = await openPage();
    await page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(page, "nal");
    const phase = await page.evaluate(() => {
      const player = document.querySelector("sluicegate-player");
      player.remove();
      return player.stats.phase;
    });
    assert.equal(phase, "idle");
    await page.waitForFunction(async () => {
      const devices = await (await fetch("/api/devices")).json();
      return devices.find(({ serial }) => serial === "demo").viewers === 0;
    });
    await close();
  });
});

/** Number of different colours in the displayed frame, at low resolution. */
function colours(page) {
  return page.evaluate(() => {
    const { shadowRoot } = document.querySelector("sluicegate-player");
    const painted = shadowRoot.querySelector(".half canvas") ?? shadowRoot.querySelector("canvas");
    const small = new OffscreenCanvas(64, 36);
    const context = small.getContext("2d");
    context.drawImage(painted, 0, 0, 64, 36);
    const { data } = context.getImageData(0, 0, 64, 36);
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4) seen.add(`${data[at] >> 4},${data[at + 1] >> 4},${data[at + 2] >> 4}`);
    return seen.size;
  });
}

/** Runs in the page: collects the frame numbers and clocks displayed within `ms`. */
function collect(ms) {
  return new Promise((resolve) => {
    const player = document.querySelector("sluicegate-player");
    const found = new Map();
    const end = performance.now() + ms;
    const sample = () => {
      // No frame is drawn between the two reads, so both rows belong to the same frame.
      const number = player.readNumber();
      const clock = player.readClock();
      if (number !== null && clock !== null) found.set(number, clock);
      if (performance.now() < end) requestAnimationFrame(sample);
      else resolve([...found]);
    };
    sample();
  });
}
