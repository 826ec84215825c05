// Shared by the test and the benchmark of moving sessions: a stream behind a simulated link, and continuity of
// playback.

import { displayedFrame, playing } from "./support.mjs";

/** Link rates in bits per second. MJPEG of the stream takes about 2.5 Mbit/s, HLS 0.6 and its small rendition 0.2. */
export const FAST_LINK = 40e6;
export const SLOW_LINK = 0.8e6;
/** Simulated retransmissions: every 4 s nothing passes for 200 ms. */
export const RETRANSMISSIONS = { every: 4000, ms: 200 };
/** Duration of a frame and of an HLS part, in ms. */
export const FRAME_MS = 50;
export const PART_MS = 250;
/** The stream, and a policy that moves up sooner than by default. */
export const CONFIG = `
  [server]
  names = ["gateway.test"]
  [streams.demo]
  source = "test-pattern"
  always-on = true
  encode = { width = 480, height = 270, frame-rate = ${1000 / FRAME_MS}, bitrate = "600k", keyframe-interval = "1s" }
  renditions.mobile = { width = 320, frame-rate = 10, bitrate = "150k" }
  [[clients]]
  match = { client = "kiosk" }
  transport = "hls"
  force = true
  [transports.hls]
  part = "${PART_MS}ms"
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
  const tookMs = Math.round(performance.now() - began);
  const move = await page.evaluate(() => window.moved);
  return { tookMs, firstFrameMs: Math.round(move.tookMs), number: (await displayedFrame(page)).number };
}

/**
 * Records in the page the longest time without a new frame number, how far it went back each time, and how often
 * there was none.
 */
export function recordContinuity(page) {
  return page.evaluate(() => {
    const player = document.querySelector("sluicegate-player");
    const continuity = { number: player.readNumber(), at: performance.now(), longest: 0, steps: [], blank: 0 };
    window.continuity = continuity;
    const check = () => {
      requestAnimationFrame(check);
      const number = player.readNumber();
      const now = performance.now();
      continuity.longest = Math.max(continuity.longest, now - continuity.at);
      if (number === null) continuity.blank++;
      if (number === null || number === continuity.number) return;
      if (number < continuity.number) continuity.steps.push(continuity.number - number);
      continuity.number = number;
      continuity.at = now;
    };
    check();
  });
}
