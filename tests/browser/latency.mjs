// How old the picture is on each transport: node tests/browser/latency.mjs SECONDS. What `make bench` shows of the player.
//
// Read from the clock in the picture, once a second for so long. On standard output is a list of { transport, median, worst }
// in ms, or { transport, problem } where nothing played.

import assert from "node:assert/strict";
import { Gateway, launch, newPage, numberReaches, playing, settled } from "./support.mjs";

const SECONDS = Number(process.argv[2] ?? 30);
/** Pictures that pass before anybody looks, for a third as long: players find their place behind the live edge. */
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

/** One transport in a browser of its own. */
async function watch(transport) {
  const browser = await launch();
  try {
    const { page, problems } = await newPage(browser, { viewport: { width: 800, height: 600 } });
    await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
    const first = await playing(page, transport);
    await numberReaches(page, first.number + BEFORE);
    const found = await settled(page, SECONDS);
    assert.deepEqual(problems, []);
    return found;
  } finally {
    // A page that hangs would hold it back.
    await Promise.race([browser.close(), new Promise((resolve) => setTimeout(resolve, 5000))]);
  }
}

const found = [];
try {
  await gateway.start();
  for (const transport of ["nal", "mse", "hls", "mjpeg"]) {
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
