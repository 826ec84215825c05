// A session that moves: the policy learns of the link only what a real player reports.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Link } from "./link.mjs";
import { CONFIG, LOSSY, moved, NARROW, PART, PICTURE, watchNumber, WIDE } from "./moving.mjs";
import { Gateway, launch, managedSourcesOnly, newPage, numberReaches, playing, settled, until } from "./support.mjs";

describe("auto", { timeout: 240_000 }, () => {
  const gateway = new Gateway({ config: CONFIG });
  const link = new Link();
  let browser;

  before(async () => {
    await gateway.start();
    await link.start(gateway.url);
    // By a name, as of a machine on the network: without TLS that is no secure context.
    browser = await launch(["--host-resolver-rules=MAP gateway.test 127.0.0.1"]);
  });
  after(async () => {
    await browser?.close();
    link.stop();
    await gateway.stop();
  });

  const session = async () => (await (await fetch(`${gateway.url}api/sessions`)).json()).sessions.at(-1);

  test("a narrow link moves MJPEG to a small HLS, a wide one back, and the picture goes on all the while", async (t) => {
    link.rate = WIDE;
    link.stall = LOSSY;
    const { page, problems, close } = await newPage(browser, { viewport: { width: 900, height: 700 } });
    await page.goto(`${link.url}watch/demo`);
    const { number } = await playing(page, "mjpeg");
    // A wide link on which MJPEG has little to do is not taken for a narrow one.
    await numberReaches(page, number + 200);
    assert.equal((await session()).moves, 0);
    await watchNumber(page);

    const moves = async (rate, transport, rendition) => {
      const { took, picture, number } = await moved(page, link, rate, transport);
      const { median } = await settled(page, 3);
      await numberReaches(page, number + 40);
      const why = await page.locator("#why").textContent();
      const seen = await until("the gateway knows", async () => {
        const seen = await session();
        return seen?.last_move?.to.transport === transport && seen;
      });
      t.diagnostic(`${rate / 1e6} Mbit/s: ${took} ms to the first picture of ${transport}, ${picture} of them from the word on; latency then ${median} ms. ${why}`);
      assert.deepEqual([seen.transport, seen.rendition], [transport, rendition]);
      assert.ok(why.includes(seen.last_move.reason), `${why} ${JSON.stringify(seen)}`);
      return { why, took, latency: median };
    };
    const down = await moves(NARROW, "hls", "mobile");
    assert.match(down.why, /^Moved from MJPEG to HLS \(mobile\) at .*: (frames arrived more than 1 s late|the link carries about .* Mbit\/s, MJPEG needs .* Mbit\/s)\.$/);
    assert.ok(down.took < 15_000, `${down.took} ms`);
    const up = await moves(WIDE, "mjpeg", "");
    assert.match(up.why, /^Moved from HLS \(mobile\) to MJPEG at .*: the link has carried .* Mbit\/s for \d+ s\.$/);

    const { longest, steps, blank } = await page.evaluate(() => window.seen);
    t.diagnostic(`longest time without a new picture: ${Math.round(longest)} ms; steps back: ${steps}`);
    assert.equal(blank, 0, "a frame without a picture");
    // The page was never loaded anew: what was put into it is there.
    assert.ok(longest < 1000, `${longest} ms without a new picture`);
    // HLS begins at a keyframe before its hold-back of three parts. Nothing goes back further than that: pictures of MJPEG are shown at once,
    // and HLS catches up by a tenth while its latency is measured.
    assert.ok(down.latency < 2500, `${down.latency} ms`);
    assert.ok(steps.length <= 2 && steps.every((step) => step * PICTURE <= down.latency + 2 * PART), `steps back by ${steps}, latency ${down.latency} ms`);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a method and a rendition chosen by hand come behind the picture, and are kept for this device", async () => {
    link.rate = WIDE;
    const { page, problems, close } = await newPage(browser, { viewport: { width: 900, height: 700 } });
    const shows = (transport, rendition) =>
      until(`${transport} ${rendition}`, async () => {
        const seen = await session();
        return seen?.transport === transport && seen.rendition === rendition;
      });
    await page.goto(`${link.url}watch/demo`);
    await playing(page, "mjpeg");
    await watchNumber(page);
    await page.locator("label", { hasText: "HLS" }).click();
    await playing(page, "hls");
    await page.locator("#rendition").selectOption("mobile");
    await shows("hls", "mobile");
    assert.match(await page.locator("#why").textContent(), /^Moved from HLS to HLS \(mobile\) at .*: it was chosen by hand\.$/);
    const { blank, longest } = await page.evaluate(() => window.seen);
    assert.equal(blank, 0);
    assert.ok(longest < 1000, `${longest} ms without a new picture`);

    // Without what the address says of it.
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

  test("a page for a client that a rule names is told what the rule says", async () => {
    link.rate = WIDE;
    const { page, problems, close } = await newPage(browser, { viewport: { width: 900, height: 700 } });
    const answered = page.waitForResponse((response) => new URL(response.url()).pathname === "/live/demo");
    await page.goto(`${link.url}watch/demo?client=kiosk&transport=mjpeg`);
    // For anybody else it would be MJPEG, as asked for and as nearest.
    const { transport } = await (await answered).json();
    assert.equal(transport, "hls");
    assert.deepEqual(problems, []);
    await close();
  });

  test("a phone's page moves, too, by plain HTTP and with what an iPhone has of media sources", async (t) => {
    link.rate = WIDE;
    const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true };
    const { page, problems, close } = await newPage(browser, phone);
    await managedSourcesOnly(page);
    await page.addInitScript(() => Reflect.deleteProperty(Navigator.prototype, "connection"));
    const url = new URL("watch/demo", link.url);
    url.hostname = "gateway.test";
    await page.goto(url.href);
    await playing(page, "mjpeg");
    assert.deepEqual(await page.evaluate(() => [isSecureContext, "VideoDecoder" in window, "connection" in navigator]), [false, false, false]);
    await until("the gateway is told of no network", async () => {
      const report = (await session())?.report;
      return report?.frame_rate > 0 && report.network === null;
    });
    await watchNumber(page);
    const { number } = await moved(page, link, NARROW, "hls");
    await numberReaches(page, number + 40);
    assert.ok((await page.evaluate(() => window.managed)) > 0);
    const why = page.locator("#why");
    assert.match(await why.textContent(), /^Moved from MJPEG to HLS \(mobile\) at /);
    const box = await why.boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= phone.viewport.width, JSON.stringify(box));
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), phone.viewport.width);
    const { longest } = await page.evaluate(() => window.seen);
    t.diagnostic(`longest time without a new picture: ${Math.round(longest)} ms`);
    assert.ok(longest < 1000, `${longest} ms without a new picture`);
    assert.deepEqual(problems, []);
    await close();
  });
});
