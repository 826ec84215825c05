// Measures how long a session takes to move, for `make bench`: node tests/browser/moves.mjs ROUNDS.
//
// Each round opens a page in a new browser behind a link that becomes slow and then fast again. Prints a JSON list of
// { move, change, picture, longest } in ms: from the change of the link to the first frame of the new transport, the
// part of it after the gateway's `move` message, and the longest time without a new frame.

import { Link } from "./link.mjs";
import { CONFIG, RETRANSMISSIONS, moved, SLOW_LINK, recordContinuity, FAST_LINK } from "./moving.mjs";
import { Gateway, launch, newPage, frameNumberReaches, playing } from "./support.mjs";

const ROUNDS = Number(process.argv[2] ?? 5);
const gateway = new Gateway({ config: CONFIG });
const link = new Link();
const found = [];
try {
  await gateway.start();
  await link.start(gateway.url);
  link.stall = RETRANSMISSIONS;
  for (let round = 0; round < ROUNDS; round++) {
    const browser = await launch();
    link.rate = FAST_LINK;
    const { page } = await newPage(browser, { viewport: { width: 900, height: 700 } });
    await page.goto(`${link.url}watch/demo`);
    const { number } = await playing(page, "mjpeg");
    await frameNumberReaches(page, number + 100);
    await recordContinuity(page);
    for (const [move, rate, transport] of [["down", SLOW_LINK, "hls"], ["up", FAST_LINK, "mjpeg"]]) {
      const { tookMs, firstFrameMs, number } = await moved(page, link, rate, transport);
      await frameNumberReaches(page, number + 40);
      const longest = await page.evaluate(() => {
        const { longest } = window.continuity;
        window.continuity.longest = 0;
        return longest;
      });
      found.push({ move, change: tookMs, picture: firstFrameMs, longest: Math.round(longest) });
    }
    // Limits the wait, as a hanging page would block it.
    await Promise.race([browser.close(), new Promise((resolve) => setTimeout(resolve, 5000))]);
  }
} finally {
  link.stop();
  await gateway.stop();
}
console.log(JSON.stringify(found));
process.exit(0);
