// Tests of `Session` with fake transports and a fake clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Session, type SessionState } from "../src/player/session";
import { type BuiltInName, LABELS, TRANSPORTS, type TransportName } from "../src/transport/names";
import type { EndKind, DecodedFrame, Sink } from "../src/transport/transport";
import { Timers } from "./support";

/** A session with fake transports and a clock that the test advances. */
class World {
  readonly opened: { name: TransportName; sink: Sink; stopped: boolean }[] = [];
  readonly states: SessionState[] = [];
  readonly session: Session;
  readonly obstacles: Partial<Record<BuiltInName, string>> = {};
  closed = 0;
  displayed = 0;
  readonly #timers = new Timers();

  constructor() {
    const player = (name: TransportName) => ({
      label: LABELS[name as BuiltInName],
      open: (_: URL, sink: Sink) => {
        const transport = { name, sink, stopped: false };
        this.opened.push(transport);
        return { stop: () => (transport.stopped = true) };
      },
      obstacle: () => this.obstacles[name as BuiltInName] ?? null,
    });
    this.session = new Session(
      {
        players: () => new Map(TRANSPORTS.map((name) => [name, player(name)])),
        timer: (callback, ms) => {
          const timer = this.#timers.start(callback, ms);
          return () => this.#timers.stop(timer);
        },
        random: () => 0.5,
        now: () => this.#timers.now,
      },
      {
        frame: () => this.displayed++,
        displayed: () => this.displayed++,
        bytes: () => undefined,
        bandwidthSample: () => undefined,
        queueingDelay: () => undefined,
        dropped: () => undefined,
        changed: (state) => this.states.push(state),
      },
    );
  }

  play(transport: TransportName | "auto" = "auto", path = "/live/demo"): void {
    this.session.select({ base: new URL(path, "http://gateway"), transport });
  }

  get last(): { name: TransportName; sink: Sink; stopped: boolean } {
    const last = this.opened.at(-1);
    assert.ok(last);
    return last;
  }

  get timers(): number {
    return this.#timers.running;
  }

  frame(sink = this.last.sink): void {
    const image = {} as CanvasImageSource;
    const frame: DecodedFrame = { image, width: 2, height: 2, arrivedAt: 0, close: () => this.closed++ };
    sink.frame(frame);
  }

  video(sink = this.last.sink): void {
    sink.displayed({ width: 2, height: 2, at: 0, count: 1, delay: null });
  }

  /** Feeds 25 frames a second to the browser for this many seconds. */
  feed(seconds: number, sink = this.last.sink): void {
    for (let nth = 0; nth < seconds * 25; nth++) {
      sink.fed(1);
      this.advance(40);
    }
  }

  end(kind: EndKind, reason: string = kind): void {
    this.last.sink.ended({ kind, reason });
  }

  advance(ms: number): void {
    this.#timers.advance(ms);
  }
}

test("auto plays the first transport that can play, and lists the obstacles", () => {
  const able = new World();
  able.play();
  able.frame();
  assert.deepEqual([able.session.state.transport, able.session.state.phase, able.session.state.fallback], ["webcodecs", "playing", ""]);

  const unable = new World();
  const against: string[] = [];
  for (const [index, name] of TRANSPORTS.slice(0, -1).entries()) {
    unable.obstacles[name] = `no ${name}`;
    against.push(`no ${name}`);
    unable.play("auto", `/live/${index}`);
    assert.deepEqual([unable.last.name, unable.session.state.fallback], [TRANSPORTS[index + 1], against.join("; ")]);
  }
});

test("a pinned transport that the browser cannot play is replaced", () => {
  const world = new World();
  world.obstacles.hls = "no HLS";
  world.play("hls");
  assert.deepEqual([world.last.name, world.session.state.fallback], ["webcodecs", "no HLS"]);
});

test("an ended connection is retried with growing delays until a success", () => {
  const world = new World();
  world.play();
  for (const wait of [500, 1000, 2000]) {
    world.end("unreachable");
    const before = world.opened.length;
    world.advance(wait - 1);
    assert.equal(world.opened.length, before);
    world.advance(1);
    assert.equal(world.opened.length, before + 1);
  }
  world.frame();
  world.end("draining", "shutting down");
  assert.deepEqual([world.session.state.phase, world.session.state.reason], ["waiting", "shutting down"]);
  world.advance(500);
  assert.equal(world.session.state.phase, "connecting");
  assert.equal(world.session.state.reconnects, 4);
});

