import assert from "node:assert/strict";
import { test } from "node:test";
import { Session, type SessionState } from "../src/player/session";
import type { EndKind, Picture, Sink, TransportName } from "../src/transport/transport";

/** A session in a world without sockets, whose time moves only when told. */
class World {
  readonly opened: { name: TransportName; sink: Sink; stopped: boolean }[] = [];
  readonly states: SessionState[] = [];
  readonly session: Session;
  obstacle: string | null = null;
  closed = 0;
  shown = 0;
  #now = 0;
  #timers: { at: number; callback: () => void }[] = [];

  constructor() {
    const open = (name: TransportName) => (_: URL, sink: Sink) => {
      const transport = { name, sink, stopped: false };
      this.opened.push(transport);
      return { stop: () => (transport.stopped = true) };
    };
    this.session = new Session(
      {
        openers: { nal: open("nal"), mjpeg: open("mjpeg") },
        nalObstacle: () => this.obstacle,
        timer: (callback, ms) => {
          const timer = { at: this.#now + ms, callback };
          this.#timers.push(timer);
          return () => (this.#timers = this.#timers.filter((other) => other !== timer));
        },
        random: () => 0.5,
        now: () => this.#now,
      },
      {
        picture: () => this.shown++,
        bytes: () => undefined,
        dropped: () => undefined,
        changed: (state) => this.states.push(state),
      },
    );
  }

  play(transport: TransportName | "auto" = "auto", path = "/live/demo"): void {
    this.session.want({ base: new URL(path, "http://gateway"), transport });
  }

  get last(): { name: TransportName; sink: Sink; stopped: boolean } {
    const last = this.opened.at(-1);
    assert.ok(last);
    return last;
  }

  get timers(): number {
    return this.#timers.length;
  }

  picture(sink = this.last.sink): void {
    const image = {} as CanvasImageSource;
    const picture: Picture = { image, width: 2, height: 2, arrived: 0, close: () => this.closed++ };
    sink.picture(picture);
  }

  end(kind: EndKind, reason: string = kind): void {
    this.last.sink.ended({ kind, reason });
  }

  advance(ms: number): void {
    const until = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#now = next.at;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      next.callback();
    }
    this.#now = until;
  }
}

test("auto plays nal, and mjpeg with the reason where the browser cannot", () => {
  const able = new World();
  able.play();
  able.picture();
  assert.deepEqual([able.session.state.transport, able.session.state.phase, able.session.state.fallback], ["nal", "playing", ""]);

  const unable = new World();
  unable.obstacle = "no WebCodecs";
  unable.play();
  assert.deepEqual([unable.session.state.transport, unable.session.state.fallback], ["mjpeg", "no WebCodecs"]);
});

test("an ended connection is tried again, later and later, and soon again after a success", () => {
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
  world.picture();
  world.end("draining", "going away");
  assert.deepEqual([world.session.state.phase, world.session.state.reason], ["waiting", "going away"]);
  world.advance(500);
  assert.equal(world.session.state.phase, "connecting");
  assert.equal(world.session.state.reconnects, 4);
});

test("what a given-up transport still delivers is closed and changes nothing", () => {
  const world = new World();
  world.play("nal");
  const old = world.last;
  world.play("mjpeg");
  assert.equal(old.stopped, true);
  world.picture(old.sink);
  old.sink.ended({ kind: "lost", reason: "" });
  assert.deepEqual([world.closed, world.shown], [1, 0]);
  assert.deepEqual([world.session.state.transport, world.session.state.phase], ["mjpeg", "connecting"]);
});

test("hidden gives the connection back, visible takes it up again at once", () => {
  const world = new World();
  world.play();
  world.picture();
  world.session.setVisible(false);
  assert.equal(world.last.stopped, true);
  assert.equal(world.timers, 0);
  assert.equal(world.session.state.phase, "paused");
  world.session.setVisible(true);
  assert.equal(world.opened.length, 2);
  assert.equal(world.session.state.reconnects, 0);
});

test("hidden while waiting, nothing is tried until it is visible", () => {
  const world = new World();
  world.play();
  world.end("unreachable");
  world.session.setVisible(false);
  world.advance(60_000);
  assert.equal(world.opened.length, 1);
});

test("a decoder that cannot play the stream makes way for mjpeg", () => {
  const world = new World();
  world.play("nal");
  world.end("unsupported", "cannot decode");
  assert.deepEqual([world.last.name, world.session.state.fallback], ["mjpeg", "cannot decode"]);
});

test("auto gives up on nal when it is refused twice, a pinned nal does not", () => {
  const auto = new World();
  auto.play("auto");
  auto.end("refused", "blocked");
  auto.advance(500);
  assert.equal(auto.last.name, "nal");
  auto.end("refused", "blocked");
  assert.deepEqual([auto.last.name, auto.session.state.fallback], ["mjpeg", "blocked"]);

  const pinned = new World();
  pinned.play("nal");
  for (let times = 0; times < 4; times++) {
    pinned.end("refused");
    pinned.advance(10_000);
    assert.equal(pinned.last.name, "nal");
  }
});

test("a gateway that is away does not make auto give up on nal", () => {
  const world = new World();
  world.play();
  for (let times = 0; times < 5; times++) {
    world.end("unreachable");
    world.advance(10_000);
  }
  assert.equal(world.last.name, "nal");
});

test("silence is said after 10 s, and the connection made anew after 30 s", () => {
  const world = new World();
  world.play();
  world.advance(5000);
  world.picture();
  world.advance(9999);
  assert.equal(world.session.state.phase, "playing");
  world.advance(1);
  assert.equal(world.session.state.phase, "silent");
  world.advance(19_999);
  assert.equal(world.opened.length, 1);
  world.advance(1);
  assert.equal(world.opened.length, 2);
  world.picture();
  assert.equal(world.session.state.phase, "playing");
});

test("a picture after a silence plays on, and the next silence is noticed too", () => {
  const world = new World();
  world.play();
  world.picture();
  world.advance(12_000);
  assert.equal(world.session.state.phase, "silent");
  world.picture();
  assert.equal(world.session.state.phase, "playing");
  world.advance(29_000);
  assert.equal(world.session.state.phase, "silent");
  assert.equal(world.opened.length, 1);
});

test("a network that is back cuts the wait short", () => {
  const world = new World();
  world.play();
  world.end("unreachable");
  world.session.hurry();
  assert.equal(world.opened.length, 2);
  world.session.hurry();
  assert.equal(world.opened.length, 2);
});

test("stopped, nothing runs on", () => {
  const world = new World();
  world.play();
  world.picture();
  world.session.stop();
  assert.equal(world.last.stopped, true);
  assert.equal(world.timers, 0);
  assert.equal(world.session.state.phase, "idle");
});

test("wanting the same again does not reconnect", () => {
  const world = new World();
  world.play();
  world.play();
  assert.equal(world.opened.length, 1);
  world.play("auto", "/live/other");
  assert.equal(world.opened.length, 2);
});
