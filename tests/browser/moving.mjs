// Shared by the test and the benchmark of moving sessions: a stream behind a simulated link, and continuity of
// playback.

import { picture, playing } from "./support.mjs";

/** Link rates in bits per second. MJPEG of the stream takes about 2.5 Mbit/s, HLS 0.6 and its small rendition 0.2. */
export const WIDE = 40e6;
export const NARROW = 0.8e6;
/** Simulated retransmissions: every 4 s nothing passes for 200 ms. */
export const LOSSY = { every: 4000, ms: 200 };
/** Duration of a frame and of an HLS part, in ms. */
export const PICTURE = 50;
export const PART = 250;
/** The stream, and a policy that moves up sooner than by default. */
export const CONFIG = `
  [server]
  names = ["gateway.test"]
  [streams.demo]
  source = "test-pattern"
  always-on = true
  encode = { width = 480, height = 270, frame-rate = ${1000 / PICTURE}, bitrate = "600k", keyframe-interval = "1s" }
  renditions.mobile = { width = 320, frame-rate = 10, bitrate = "150k" }
  [[clients]]
  match = { client = "kiosk" }
  transport = "hls"
  force = true
  [transports.hls]
  part = "${PART}ms"
  segment = "1s"
  [policy]
  near = ["mjpeg"]
  slow = "4s"
  up-after = "6s"
  dwell = "6s"
`;

/**
 * Changes the rate of the link, and waits for the first frame of the transport that the session moves to. Times in
 * ms.
 */
export async function moved(page, link, rate, transport) {
  await page.evaluate(() => {
    document.querySelector("sluicegate-player").addEventListener("sluicegate-state", ({ detail: { moved } }) => (window.moved = moved));
  });
  const began = performance.now();
  link.rate = rate;
  await playing(page, transport);
  const took = Math.round(performance.now() - began);
  const move = await page.evaluate(() => window.moved);
  return { took, picture: Math.round(move.tookMs), number: (await picture(page)).number };
}

/**
 * Records in the page how long the frame number stood still at most, how far it went back each time, and how often
 * there was none.
 */
export function watchNumber(page) {
  return page.evaluate(() => {
    const player = document.querySelector("sluicegate-player");
    const seen = { number: player.readNumber(), at: performance.now(), longest: 0, steps: [], blank: 0 };
    window.seen = seen;
    const look = () => {
      requestAnimationFrame(look);
      const number = player.readNumber();
      const now = performance.now();
      seen.longest = Math.max(seen.longest, now - seen.at);
      if (number === null) seen.blank++;
      if (number === null || number === seen.number) return;
      if (number < seen.number) seen.steps.push(seen.number - number);
      seen.number = number;
      seen.at = now;
    };
    look();
  });
}
