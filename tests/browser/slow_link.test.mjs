// `webcodecs` over WebTransport on a link that carries half of the stream, beside the WebSocket on the same link.
//
// LINK_SECONDS: how long it plays there; 15 by default. The requirement is about minutes: LINK_SECONDS=180.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Link } from "./link.mjs";
import { recordContinuity } from "./moving.mjs";
import { Camera } from "./relay.mjs";
import { frameNumberReaches, playing, screenshot, until } from "./support.mjs";
import { gatewayBehindLink } from "./udp_link.mjs";

const SECONDS = Number(process.env.LINK_SECONDS ?? 15);
/** Rates of the link and the stream in bits per second, and the queue in front of the link. */
const SLOW_LINK = 5e6;
const HEAVY = 10e6;
const QUEUE_MS = 150;
const FRAME_RATE = 30;

describe("webcodecs on a slow link", { timeout: 120_000 + 1000 * SECONDS }, () => {
  const camera = new Camera();
  const tcp = new Link();
  const { gateway, link, open, play } = gatewayBehindLink(
    async () => `
      [streams.demo]
      source = "test-pattern"
      always-on = true
      encode = { width = 320, height = 192, frame-rate = ${FRAME_RATE}, bitrate = "300k", keyframe-interval = "500ms" }
      [streams.heavy]
      source = "${await camera.listen()}"
      always-on = true
    `,
  );
  before(() => tcp.start(gateway.url));
  after(() => {
    tcp.stop();
    camera.close();
  });

  test("on a link of half the rate the picture is at most 1.5 s old, and does not get older", async (t) => {
    camera.filler = Math.round(HEAVY / 8 / FRAME_RATE);
    camera.show(`${gateway.url}live/demo`);
    const { page, sockets, number } = await play("heavy");
    const twin = await open();
    await twin.page.addInitScript(() => Reflect.deleteProperty(window, "WebTransport"));
    await twin.page.goto(`${tcp.url}watch/heavy?transport=webcodecs`);
    await playing(twin.page, "webcodecs");
    [tcp.rate, tcp.queue] = [SLOW_LINK, QUEUE_MS];
    await link.set(`queue ${QUEUE_MS}`, `rate ${SLOW_LINK}`);
    // Until the queue of the link is full.
    await frameNumberReaches(page, number + 4 * FRAME_RATE);
    await recordContinuity(page);
    const [ages, twins] = await Promise.all([page.evaluate(recordAges, SECONDS), twin.page.evaluate(recordAges, SECONDS)]);
    const { longest, steps } = await page.evaluate(() => window.continuity);
    await screenshot(page, "webtransport-slow-link");
    const tell = (name, ages) => t.diagnostic(`${name}: age of the picture in ms: ${[0, 0.5, 0.95, 1].map((share) => quantile(ages, share)).join(", ")} (minimum, median, p95, maximum)`);
    tell("WebTransport", ages);
    tell("WebSocket", twins);
    t.diagnostic(`longest time without a new frame: ${Math.round(longest)} ms`);
    // A machine that is busy for a moment makes a single picture older, on both carriers.
    assert.ok(quantile(ages, 0.95) <= 1500, `${ages}`);
    const third = Math.floor(ages.length / 3);
    const [first, last] = [quantile(ages.slice(0, third), 0.5), quantile(ages.slice(-third), 0.5)];
    assert.ok(last < first + 200, `${first} ms, later ${last} ms`);
    assert.deepEqual([steps, sockets], [[], []]);
    // What the gateway resets is a gap.
    assert.ok(longest < 2000, `${longest} ms without a new frame`);
    await link.set("rate off");
    await until("a fresh picture", async () => quantile(await page.evaluate(recordAges, 1), 1) < 200);
    assert.equal(sockets.length, 0);
  });
});

/** Runs in the page: ages of the picture in ms, ten a second. */
async function recordAges(seconds) {
  const player = document.querySelector("sluicegate-player");
  const ages = [];
  while (ages.length < 10 * seconds) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    await new Promise(requestAnimationFrame);
    const clock = player.readClock();
    if (clock !== null) ages.push((Date.now() - clock) & 0xffffff);
  }
  return ages;
}

function quantile(values, share) {
  const sorted = [...values].sort((one, other) => one - other);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
}
