// A stream with intra refresh: a single IDR picture at its beginning, recovery points afterwards. Chromium cannot
// start at a recovery point, so for late viewers every transport except MJPEG has to detect that nothing is
// displayed.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { displayedFrame, until } from "./support.mjs";
import { clip } from "./clips.mjs";

const RATE = 15;

// They wait for what the player notices after some time.
describe("intra refresh", { timeout: 240_000, concurrency: 5 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.demo]
      source = "file:${clip("intra.mp4", [
        ...["-f", "lavfi", "-i", `testsrc2=size=320x180:rate=${RATE}:duration=120`],
        ...["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-x264-params", `intra-refresh=1:keyint=${RATE}:bframes=0`],
      ])}"
      always-on = true
      [transports.hls]
      part = "200ms"
      segment = "1s"
    `,
  });

  before(async () => {
    // Wait until the first IDR picture has left the newest group.
    await until("the source is live", async () => (await gateway.device()).state === "live");
    await (await fetch(`${gateway.url}live/demo/hls/media.m3u8`)).text();
  });

  for (const transport of ["auto", "webcodecs", "nal", "mse", "hls"]) {
    test(`${transport} falls back to MJPEG, and the page displays the reason`, async (t) => {
      const { page, problems, close } = await openPage({ viewport: { width: 1280, height: 800 } });
      const began = Date.now();
      await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      await page.waitForFunction(() => {
        const { phase, transport } = document.querySelector("sluicegate-player").stats;
        return phase === "playing" && transport === "mjpeg";
      });
      t.diagnostic(`${transport}: first frame after ${Date.now() - began} ms`);
      const { stats } = await displayedFrame(page);
      assert.ok(stats.painted > 0 && stats.width === 320, JSON.stringify(stats));
      const why = await page.locator("#fallback").textContent();
      assert.match(why, /^Fell back to MJPEG: .*intra refresh/);
      // It stays at MJPEG: playback continues, and failed transports are not retried in the background.
      const { painted } = stats;
      await page.waitForFunction((least) => document.querySelector("sluicegate-player").stats.painted >= least, painted + 5 * 10);
      assert.equal((await displayedFrame(page)).stats.transport, "mjpeg");
      assert.deepEqual(problems, []);
      await close();
    });
  }
});
