// A source with one keyframe per minute: HLS has no complete segment for that long and reports this; the page falls
// back to another transport.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { clip } from "./clips.mjs";
import { gatewayAndBrowser } from "./setup.mjs";

const RATE = 10;

describe("a group of a minute", { timeout: 120_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.demo]
      source = "file:${clip("minute.mp4", [
        ...["-f", "lavfi", "-i", `testsrc2=size=320x180:rate=${RATE}:duration=120`],
        ...["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", String(60 * RATE), "-keyint_min", String(60 * RATE), "-pix_fmt", "yuv420p"],
        ...["-sc_threshold", "0"],
      ])}"
    `,
  });

  test("a selected HLS without segments falls back, with the gateway's reason", async (t) => {
    const { page, close } = await openPage({ viewport: { width: 900, height: 700 } });
    const began = Date.now();
    const refused = page.waitForResponse((response) => response.url().includes("/hls/") && response.status() === 503);
    await page.goto(`${gateway.url}watch/demo?transport=hls`);
    const reason = (await (await refused).text()).trim();
    await page.waitForFunction(() => {
      const { phase, transport, painted } = document.querySelector("sluicegate-player").stats;
      return phase === "playing" && transport === "webcodecs" && painted > 10;
    });
    t.diagnostic(`${Date.now() - began} ms to the first frame of another transport`);
    const fallback = await page.locator("#fallback").textContent();
    assert.ok(fallback.startsWith("Fell back to WebCodecs: ") && fallback.includes(reason), `${fallback}; the reason is ${reason}`);
    // HLS is not retried in the background.
    await page.waitForFunction(() => document.querySelector("sluicegate-player").stats.painted > 60);
    assert.equal(await page.evaluate(() => document.querySelector("sluicegate-player").stats.transport), "webcodecs");
    await close();
  });
});