test("a replaced transport changes nothing, and its frames are closed", () => {
  const world = new World();
  world.play("nal");
  const old = world.last;
  world.play("mjpeg");
  assert.equal(old.stopped, true);
  world.frame(old.sink);
  old.sink.ended({ kind: "lost", reason: "" });
  assert.deepEqual([world.closed, world.displayed], [1, 0]);
  assert.deepEqual([world.session.state.transport, world.session.state.phase], ["mjpeg", "connecting"]);
});

test("a hidden page disconnects, and a visible one reconnects at once", () => {
  const world = new World();
  world.play();
  world.frame();
  world.session.setVisible(false);
  assert.equal(world.last.stopped, true);
  assert.equal(world.timers, 0);
  assert.equal(world.session.state.phase, "paused");
  world.session.setVisible(true);
  assert.equal(world.opened.length, 2);
  assert.equal(world.session.state.reconnects, 0);
});

test("a hidden page does not retry", () => {
  const world = new World();
  world.play();
  world.end("unreachable");
  world.session.setVisible(false);
  world.advance(60_000);
  assert.equal(world.opened.length, 1);
});

test("a transport that cannot decode the stream is replaced and not retried", () => {
  const world = new World();
  world.play("nal");
  world.obstacles.webcodecs = "cannot decode";
  world.end("unsupported", "cannot decode");
  assert.deepEqual([world.last.name, world.session.state.fallback], ["mse", "cannot decode"]);
  world.end("unsupported", "cannot decode either");
  world.end("unsupported", "no playlist");
  assert.deepEqual([world.last.name, world.session.state.fallback], ["mjpeg", "cannot decode; cannot decode either; no playlist"]);
  world.end("unsupported", "no JPEG");
  assert.equal(world.session.state.phase, "waiting");
  world.advance(500);
  assert.equal(world.last.name, "mjpeg");
});

test("auto tries the next transport after two refusals, a pinned one does not", () => {
  const auto = new World();
  auto.play("auto");
  for (const [name, next] of [["webcodecs", "nal"], ["nal", "mse"], ["mse", "hls"], ["hls", "mjpeg"], ["mjpeg", "mjpeg"]]) {
    auto.end("refused", `${name} blocked`);
    auto.advance(10_000);
    assert.equal(auto.last.name, name);
    auto.end("refused", `${name} blocked`);
    auto.advance(10_000);
    assert.equal(auto.last.name, next);
  }
  assert.equal(auto.session.state.fallback, "webcodecs blocked; nal blocked; mse blocked; hls blocked");

  const pinned = new World();
  pinned.play("mse");
  for (let times = 0; times < 4; times++) {
    pinned.end("refused");
    pinned.advance(10_000);
    assert.equal(pinned.last.name, "mse");
  }
});

test("every transport that displays no video is given up, down to MJPEG", () => {
  const world = new World();
  world.play();
  for (const [name, next] of [["webcodecs", "nal"], ["nal", "mse"], ["mse", "hls"], ["hls", "mjpeg"]] as const) {
    assert.equal(world.last.name, name);
    world.last.sink.bytes(1000);
    world.feed(7.9);
    assert.equal(world.last.name, name);
    world.feed(0.2);
    assert.deepEqual([world.last.name, world.session.state.phase], [next, "connecting"]);
  }
  const shows = (name: string): string => `${name} receives video but displays none`;
  assert.equal(world.session.state.fallback, ["WebCodecs", "H.264", "MSE", "HLS"].map(shows).join("; "));
  // There is no fallback after the last one: the failure is reported, and it is retried.
  world.feed(8.1);
  assert.deepEqual([world.session.state.phase, world.session.state.reason], ["waiting", shows("MJPEG")]);
  world.advance(500);
  assert.equal(world.last.name, "mjpeg");
});

test("a few undisplayed frames are no failure, however long ago they arrived", () => {
  const world = new World();
  world.play("webcodecs");
  for (let nth = 0; nth < 19; nth++) {
    world.last.sink.bytes(100);
    world.last.sink.fed(1);
    world.advance(2000);
  }
  assert.deepEqual([world.opened.length, world.session.state.transport], [1, "webcodecs"]);
  world.last.sink.fed(1);
  assert.equal(world.last.name, "nal");
});

test("a transport that stops displaying is reopened, then given up", () => {
  const world = new World();
  world.play("mse");
  world.feed(10, world.last.sink);
  const { sink } = world.last;
  assert.equal(world.last.name, "webcodecs", "it never displayed any");
  world.frame(sink);
  world.feed(14.9, sink);
  assert.equal(world.opened.length, 2);
  world.feed(0.2, sink);
  assert.deepEqual([world.session.state.phase, world.session.state.reason], ["waiting", "WebCodecs receives video but no longer displays it"]);
  world.advance(500);
  assert.deepEqual([world.last.name, world.opened.length], ["webcodecs", 3]);
  world.feed(8.1);
  assert.equal(world.last.name, "nal");
});

