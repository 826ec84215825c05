// Measures end-to-end latency per transport for `make bench`: node tests/browser/latency.mjs SECONDS.
//
// Reads the clock in the frame once a second. Prints a JSON list of { transport, median, worst } in ms, or {
// transport, problem } if it did not play.

import assert from "node:assert/strict";
import { Gateway, launch, newPage, frameNumberReaches, playing, measureLatency } from "./support.mjs";

const SECONDS = Number(process.argv[2] ?? 30);
/** Frames to skip first, for a third of the measuring time, until players have settled behind the live edge. */
const BEFORE = 10 * SECONDS;

const gateway = new Gateway({
  config: `
    [streams.demo]
    source = "test-pattern"
    encode = { width = 640, height = 360, frame-rate = 30 }
    [transports.hls]
    part = "200ms"
  `,
});

/** Measures one transport in a new browser. */
async function watch(transport) {
  const browser = await launch();
  try {
    const { page, problems } = await newPage(browser, { viewport: { width: 800, height: 600 } });
    await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
    const first = await playing(page, transport);
    await frameNumberReaches(page, first.number + BEFORE);
    const found = await measureLatency(page, SECONDS);
    assert.deepEqual(problems, []);
    return found;
  } finally {
    // Limits the wait, as a hanging page would block it.
    await Promise.race([browser.close(), new Promise((resolve) => setTimeout(resolve, 5000))]);
  }
}

const found = [];
try {
  await gateway.start();
  for (const transport of ["webcodecs", "nal", "mse", "hls", "mjpeg"]) {
    try {
      found.push({ transport, ...(await watch(transport)) });
    } catch (error) {
      found.push({ transport, problem: String(error).split("\n")[0] });
    }
  }
} finally {
  await gateway.stop();
}
console.log(JSON.stringify(found));
process.exit(0);
