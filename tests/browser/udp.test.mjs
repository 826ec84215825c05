// `webcodecs` over WebTransport on networks as they are: packets are lost and overtake each other, UDP is blocked, the
// client's address changes; and a gateway that restarts under a playing page.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { recordContinuity } from "./moving.mjs";
import { frameNumberReaches, playing } from "./support.mjs";
import { gatewayBehindLink } from "./udp_link.mjs";

const RATE = 30;
const GROUP_MS = 500;
/** How long the player waits for a late group (`LATE_MS` in group_order.ts). */
const BUDGET_MS = 200;

describe("webcodecs over UDP", { timeout: 240_000 }, () => {
  const { gateway, link, play } = gatewayBehindLink(
    () => `
      [streams.demo]
      source = "test-pattern"
      always-on = true
      encode = { width = 320, height = 192, frame-rate = ${RATE}, bitrate = "300k", keyframe-interval = "${GROUP_MS}ms" }
    `,
  );
  /** Plays so many further frames. Returns the longest time without a new one, in ms. */
  const continuity = async (page, frames) => {
    await recordContinuity(page);
    const { number } = await page.evaluate(() => window.continuity);
    const { stats } = await frameNumberReaches(page, number + frames);
    const { longest, steps, blank } = await page.evaluate(() => window.continuity);
    assert.deepEqual([steps, blank, stats.phase, stats.reconnects], [[], 0, "playing", 0]);
    return Math.round(longest);
  };

  for (const loss of [0.02, 0.1]) {
    test(`with ${loss * 100} % loss the picture goes on`, async (t) => {
      const { page, problems, sockets } = await play("demo");
      await link.set(`loss ${loss}`, "delay 25");
      const longest = await continuity(page, 5 * RATE);
      t.diagnostic(`longest time without a new frame: ${longest} ms`);
      // Of the newer group something may be lost, too.
      assert.ok(longest < GROUP_MS + BUDGET_MS + 400, `${longest} ms without a new frame`);
      assert.deepEqual([problems, sockets.length], [[], 0]);
    });
  }

  test("packets that overtake others, and a client whose address changes, disturb nothing", async (t) => {
    const { page, problems, sockets } = await play("demo");
    await link.set("reorder 0.1 30");
    t.diagnostic(`reordered: longest time without a new frame: ${await continuity(page, 3 * RATE)} ms`);
    await link.set("reorder 0 0");
    const moving = continuity(page, 4 * RATE);
    for (let nth = 0; nth < 2; nth++) {
      await link.set("rebind");
      const { number } = await playing(page);
      await frameNumberReaches(page, number + RATE);
    }
    const longest = await moving;
    t.diagnostic(`address changed: longest time without a new frame: ${longest} ms`);
    assert.ok(longest < GROUP_MS + BUDGET_MS, `${longest} ms without a new frame`);
    assert.deepEqual([problems, sockets.length], [[], 0]);
  });

  test("where UDP is blocked from the start the WebSocket plays within two seconds, and later at once", async (t) => {
    // The page and its scripts are known to the browser.
    const { page, problems, sockets } = await play("demo");
    await link.set("block on");
    const firstFrame = async () => {
      const began = Date.now();
      await page.goto(`${gateway.url}watch/demo?transport=webcodecs`);
      await playing(page, "webcodecs");
      return Date.now() - began;
    };
    const before = await link.count();
    const first = await firstFrame();
    const tried = await link.count();
    assert.ok(tried.up.dropped > before.up.dropped, "WebTransport was tried");
    const second = await firstFrame();
    t.diagnostic(`first frame ${first} ms after the page was requested, later ${second} ms`);
    // The session that was given up may still send a farewell.
    assert.ok((await link.count()).up.dropped - tried.up.dropped < 5, "WebTransport was not tried again");
    assert.equal(sockets.length, 2);
    assert.ok(first - second < 2000, `${first} and ${second} ms`);
    assert.deepEqual(problems.filter((text) => !text.includes("ERR_QUIC")), []);
  });

  test("where UDP is blocked while it plays the WebSocket goes on within two seconds, without a step back", async (t) => {
    const { page, problems, sockets } = await play("demo");
    const playingOn = continuity(page, 4 * RATE);
    await link.set("block on");
    const longest = await playingOn;
    t.diagnostic(`longest time without a new frame: ${longest} ms`);
    assert.ok(longest > 500 && longest < 2000, `${longest} ms without a new frame`);
    assert.deepEqual([sockets.length, await page.evaluate(() => window.sameDocument)], [1, true]);
    // Open for QUIC again, but that is remembered.
    await link.set("block off");
    await page.reload();
    const { number } = await playing(page, "webcodecs");
    await frameNumberReaches(page, number + 5);
    assert.equal(sockets.length, 2);
    assert.deepEqual(problems.filter((text) => !text.includes("ERR_QUIC")), []);
  });

  test("UDP that is blocked while it plays is not taken for a narrow link, and the page names what carries the frames", async () => {
    const { page } = await play("demo", "");
    const carried = (name) => page.waitForFunction((name) => document.querySelector("sluicegate-player").stats.carrier === name, name);
    await carried("WebTransport");
    assert.equal(await page.locator("#transport-now").textContent(), "WebCodecs over WebTransport");
    await link.set("block on");
    await carried("WebSocket");
    const { number } = await playing(page, "webcodecs");
    // Players report once a second, and the policy looks at 5 s.
    await frameNumberReaches(page, number + 8 * RATE);
    assert.equal(await page.locator("#transport-now").textContent(), "WebCodecs over WebSocket");
    const { sessions } = await (await fetch(`${gateway.url}api/sessions`)).json();
    // Viewers without a session, whose UDP was blocked before, are listed until they time out.
    const moves = sessions.flatMap(({ moves }) => moves ?? []);
    assert.ok(moves.length > 0 && moves.every((count) => count === 0), JSON.stringify(sessions));
  });

  for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`after ${signal} and a restart of the gateway the page comes back over QUIC, with another certificate`, async (t) => {
      const { page, sockets } = await play("demo");
      await gateway.stop(signal);
      await page.waitForFunction(() => ["waiting", "connecting"].includes(document.querySelector("sluicegate-player").stats.phase));
      const before = await link.count();
      const began = Date.now();
      await gateway.start();
      const { number, stats } = await playing(page, "webcodecs");
      t.diagnostic(`plays again ${Date.now() - began} ms after the gateway was started, reconnects: ${stats.reconnects}`);
      await frameNumberReaches(page, number + RATE);
      const { down } = await link.count();
      assert.ok(down.forwarded > before.down.forwarded + RATE, "over the link");
      // Nothing else carries it; a WebSocket was only tried while the gateway was away.
      const { viewers } = await gateway.device();
      assert.deepEqual([viewers, await page.evaluate(() => window.sameDocument)], [1, true], `${sockets}`);
    });
  }
});
