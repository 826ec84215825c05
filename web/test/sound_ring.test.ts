// Tests of the queue in the audio worklet: each sample at its time, within a few milliseconds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SoundRing } from "../src/media/sound_ring";

const RATE = 48_000;
const BLOCK = 128;

/** A chunk whose samples are their own times. */
function chunk(from: number, at: number, length = 1024, rate = RATE) {
  return { channels: [Float32Array.from({ length }, (_, index) => from + index / rate)], rate, at };
}

/** Reads until `until` (s); returns the time of each block with its first sample. */
function play(ring: SoundRing, from: number, until: number, each: (now: number) => void = () => undefined): { now: number; value: number }[] {
  const played = [];
  for (let now = from; now < until; now += BLOCK / RATE) {
    each(now);
    const output = new Float32Array(BLOCK);
    ring.read([output, new Float32Array(BLOCK)], RATE, now);
    played.push({ now, value: output[0] ?? 0 });
  }
  return played;
}

/** Pushes one chunk after the other shortly before its time; the sound of time `t` is due at `t` + `delay(t)`. */
function feeder(ring: SoundRing, delay: (time: number) => number, rate = RATE): (now: number) => void {
  let next = 1;
  return (now) => {
    while (next + delay(next) < now + 0.08) {
      ring.push(chunk(next, next + delay(next), 1024, rate));
      next += 1024 / rate;
    }
  };
}

test("sound is played at its time, and silence before it", () => {
  const ring = new SoundRing();
  const played = play(ring, 0, 3, feeder(ring, () => 0.1));
  for (const { now, value } of played) {
    if (now < 1.1 - BLOCK / RATE) assert.equal(value, 0);
    else assert.ok(Math.abs(now - value - 0.1) < 0.003, `${value} at ${now}`);
  }
});

test("sound at another rate is played at the same speed", () => {
  const ring = new SoundRing();
  const played = play(ring, 0, 3, feeder(ring, () => 0.1, 44_100));
  for (const { now, value } of played.filter(({ now }) => now > 1.2)) assert.ok(Math.abs(now - value - 0.1) < 0.004, `${value} at ${now}`);
});

test("a delay that drifts is followed within 25 ms, without a jump", () => {
  const ring = new SoundRing();
  const drifting = (time: number): number => 0.1 + Math.min(Math.max(time - 2, 0), 10) * 0.008;
  const played = play(ring, 0, 14, feeder(ring, drifting)).filter(({ now }) => now > 1.2);
  for (const [index, { now, value }] of played.entries()) {
    assert.ok(Math.abs(now - value - drifting(value)) < 0.025, `${value} at ${now}`);
    const step = value - (played[index - 1]?.value ?? value - BLOCK / RATE);
    assert.ok(Math.abs(step / (BLOCK / RATE) - 1) < 0.0101, `a step of ${step}`);
  }
});

test("a larger error is corrected at once, by silence or by skipping", () => {
  const ring = new SoundRing();
  const jumping = (time: number): number => (time < 2 ? 0.1 : time < 3 ? 0.2 : 0.1);
  const played = play(ring, 0, 5, feeder(ring, jumping)).filter(({ now }) => now > 1.2);
  const silent = played.filter(({ value }) => value === 0).length * (BLOCK / RATE);
  assert.ok(silent > 0.08 && silent < 0.13, `${silent} s of silence`);
  // The chunk in which the delay changes is played as a whole.
  const changing = (value: number): boolean => value % 1 < 0.022;
  for (const { now, value } of played) if (value !== 0 && !changing(value)) assert.ok(Math.abs(now - value - jumping(value)) < 0.026, `${value} at ${now}`);
});

test("sound that comes too late is left out, and what is kept is bounded", () => {
  const ring = new SoundRing();
  ring.push(chunk(1, 1));
  assert.ok(play(ring, 5, 5.1).every(({ value }) => value === 0));
  for (let nth = 0; nth < 1000; nth++) ring.push(chunk(nth, 10 + nth * (1024 / RATE)));
  const first = play(ring, 0, 40).find(({ value }) => value !== 0);
  assert.ok((first?.now ?? 0) > 10 + 1000 * (1024 / RATE) - 2.1, `${first?.now}`);
});
