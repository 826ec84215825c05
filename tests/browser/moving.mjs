// What the test and the measurement of moving sessions have in common: a stream behind a link, and how the picture goes on.

import { picture, playing } from "./support.mjs";

/** Bits a second. MJPEG of the stream takes about 2.5 Mbit/s, HLS 0.6 and its small rendition 0.2. */
export const WIDE = 40e6;
export const NARROW = 0.8e6;
/** What is lost on the way is sent again: every 4 s nothing comes for 200 ms. */
export const LOSSY = { every: 4000, ms: 200 };
/** From one picture of the stream to the next, and of a part of HLS, in ms. */
export const PICTURE = 50;
export const PART = 250;
/** The stream, and a policy that looks up sooner than by its own figures. */
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

/** Makes the link carry so much, and waits for the first picture of what the session moves to. All in ms. */
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

/** Notes on the page how long the painted number stood still at most, how far it went back each time, and how often there was none. */
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
