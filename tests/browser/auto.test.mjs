// Sessions that move between transports. The link is simulated; the policy learns about it only from the reports of a
// real player.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Link } from "./link.mjs";
import { CONFIG, RETRANSMISSIONS, moved, SLOW_LINK, PART_MS, FRAME_MS, recordContinuity, FAST_LINK } from "./moving.mjs";
import { Gateway, launch, onlyManagedMediaSource, newPage, frameNumberReaches, playing, measureLatency, until } from "./support.mjs";

describe("auto", { timeout: 240_000 }, () => {
  const gateway = new Gateway({ config: CONFIG });
  const link = new Link();
  let browser;

  before(async () => {
    await gateway.start();
    await link.start(gateway.url);
    // A host name, as for a machine on the network: without TLS this is not a secure context.
    browser = await launch(["--host-resolver-rules=MAP gateway.test 127.0.0.1"]);
  });
  after(async () => {
    await browser?.close();
    link.stop();
    await gateway.stop();
  });

  const session = async () => (await (await fetch(`${gateway.url}api/sessions`)).json()).sessions.at(-1);

  test("a slow link moves MJPEG to HLS and a fast one back without interruption", async (t) => {
    link.rate = FAST_LINK;
    link.stall = RETRANSMISSIONS;
    const { page, problems, close } = await newPage(browser, { viewport: { width: 900, height: 700 } });
    await page.goto(`${link.url}watch/demo`);
    const { number } = await playing(page, "mjpeg");
    // A fast link that carries little MJPEG traffic must not be considered slow.
    await frameNumberReaches(page, number + 200);
    assert.equal((await session()).moves, 0);
    await recordContinuity(page);

    const moves = async (rate, transport, rendition) => {
      const { tookMs, firstFrameMs, number } = await moved(page, link, rate, transport);
      const { median } = await measureLatency(page, 3);
      await frameNumberReaches(page, number + 40);
      const why = await page.locator("#why").textContent();
      const reported = await until("the gateway reports the move", async () => {
        const current = await session();
        return current?.last_move?.to.transport === transport && current;
      });
      t.diagnostic(`${rate / 1e6} Mbit/s: ${tookMs} ms to the first frame of ${transport}, ${firstFrameMs} ms of it after the move message; then latency ${median} ms. ${why}`);
      assert.deepEqual([reported.transport, reported.rendition], [transport, rendition]);
      assert.ok(why.includes(reported.last_move.reason), `${why} ${JSON.stringify(reported)}`);
      return { why, tookMs, latency: median };
    };
    const down = await moves(SLOW_LINK, "hls", "mobile");
    assert.match(down.why, /^Moved from MJPEG to HLS \(mobile\) at .*: (frames arrived more than 1 s late|the link carries about .* Mbit\/s, MJPEG needs .* Mbit\/s)\.$/);
    assert.ok(down.tookMs < 15_000, `${down.tookMs} ms`);
    const up = await moves(FAST_LINK, "mjpeg", "");
    assert.match(up.why, /^Moved from HLS \(mobile\) to MJPEG at .*: the link has carried .* Mbit\/s for \d+ s\.$/);

    const { longest, steps, blank } = await page.evaluate(() => window.continuity);
    t.diagnostic(`longest time without a new frame: ${Math.round(longest)} ms; steps back: ${steps}`);
    assert.equal(blank, 0, "the player was blank");
    // The page was not reloaded: what the test put into it is still there.
    assert.ok(longest < 1000, `${longest} ms without a new frame`);
    // HLS starts at a keyframe before its hold-back of three parts, and nothing may go back further than that: MJPEG
    // frames are displayed immediately, and HLS catches up at 1.1 times the speed while its latency is measured.
    assert.ok(down.latency < 2500, `${down.latency} ms`);
    assert.ok(steps.length <= 2 && steps.every((step) => step * FRAME_MS <= down.latency + 2 * PART_MS), `steps back by ${steps}, latency ${down.latency} ms`);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a manual selection switches without interruption and is remembered", async () => {
    link.rate = FAST_LINK;
    const { page, problems, close } = await newPage(browser, { viewport: { width: 900, height: 700 } });
    const shows = (transport, rendition) =>
      until(`${transport} ${rendition}`, async () => {
        const current = await session();
        return current?.transport === transport && current.rendition === rendition;
      });
    await page.goto(`${link.url}watch/demo`);
    await playing(page, "mjpeg");
    await recordContinuity(page);
    await page.locator("label", { hasText: "HLS" }).click();
    await playing(page, "hls");
    await page.locator("#rendition").selectOption("mobile");
    await shows("hls", "mobile");
    assert.match(await page.locator("#why").textContent(), /^Moved from HLS to HLS \(mobile\) at .*: it was selected manually\.$/);
    const { blank, longest } = await page.evaluate(() => window.continuity);
    assert.equal(blank, 0);
    assert.ok(longest < 1000, `${longest} ms without a new frame`);

    // Without the selection in the URL.
    await page.goto(`${link.url}watch/demo`);
    await playing(page, "hls");
    await shows("hls", "mobile");
    await page.locator('input[value="auto"]').evaluate((choice) => choice.click());
    await page.locator("#rendition").selectOption("");
    await shows("mjpeg", "");
    await page.goto(`${link.url}watch/demo`);
    await playing(page, "mjpeg");
    await shows("mjpeg", "");
    assert.deepEqual(problems, []);
    await close();
  });

  test("a client rule decides the transport of its page", async () => {
    link.rate = FAST_LINK;
    const { page, problems, close } = await newPage(browser, { viewport: { width: 900, height: 700 } });
    const choice = page.waitForResponse((response) => new URL(response.url()).pathname === "/live/demo");
    await page.goto(`${link.url}watch/demo?client=kiosk&transport=mjpeg`);
    // For any other client it would be MJPEG, as requested and as `near` prefers.
    const { transport } = await (await choice).json();
    assert.equal(transport, "hls");
    assert.deepEqual(problems, []);
    await close();
  });

  test("a session moves on a phone with plain HTTP and ManagedMediaSource", async (t) => {
    link.rate = FAST_LINK;
    const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true };
    const { page, problems, close } = await newPage(browser, phone);
    await onlyManagedMediaSource(page);
    await page.addInitScript(() => Reflect.deleteProperty(Navigator.prototype, "connection"));
    const url = new URL("watch/demo", link.url);
    url.hostname = "gateway.test";
    await page.goto(url.href);
    await playing(page, "mjpeg");
    assert.deepEqual(await page.evaluate(() => [isSecureContext, "VideoDecoder" in window, "connection" in navigator]), [false, false, false]);
    await until("a report without a network type", async () => {
      const report = (await session())?.report;
      return report?.frame_rate > 0 && report.network === null;
    });
    await recordContinuity(page);
    const { number } = await moved(page, link, SLOW_LINK, "hls");
    await frameNumberReaches(page, number + 40);
    assert.ok((await page.evaluate(() => window.managed)) > 0);
    const why = page.locator("#why");
    assert.match(await why.textContent(), /^Moved from MJPEG to HLS \(mobile\) at /);
    const box = await why.boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= phone.viewport.width, JSON.stringify(box));
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), phone.viewport.width);
    const { longest } = await page.evaluate(() => window.continuity);
    t.diagnostic(`longest time without a new frame: ${Math.round(longest)} ms`);
    assert.ok(longest < 1000, `${longest} ms without a new frame`);
    assert.deepEqual(problems, []);
    await close();
  });
});
