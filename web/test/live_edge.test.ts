// Tests of `LiveEdge` against a simulated video element and network.

import assert from "node:assert/strict";
import { test } from "node:test";
import { LiveEdge, type Adjustment, type TimeRange } from "../src/transport/live_edge";
import { seeded } from "./support";

/** A simulated video element: plays at its rate, and waits where nothing is buffered. */
class Element {
  at = 0;
  rate = 1;
  waited = 0;
  readonly seeks: number[] = [];
  ranges: TimeRange[] = [];

  play(seconds: number): void {
    const end = this.ranges.find(({ from, to }) => from <= this.at && this.at < to)?.to ?? this.at;
    const next = Math.min(this.at + seconds * this.rate, end);
    this.waited += seconds * this.rate - (next - this.at);
    this.at = next;
  }

  apply(adjustment: Adjustment | null): void {
    if (adjustment?.kind === "seek") {
      this.seeks.push(adjustment.to);
      this.at = adjustment.to;
    } else if (adjustment !== null) {
      this.rate = adjustment.rate;
    }
  }
}

interface Scenario {
  readonly seconds: number;
  readonly frame?: number;
  /** Media time of the first frame, and duration of the backlog when the viewer joins, in seconds. */
  readonly start?: number;
  readonly backlog?: number;
  /** Lateness of the frame at this media time, in seconds. */
  readonly lateness?: (time: number) => number;
  readonly adjustsRate?: boolean;
}

/** Simulates in steps of 5 ms; returns the actions and the distance to the newest frame. */
function play({ seconds, frame = 1 / 30, start = 50_000, backlog = 0.8, lateness: late = () => 0, adjustsRate: adjustsRate = true }: Scenario): { element: Element; behind: number[] } {
  const element = new Element();
  const edge = new LiveEdge({ adjustsRate });
  const behind: number[] = [];
  let next = start;
  let end = start;
  for (let step = 0; step * 0.005 < seconds; step++) {
    const now = step * 5;
    const live = start + backlog + now / 1000;
    element.play(0.005);
    // A frame is captured at its media time, and its fragment has the duration of one frame.
    for (; next <= live - late(next); next += frame) {
      const last = element.ranges.at(-1);
      end = next + frame;
      if (last === undefined || next - last.to > 0.001) element.ranges.push({ from: next, to: end });
      else element.ranges[element.ranges.length - 1] = { from: last.from, to: end };
      edge.arrived(now, last === undefined ? next : Math.max(last.to, next), end);
      element.apply(edge.update(now, element.at, element.ranges));
    }
    if (step % 20 === 0) element.apply(edge.update(now, element.at, element.ranges));
    behind.push(live - element.at);
  }
  return { element, behind };
}

const worst = (values: number[], seconds: number): number => Math.max(...values.slice(-seconds * 200));

test("a viewer that joins in the middle of a group is live after one jump", () => {
  for (const backlog of [0, 0.2, 0.8, 9.9]) {
    const { element, behind } = play({ seconds: 5, backlog });
    assert.equal(element.seeks.length, 1, `${backlog} s of backlog: ${element.seeks}`);
    assert.ok(worst(behind, 4) < 0.2, `${backlog}: ${worst(behind, 4)} s`);
  }
});

test("a backlog that arrives in growing bursts leaves no delay", () => {
  // TCP sends 10 segments, then twice as many each round trip: here 4 frames, 8, 16 and so on.
  for (const roundTrip of [0.03, 0.05, 0.1, 0.2]) {
    const [start, backlog, frame] = [50_000, 2, 1 / 30];
    const lateness = (time: number): number => {
      const round = Math.floor(Math.log2((time - start) / frame / 4 + 1));
      return Math.max(0, round * roundTrip - (time - start - backlog));
    };
    const { element, behind } = play({ seconds: 6, start, backlog, frame, lateness });
    assert.ok(element.seeks.length <= 3, `${roundTrip} s: ${element.seeks}`);
    assert.ok(worst(behind, 4) < 0.3, `${roundTrip} s: ${worst(behind, 4)} s`);
  }
});

test("evenly timed frames are displayed with little delay at any frame rate", () => {
  for (const rate of [60, 30, 15]) {
    const { element, behind } = play({ seconds: 20, frame: 1 / rate });
    assert.ok(worst(behind, 10) < 1 / rate + 0.1, `${rate}/s: ${worst(behind, 10)} s`);
    assert.equal(element.rate, 1);
  }
});

test("the buffer grows with jitter and shrinks when the jitter ends", () => {
  const random = seeded(7);
  const shaky = play({ seconds: 20, lateness: () => 0.15 * random() });
  assert.ok(worst(shaky.behind, 10) < 0.35, `${worst(shaky.behind, 10)} s`);
  const waited = shaky.element.waited;
  const better = play({ seconds: 40, lateness: (time) => (time < 50_015 ? 0.15 * random() : 0) });
  assert.ok(worst(better.behind, 10) < 0.15, `${worst(better.behind, 10)} s`);
  assert.ok(waited < 1, `waited ${waited} s`);
});

