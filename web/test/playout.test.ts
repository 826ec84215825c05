// Tests of when media is played: sound and picture together, soon, and evenly.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Playout } from "../src/transport/playout";
import { seeded } from "./support";

const LATENCY = 20;
/** Milliseconds between frames of video and of audio. */
const VIDEO_MS = 33;
const AUDIO_MS = 21;

/** Delays of video and audio that are decoded this long after their time, over some seconds. */
function run(seconds: number, videoDelay: (at: number) => number, audioDelay: (at: number) => number, playout = new Playout(), from = 0) {
  const arrivals = [
    ...Array.from({ length: (seconds * 1000) / VIDEO_MS }, (_, nth) => ({ kind: "video" as const, time: from + nth * VIDEO_MS })),
    ...Array.from({ length: (seconds * 1000) / AUDIO_MS }, (_, nth) => ({ kind: "audio" as const, time: from + nth * AUDIO_MS })),
  ].map((media) => ({ ...media, now: media.time + (media.kind === "video" ? videoDelay : audioDelay)(media.time - from) }));
  return arrivals
    .sort((one, other) => one.now - other.now)
    .map(({ kind, time, now }) => {
      playout.decoded(kind, time, now);
      return { kind, time, now, delay: playout.dueAt(time, LATENCY, now) - time };
    });
}

test("the slower of the two decides", () => {
  for (const [video, audio, expected] of [[150, 10, 150], [20, 100, 100 + 30 + LATENCY]] as const) {
    const last = run(3, () => video, () => audio).at(-1);
    assert.ok(Math.abs((last?.delay ?? 0) - expected) < 1, `${last?.delay} instead of ${expected}`);
  }
});

test("picture and sound of one time are played together, whatever the jitter", () => {
  const random = seeded(4);
  const played = run(20, () => 40 + random() * 60, () => 10 + random() * 80).filter(({ time }) => time > 3000);
  for (const { time, delay } of played) {
    for (const other of played) {
      if (Math.abs(other.time - time) < 100) assert.ok(Math.abs(other.delay - delay) < 10, `${delay} and ${other.delay} at ${time}`);
    }
  }
  const late = played.filter(({ now, time, delay }) => now > time + delay);
  assert.ok(late.length < played.length / 50, `${late.length} of ${played.length} are late`);
});

test("a burst for a late viewer adds no delay once it is over", () => {
  // The newest two seconds arrive at once.
  const played = run(6, (at) => Math.max(30, 2000 - at), () => 10);
  assert.ok((played.at(-1)?.delay ?? 0) < 160, `${played.at(-1)?.delay}`);
});

test("after a hiccup the delay returns, faster media slowly", () => {
  const playout = new Playout();
  run(3, () => 30, () => 10, playout);
  const hiccup = run(3, (at) => (at > 1000 && at < 1800 ? 1830 - at : 30), () => 10, playout, 3000);
  assert.ok((hiccup.at(-1)?.delay ?? 0) < 400);
  const later = run(60, () => 30, () => 10, playout, 6000);
  assert.ok(Math.abs((later.at(-1)?.delay ?? 0) - 60) < 2, `${later.at(-1)?.delay}`);
  for (const [index, { delay, now }] of later.entries()) {
    const before = later[index - 1];
    if (before !== undefined && before.delay - delay < 100) assert.ok(Math.abs(delay - before.delay) <= Math.max(0.4, (now - before.now) * 0.01), `${before.delay} to ${delay}`);
  }
});