test("waiting for a click is not a failure to display", () => {
  const world = new World();
  world.play("mse");
  world.feed(7);
  world.last.sink.blocked();
  world.feed(20);
  assert.deepEqual([world.session.state.phase, world.opened.length], ["blocked", 1]);
  world.video();
  assert.equal(world.session.state.phase, "playing");
});

test("audio without video counts as playing once it is played", () => {
  const world = new World();
  world.play("mse");
  world.last.sink.audio(true);
  for (let second = 0; second < 20; second++) {
    world.last.sink.bytes(1000);
    world.last.sink.audioPlayed();
    world.feed(1);
  }
  assert.deepEqual([world.session.state.phase, world.session.state.audioOnly, world.opened.length], ["playing", true, 1]);
  world.video();
  assert.deepEqual([world.session.state.phase, world.session.state.audioOnly], ["playing", false]);
  world.end("lost");
  world.advance(500);
  assert.equal(world.session.state.audioOnly, false);
});

test("a transport without data yet is replaced, even if selected", () => {
  const world = new World();
  world.play("hls");
  world.end("unready", "no segment is whole yet");
  assert.deepEqual([world.last.name, world.session.state.fallback], ["webcodecs", "HLS is not ready yet (no segment is whole yet)"]);
});

test("a video element that displays frames counts as playing", () => {
  const world = new World();
  world.play("mse");
  world.video();
  assert.deepEqual([world.session.state.phase, world.displayed], ["playing", 1]);
  const old = world.last;
  world.play("nal");
  world.video(old.sink);
  old.sink.audio(true);
  old.sink.blocked();
  assert.deepEqual([world.session.state.phase, world.session.state.hasAudio, world.displayed], ["connecting", false, 1]);
});

test("a blocked transport has no deadline, and plays after the click", () => {
  const world = new World();
  world.play("hls");
  world.last.sink.bytes(1000);
  world.last.sink.blocked();
  world.advance(120_000);
  assert.deepEqual([world.session.state.phase, world.opened.length], ["blocked", 1]);
  world.video();
  assert.deepEqual([world.session.state.phase, world.session.state.reason], ["playing", ""]);
  world.advance(10_000);
  assert.equal(world.session.state.phase, "silent");
});

test("audio is remembered across a reconnect, but not for another transport", () => {
  const world = new World();
  world.play("mse");
  world.last.sink.audio(true);
  world.video();
  world.end("lost");
  world.advance(500);
  assert.deepEqual([world.opened.length, world.session.state.hasAudio], [2, true]);
  world.play("mjpeg");
  assert.equal(world.session.state.hasAudio, false);
});

test("an unreachable gateway does not make auto give up its first choice", () => {
  const world = new World();
  world.play();
  for (let times = 0; times < 5; times++) {
    world.end("unreachable");
    world.advance(10_000);
  }
  assert.equal(world.last.name, "webcodecs");
});

test("silence is reported after 10 s, and the connection reopened after 30 s", () => {
  const world = new World();
  world.play();
  world.advance(5000);
  world.frame();
  world.advance(9999);
  assert.equal(world.session.state.phase, "playing");
  world.advance(1);
  assert.equal(world.session.state.phase, "silent");
  world.advance(19_999);
  assert.equal(world.opened.length, 1);
  world.advance(1);
  assert.equal(world.opened.length, 2);
  world.frame();
  assert.equal(world.session.state.phase, "playing");
});

test("a frame ends a silence, and the next silence is reported too", () => {
  const world = new World();
  world.play();
  world.frame();
  world.advance(12_000);
  assert.equal(world.session.state.phase, "silent");
  world.frame();
  assert.equal(world.session.state.phase, "playing");
  world.advance(29_000);
  assert.equal(world.session.state.phase, "silent");
  assert.equal(world.opened.length, 1);
});

test("a restored network retries at once", () => {
  const world = new World();
  world.play();
  world.end("unreachable");
  world.session.retryNow();
  assert.equal(world.opened.length, 2);
  world.session.retryNow();
  assert.equal(world.opened.length, 2);
});

test("stop leaves no transport and no timers", () => {
  const world = new World();
  world.play();
  world.frame();
  world.session.stop();
  assert.equal(world.last.stopped, true);
  assert.equal(world.timers, 0);
  assert.equal(world.session.state.phase, "idle");
});

test("selecting the same again does not reconnect", () => {
  const world = new World();
  world.play();
  world.play();
  assert.equal(world.opened.length, 1);
  world.play("auto", "/live/other");
  assert.equal(world.opened.length, 2);
});