test("after settling, constant jitter causes no more stalls", () => {
  const lateness = (time: number): number => ((time * 30) % 7 < 1 ? 0.09 : 0.01);
  const long = play({ seconds: 60, lateness }).element.waited;
  const short = play({ seconds: 10, lateness }).element.waited;
  assert.ok(long - short < 0.001, `${short} s in 10 s, ${long} s in 60 s`);
});

test("one frame per second plays without repeated jumps", () => {
  const { element, behind } = play({ seconds: 60, frame: 1 });
  assert.equal(element.seeks.length, 1);
  assert.ok(worst(behind, 20) < 2.2, `${worst(behind, 20)} s`);
});

test("a network stall of 6 s is followed by one jump", () => {
  const { element, behind } = play({ seconds: 40, lateness: (time) => (time > 50_010 && time < 50_016 ? 50_016 - time : 0) });
  assert.equal(element.seeks.length, 2);
  assert.ok(worst(behind, 2) < 0.3, `${worst(behind, 2)} s`);
});

test("after a pause playback jumps to live once, but not after a short pause", () => {
  for (const [paused, jumps] of [[2, true], [0.1, false]] as const) {
    const edge = new LiveEdge({ adjustsRate: true });
    for (let frame = 0; frame < 300; frame++) edge.arrived(frame * 33, frame / 30, (frame + 1) / 30);
    const [now, spans] = [300 * 33, [{ from: 0, to: 10 }]];
    edge.update(now, 9.8, spans);
    edge.resumed();
    const move = edge.update(now, 9.8 - paused, spans);
    assert.equal(move?.kind === "seek" && move.to > 9.5, jumps);
    // Only once.
    assert.notEqual(edge.update(now + 100, 9.8 - paused, spans)?.kind, "seek");
  }
});

test("a gap in the media is skipped as soon as there is data after it", () => {
  const edge = new LiveEdge({ adjustsRate: true });
  edge.arrived(0, 10, 10.5);
  assert.deepEqual(edge.update(100, 0, [{ from: 10, to: 10.5 }])?.kind, "seek");
  edge.arrived(5000, 15, 15.03);
  const move = edge.update(5000, 10.495, [{ from: 10, to: 10.5 }, { from: 15, to: 15.03 }]);
  assert.ok(move?.kind === "seek" && move.to >= 15 && move.to < 15.03, JSON.stringify(move));
});

test("a silence causes no jumps or rate changes", () => {
  const edge = new LiveEdge({ adjustsRate: true });
  const spans = [{ from: 10, to: 11 }];
  edge.arrived(0, 10, 11);
  edge.update(100, 0, spans);
  for (let now = 1000; now < 60_000; now += 100) {
    const move = edge.update(now, 10.999, spans);
    assert.ok(move === null || (move.kind === "rate" && move.rate === 1), JSON.stringify(move));
  }
});

test("a margin that was too small for decoding grows, and shrinks later", () => {
  const at = (wider: boolean): number => {
    const edge = new LiveEdge({ adjustsRate: true });
    const spans = [{ from: 0, to: 60 }];
    edge.arrived(0, 0, 60);
    if (wider) for (let now = 2000; now < 10_000; now += 1000) edge.underrun(now, 59.7, spans);
    let widest = 0;
    let narrowest = Infinity;
    for (let now = 10_000; now < 400_000; now += 100) {
      const end = 60 + now / 1000;
      edge.arrived(now, end - 0.1, end);
      const move = edge.update(now, 0, [{ from: 0, to: end }]);
      if (move?.kind === "seek") {
        widest = Math.max(widest, end - move.to);
        narrowest = Math.min(narrowest, end - move.to);
      }
    }
    assert.ok(!wider || widest > narrowest + 0.15, `${widest} ${narrowest}`);
    return narrowest;
  };
  assert.ok(Math.abs(at(true) - at(false)) < 0.01);
});

test("without smooth rates only jumps are used, and not in quick succession", () => {
  const { element } = play({ seconds: 60, adjustsRate: false, lateness: (time) => (time > 50_010 && time < 50_016 ? 50_016 - time : 0) });
  assert.equal(element.rate, 1);
  assert.ok(element.seeks.length >= 2 && element.seeks.length <= 3, `${element.seeks}`);
  const edge = new LiveEdge({ adjustsRate: false });
  edge.arrived(0, 0, 20);
  edge.update(100, 0, [{ from: 0, to: 20 }]);
  assert.deepEqual(edge.update(6000, 10, [{ from: 0, to: 20 }]), { kind: "seek", to: 19.25 });
  assert.equal(edge.update(10_000, 10, [{ from: 0, to: 20 }]), null);
  assert.equal(edge.update(11_001, 10, [{ from: 0, to: 20 }])?.kind, "seek");
});
