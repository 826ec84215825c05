// The player page plays the demo stream by canvas, and shows what was sent.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway, launch, newPage, numberReaches, picture, playing, screenshot } from "./support.mjs";

describe("watch page", { timeout: 240_000 }, () => {
  const gateway = new Gateway();
  let browser;

  before(async () => {
    await gateway.start();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await gateway.stop();
  });

  for (const transport of ["nal", "mjpeg"]) {
    test(`${transport}: the painted frame number rises with the source, less than a second behind it`, async () => {
      const { page, problems, close } = await newPage(browser);
      await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      // Past the burst that a late viewer gets and a source that has just started.
      const first = await numberReaches(page, (await playing(page, transport)).number + 30);
      const second = await numberReaches(page, first.number + 90);
      // The demo's own; a busy machine leaves numbers out and does not fall behind.
      const rate = 30;

      // The clock row says when a picture was made, so number and clock must have gone on alike.
      const frames = second.number - first.number;
      const seconds = ((second.clock - first.clock + 2 ** 24) % 2 ** 24) / 1000;
      assert.ok(Math.abs(frames - seconds * rate) <= 5 + frames * 0.2, `${frames} frames in ${seconds} s at ${rate}/s`);

      await page.waitForFunction(() => {
        const { latencyKind, latencyMs, framesPerSecond } = document.querySelector("sluicegate-player").stats;
        return latencyKind === "picture" && latencyMs < 1000 && framesPerSecond > 0;
      });
      const { stats } = await picture(page);
      assert.ok(stats.latencyMs > -50, `a picture from the future: ${stats.latencyMs} ms`);
      assert.ok(stats.width > 0 && stats.height > 0 && stats.bitsPerSecond > 0, JSON.stringify(stats));
      assert.ok((await colours(page)) > 8, "the canvas is blank");

      await page.locator("sluicegate-player").getByRole("button", { name: "Stats" }).click();
      await page.locator("sluicegate-player").locator('[data-figure="latency"]', { hasText: "picture latency" }).waitFor();
      await screenshot(page, `watch-${transport}`);
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("both transports show the same pictures: one frame number, one clock", async () => {
    const pages = await Promise.all(["nal", "mjpeg"].map(async (transport) => {
      const made = await newPage(browser, { viewport: { width: 800, height: 600 } });
      await made.page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      await playing(made.page, transport);
      return made;
    }));
    const [nal, mjpeg] = await Promise.all(pages.map(({ page }) => page.evaluate(collect, 3000)));
    const clocks = new Map(mjpeg);
    const common = nal.filter(([number]) => clocks.has(number));
    assert.ok(common.length > 0, `no common picture among ${nal.length} and ${mjpeg.length}`);
    for (const [number, clock] of common) assert.equal(clock, clocks.get(number), `picture ${number}`);
    await Promise.all(pages.map(({ close }) => close()));
  });

  test("the transport is switched in the page, without loading it again", async () => {
    const { page, problems, close } = await newPage(browser);
    await page.goto(`${gateway.url}watch/demo`);
    const before = await playing(page, "nal");
    await page.evaluate(() => (window.sameDocument = true));

    await page.locator("label", { hasText: "MJPEG" }).click();
    await playing(page, "mjpeg");
    await numberReaches(page, before.number + 1);
    assert.equal(new URL(page.url()).searchParams.get("transport"), "mjpeg");

    // By keyboard, as radio buttons go.
    await page.getByRole("radio", { name: "MJPEG" }).focus();
    await page.keyboard.press("ArrowLeft");
    await playing(page, "hls");
    assert.equal(new URL(page.url()).searchParams.get("transport"), "hls");
    assert.equal(await page.evaluate(() => window.sameDocument), true);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a browser without WebCodecs, Media Source Extensions and HLS gets MJPEG, and is told why", async () => {
    const { page, problems, close } = await newPage(browser);
    await page.addInitScript(() => {
      for (const name of ["VideoDecoder", "MediaSource", "WebKitMediaSource"]) Reflect.deleteProperty(window, name);
      HTMLMediaElement.prototype.canPlayType = () => "";
    });
    await page.goto(`${gateway.url}watch/demo`);
    await playing(page, "mjpeg");
    const why = "this browser has no WebCodecs; this browser has no Media Source Extensions; this browser plays no HLS";
    await page.getByText(`MJPEG instead: ${why}`, { exact: false }).first().waitFor();
    assert.deepEqual(problems, []);
    await close();
  });

  test("an unknown stream is named as such, in the gateway's words", async () => {
    const { page, close } = await newPage(browser);
    const answer = page.waitForResponse((response) => response.url().includes("/api/devices/"));
    await page.goto(`${gateway.url}watch/no%20such%20stream`);
    const said = await (await answer).text();
    await page.getByRole("alert").waitFor();
    const shown = await page.getByRole("alert").innerText();
    // Quotes in it come escaped where the answer is JSON.
    const plain = (text) => text.replaceAll("\\", "");
    assert.ok(shown.length > 0 && plain(said).includes(plain(shown)), `shown "${shown}", said ${said}`);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "no such stream");
    await screenshot(page, "watch-unknown");
    await close();
  });

  test("taken out of the page, the element gives its connection back", async () => {
    const { page, close } = await newPage(browser);
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

/** How many different colours the painted picture has, looked at coarsely. */
function colours(page) {
  return page.evaluate(() => {
    const painted = document.querySelector("sluicegate-player").shadowRoot.querySelector("canvas");
    const small = new OffscreenCanvas(64, 36);
    const context = small.getContext("2d");
    context.drawImage(painted, 0, 0, 64, 36);
    const { data } = context.getImageData(0, 0, 64, 36);
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4) seen.add(`${data[at] >> 4},${data[at + 1] >> 4},${data[at + 2] >> 4}`);
    return seen.size;
  });
}

/** In the page: frame numbers and clocks painted within so many ms. */
function collect(ms) {
  return new Promise((resolve) => {
    const player = document.querySelector("sluicegate-player");
    const found = new Map();
    const end = performance.now() + ms;
    const look = () => {
      // Two reads with no picture painted between them: both rows of one picture.
      const number = player.readNumber();
      const clock = player.readClock();
      if (number !== null && clock !== null) found.set(number, clock);
      if (performance.now() < end) requestAnimationFrame(look);
      else resolve([...found]);
    };
    look();
  });
}
