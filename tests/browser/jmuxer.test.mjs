// JMuxer, a third-party player for raw H.264. It plays frames in order of arrival, so it needs a stream without
// B-frames, `?reorder=0`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { clip } from "./clips.mjs";
import { gatewayAndBrowser } from "./setup.mjs";

const RATE = 25;
/** Each frame is brighter than the previous one, modulo this number. */
const CYCLE = 50;
const STEP = 4;
const DARKEST = 20;
/** Number of frames to check. */
const CHECKED_FRAMES = 75;
/** Frames displayed before those: JMuxer displays some of the newest group, then jumps to the live edge. */
const SKIPPED_FRAMES = 12;

const require = createRequire(new URL("../../web/package.json", import.meta.url));

describe("jmuxer", { timeout: 120_000 }, () => {
  const brightness = `lum='${DARKEST}+${STEP}*mod(N,${CYCLE})':cb=128:cr=128`;
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.demo]
      source = "file:${clip("b-frames.mp4", [
        ...["-f", "lavfi", "-i", `nullsrc=size=160x96:rate=${RATE}:duration=40,geq=${brightness}`],
        ...["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", String(RATE), "-pix_fmt", "yuv420p", "-x264-params", "b-adapt=0:scenecut=0"],
      ])}"
    `,
  });

  test("with reorder=0, a stream with B-frames plays completely and in order", async (t) => {
    // The script is not part of the gateway's page.
    const { page, problems, close } = await openPage({ viewport: { width: 640, height: 480 }, bypassCSP: true });
    await page.goto(gateway.url);
    await page.addScriptTag({ content: readFileSync(require.resolve("jmuxer/dist/jmuxer.min.js"), "utf8") });
    const result = await page.evaluate(watch, { query: "?reorder=0", RATE, CYCLE, STEP, DARKEST, CHECKED_FRAMES, SKIPPED_FRAMES });
    t.diagnostic(`${result.displayed.length} frames displayed of ${result.fed} fed, ${result.missed} missed, ${result.back} back in time`);
    assert.ok(result.displayed.length >= CHECKED_FRAMES);
    assert.equal(result.back, 0, `${result.displayed}`);
    // A busy page skips some frames; B-frames would cost a third of them.
    assert.ok(result.missed <= CHECKED_FRAMES / 10, `${result.missed} of ${CHECKED_FRAMES}: ${result.displayed}`);
    assert.deepEqual(problems, []);
    await close();
  });

  test("an invalid value of reorder is refused with an error message", async () => {
    const response = await fetch(`${gateway.url}live/demo/nal?reorder=no`);
    assert.equal(response.status, 400);
    assert.match(await response.text(), /`reorder=no` is not valid: write 0/);
  });
});

/**
 * Runs in the page: plays with JMuxer until enough frames were seen, and returns their numbers, and how many were
 * missing or out of order.
 */
async function watch({ query, RATE, CYCLE, STEP, DARKEST, CHECKED_FRAMES, SKIPPED_FRAMES }) {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const muxer = new window.JMuxer({ node: video, mode: "video", fps: RATE, flushingTime: 0, clearBuffer: true });
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/live/demo/nal${query}`);
  socket.binaryType = "arraybuffer";
  let fed = 0;
  socket.onmessage = ({ data }) => {
    fed++;
    muxer.feed({ video: new Uint8Array(data), duration: 1000 / RATE });
  };
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const displayed = [];
  await new Promise((resolve) => {
    const frame = () => {
      context.drawImage(video, 0, 0, 1, 1);
      // Limited range: 16 to 235 becomes 0 to 255.
      const [red] = context.getImageData(0, 0, 1, 1).data;
      displayed.push(Math.round(((red * 219) / 255 + 16 - DARKEST) / STEP));
      if (displayed.length < CHECKED_FRAMES + SKIPPED_FRAMES) video.requestVideoFrameCallback(frame);
      else resolve();
    };
    video.requestVideoFrameCallback(frame);
    video.play();
  });
  socket.close();
  muxer.destroy();
  video.remove();
  // Number of missing frames between neighbours; more than half a cycle is a step back.
  const live = displayed.slice(SKIPPED_FRAMES);
  const steps = live.slice(1).map((next, at) => (next - live[at] + 2 * CYCLE) % CYCLE);
  const ahead = steps.filter((step) => step <= CYCLE / 2);
  return { displayed, fed, missed: ahead.reduce((sum, step) => sum + Math.max(0, step - 1), 0), back: steps.length - ahead.length };
}
