// Tests of the director with fake sessions: choices, moves, and loss of the control channel.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Choice } from "../src/net/choice";
import type { ControlEvents } from "../src/net/control";
import { Director, type DirectorState, type StageName } from "../src/player/director";
import { Session, type SessionSink } from "../src/player/session";
import { StallMeter } from "../src/player/stall_meter";
import { type BuiltInName, LABELS, TRANSPORTS, type TransportName } from "../src/transport/names";
import type { Sink } from "../src/transport/transport";
import { Timers, settled } from "./support";

const BASE = new URL("http://gateway/live/demo");

/** A director with two fake sessions, and a gateway whose responses the test decides. */
class World {
  readonly opened: { stage: StageName; name: TransportName; base: string; only: boolean; sink: Sink; stopped: boolean }[] = [];
  readonly log: string[] = [];
  readonly states: DirectorState[] = [];
  readonly prepared = new Set<TransportName>();
  readonly director: Director;
  displayed = 0;
  swapped: StageName = "first";
  events: ControlEvents | null = null;
  responds = true;
  names: readonly TransportName[] = TRANSPORTS;
  choice: Choice | Error = new Error("no such thing");
  readonly #timers = new Timers();

  constructor() {
    const timer = (callback: () => void, ms: number): (() => void) => {
      const timer = this.#timers.start(callback, ms);
      return () => this.#timers.stop(timer);
    };
    const session = (stage: StageName, sink: SessionSink): Session => {
      const player = (name: TransportName) => ({
        label: name.toUpperCase(),
        open: (base: URL, own: Sink, only: boolean) => {
          const transport = { stage, name, base: base.pathname, only, sink: own, stopped: false };
          this.opened.push(transport);
          return { stop: () => (transport.stopped = true), throttle: (throttled: boolean) => this.log.push(`${name} throttle ${throttled}`) };
        },
        obstacle: () => null,
      });
      const players = () => new Map(this.names.map((name) => [name, player(name)]));
      return new Session({ players, timer, random: () => 0.5, now: () => this.#timers.now }, sink);
    };
    this.director = new Director(
      {
        session,
        names: () => this.names,
        label: (name) => LABELS[name as BuiltInName],
        obstacle: () => null,
        network: () => "wifi",
        prepare: (name) => this.prepared.add(name),
        choose: async (_, { transport, rendition, listening }) => {
          this.log.push(`choose ${transport} ${rendition}${listening ? " listening" : ""}`);
          if (!this.responds) return new Promise<never>(() => undefined);
          if (this.choice instanceof Error) throw this.choice;
          return this.choice;
        },
        openControl: (url, events) => {
          this.log.push(`control ${url.pathname}`);
          this.events = events;
          return {
            report: ({ goodput, queued_ms, listening }) => this.log.push(`report ${goodput} ${queued_ms}${listening ? " listening" : ""}`),
            playing: (target) => this.log.push(`playing ${target.transport}@${target.rendition}`),
            failed: (target) => this.log.push(`failed ${target.transport}@${target.rendition}`),
            pin: (target) => this.log.push(`pin ${JSON.stringify(target)}`),
            close: () => this.log.push("close"),
          };
        },
        timer,
        now: () => this.#timers.now,
      },
      {
        frame: () => this.displayed++,
        displayed: () => this.displayed++,
        bytes: () => undefined,
        dropped: () => undefined,
        changed: (state) => this.states.push(state),
        swapped: (stage) => (this.swapped = stage),
        choices: () => undefined,
      },
    );
  }

  /** Selects the stream; the gateway responds with this choice. */
  async play(transport: string | Error = "mjpeg", wanted: TransportName | "auto" = "auto"): Promise<void> {
    this.choice =
      transport instanceof Error
        ? transport
        : { transport, rendition: "", base: BASE, session: new URL("/api/sessions/1", BASE), reason: "soonest", pattern: true, webTransport: null, ticket: null };
    this.director.select({ base: BASE, transport: wanted, rendition: null });
    await settled();
  }

  move(transport: string, rendition = "", makesWay = false): void {
    const base = new URL(rendition === "" ? "/live/demo" : `/live/demo@${rendition}`, BASE);
    this.events?.move({ transport, rendition, base, reason: "narrow", timeoutMs: 5000, makesWay });
  }

  frame(nth = -1): void {
    this.opened.at(nth)?.sink.displayed({ width: 2, height: 2, at: 0, count: 1, delay: null });
  }

  advance(ms: number): void {
    this.#timers.advance(ms);
  }

  get timers(): number {
    return this.#timers.running;
  }

  get open(): string[] {
    return this.opened.filter(({ stopped }) => !stopped).map(({ stage, name, base }) => `${stage} ${name} ${base}`);
  }
}

test("the gateway's choice is played and reported back", async () => {
  const world = new World();
  await world.play("hls");
  assert.deepEqual(world.open, ["first hls /live/demo"]);
  world.frame();
  assert.deepEqual(world.log, ["choose null null", "control /api/sessions/1", "playing hls@"]);
  assert.deepEqual([world.director.state.transport, world.director.state.why], ["hls", "soonest"]);
  world.director.stop();
  assert.deepEqual([world.open, world.log.at(-1)], [[], "close"]);
});

test("without a choice from the gateway, the browser chooses", async () => {
  const world = new World();
  await world.play(new Error("404"));
  assert.deepEqual([world.open, world.director.state.why], [["first webcodecs /live/demo"], ""]);
  assert.equal(world.opened.at(-1)?.only, false);
  await world.play("unknown-to-us", "mse");
  assert.deepEqual(world.open, ["first mse /live/demo"]);
});

test("a transport that became known after the session began is moved to in a new session", async () => {
  const world = new World();
  await world.play("nal", "nal");
  world.frame();
  const offered = (transport: string) => ({ transport, rendition: "", width: 0, height: 0, bandwidth: 0, hasAudio: false });
  world.events?.choices({ candidates: [offered("nal"), offered("mse")], forced: false, hasAudio: false });
  world.names = [...TRANSPORTS, "canvas"];
  world.log.length = 0;
  world.choice = { ...(world.choice as Choice), transport: "canvas", session: new URL("/api/sessions/2", BASE) };
  world.director.select({ base: BASE, transport: "canvas", rendition: null });
  await settled();
  assert.deepEqual(world.log, ["choose canvas null", "close", "control /api/sessions/2", "playing nal@", 'pin {"transport":"canvas"}']);
  assert.deepEqual(world.open, ["first nal /live/demo"]);
  world.events?.choices({ candidates: [offered("nal"), offered("canvas")], forced: false, hasAudio: false });
  world.move("canvas");
  assert.deepEqual(world.open, ["first nal /live/demo", "second canvas /live/demo"]);
  world.frame();
  assert.deepEqual(world.open, ["second canvas /live/demo"]);
  // What the session offers is asked of it.
  world.log.length = 0;
  world.director.select({ base: BASE, transport: "nal", rendition: null });
  assert.deepEqual(world.log, ['pin {"transport":"nal"}']);
});

test("a move plays hidden until its first frame, then takes over", async () => {
  const world = new World();
  await world.play();
  world.frame();
  world.move("hls", "mobile");
  assert.deepEqual(world.open, ["first mjpeg /live/demo", "second hls /live/demo@mobile"]);
  world.frame(-2);
  assert.equal(world.displayed, 2);
  assert.equal(world.director.state.transport, "mjpeg");
  world.advance(700);
  world.frame();
  assert.deepEqual([world.open, world.swapped, world.displayed], [["second hls /live/demo@mobile"], "second", 3]);
  const { transport, rendition, why, moved } = world.director.state;
  assert.deepEqual([transport, rendition, why, moved?.tookMs, moved?.from.transport], ["hls", "mobile", "narrow", 700, "mjpeg"]);
  assert.equal(world.log.at(-1), "playing hls@mobile");
  // And back, on the other stage.
  world.move("mjpeg");
  world.frame();
  assert.deepEqual([world.open, world.swapped], [["first mjpeg /live/demo"], "first"]);
});

test("a move that ends or has no frame in time is cancelled and reported", async () => {
  const world = new World();
  await world.play();
  world.frame();
  world.move("hls");
  world.advance(4999);
  assert.equal(world.open.length, 2);
  world.advance(1);
  assert.deepEqual([world.open, world.log.at(-1)], [["first mjpeg /live/demo"], "failed hls@"]);
  world.move("hls");
  world.opened.at(-1)?.sink.ended({ kind: "refused", reason: "no" });
  assert.deepEqual([world.open, world.log.at(-1)], [["first mjpeg /live/demo"], "failed hls@"]);
  world.move("webrtc");
  assert.deepEqual([world.open.length, world.log.at(-1)], [1, "failed webrtc@"]);
});

test("a transport that makes way is throttled until the move completes or fails", async () => {
  const world = new World();
  await world.play("hls");
  world.frame();
  world.move("hls", "mobile", true);
  assert.equal(world.log.at(-1), "hls throttle true");
  assert.equal(world.opened.at(-1)?.only, true);
  world.advance(5000);
  assert.deepEqual(world.log.slice(-2), ["hls throttle false", "failed hls@mobile"]);
  world.move("hls", "mobile", true);
  world.frame();
  assert.deepEqual(world.log.slice(-2), ["hls throttle true", "playing hls@mobile"]);
  world.move("mjpeg");
  assert.ok(!world.log.slice(-1).includes("hls throttle true"));
});

test("offered transports are preloaded once something plays, unless pinned", async () => {
  const candidates = ["hls", "mjpeg", "webrtc"].map((transport) => ({ transport, rendition: "", width: 0, height: 0, bandwidth: 0, hasAudio: false }));
  const world = new World();
  await world.play();
  world.events?.choices({ candidates, forced: false, hasAudio: false });
  assert.deepEqual([...world.prepared], []);
  world.frame();
  assert.deepEqual([...world.prepared], ["hls", "mjpeg"]);
  const pinned = new World();
  await pinned.play("mjpeg", "mjpeg");
  pinned.frame();
  pinned.events?.choices({ candidates, forced: false, hasAudio: false });
  assert.deepEqual([...pinned.prepared], []);
});

test("a selection during playback is a pin; otherwise a new choice is requested", async () => {
  const world = new World();
  await world.play();
  const choose = (transport: TransportName | "auto", rendition: string | null): void =>
    world.director.select({ base: BASE, transport, rendition });
  world.frame();
  choose("hls", null);
  assert.equal(world.log.at(-1), 'pin {"transport":"hls"}');
  world.move("hls");
  assert.deepEqual(world.open, ["first mjpeg /live/demo", "second hls /live/demo"]);
  world.frame();
  choose("hls", "mobile");
  assert.equal(world.log.at(-1), 'pin {"transport":"hls","rendition":"mobile"}');
  choose("auto", null);
  assert.equal(world.log.at(-1), "pin null");
  choose("nal", null);
  world.events?.refused("no");
  await settled();
  assert.ok(world.log.includes("choose nal null"), `${world.log}`);
  const early = new World();
  await early.play();
  early.director.select({ base: BASE, transport: "hls", rendition: null });
  assert.equal(early.log.at(-1), "choose hls null");
});

test("a move back cancels the current one, and another move replaces it", async () => {
  const world = new World();
  await world.play();
  world.frame();
  world.move("hls");
  world.move("hls", "mobile");
  assert.deepEqual(world.open, ["first mjpeg /live/demo", "second hls /live/demo@mobile"]);
  world.move("mjpeg");
  assert.deepEqual(world.open, ["first mjpeg /live/demo"]);
  world.advance(10_000);
  assert.ok(!world.log.some((text) => text.startsWith("failed")));
});

test("a selection that was not carried out is repeated in the next session", async () => {
  const world = new World();
  await world.play("nal");
  world.frame();
  const pins = (): number => world.log.filter((text) => text === 'pin {"transport":"hls"}').length;
  world.director.select({ base: BASE, transport: "hls", rendition: null });
  assert.equal(pins(), 1);
  // The gateway is down, so the session of the channel is lost.
  world.events?.lost();
  world.advance(5000);
  await settled();
  assert.deepEqual(world.log.slice(-4), ["choose hls null", "control /api/sessions/1", "playing nal@", 'pin {"transport":"hls"}']);
  world.director.setVisible(false);
  world.move("hls");
  world.director.setVisible(true);
  assert.equal(pins(), 3);
  world.move("hls");
  world.frame();
  assert.deepEqual(world.open, ["first hls /live/demo"]);
  world.director.setVisible(false);
  world.director.setVisible(true);
  assert.equal(pins(), 3, "it plays");
  const forced = new World();
  await forced.play("nal", "hls");
  forced.frame();
  forced.events?.choices({ candidates: [], forced: true, hasAudio: false });
  forced.director.setVisible(false);
  forced.director.setVisible(true);
  assert.ok(!forced.log.some((text) => text.startsWith("pin")), "it would be refused");
});

test("a gateway that accepts the request but never responds is not awaited", async () => {
  const world = new World();
  world.responds = false;
  await world.play("hls");
  world.advance(14_999);
  await settled();
  assert.deepEqual(world.open, []);
  world.advance(1);
  await settled();
  assert.deepEqual(world.open, ["first webcodecs /live/demo"]);
  world.director.stop();
  assert.equal(world.timers, 0);

  const later = new World();
  await later.play("hls");
  later.frame();
  later.events?.lost();
  later.responds = false;
  later.advance(5000);
  later.advance(15_000);
  await settled();
  later.responds = true;
  later.advance(10_000);
  await settled();
  assert.equal(later.log.at(-1), "playing hls@");
});

test("a hidden page ignores moves, and a visible one resumes what it played", async () => {
  const world = new World();
  await world.play();
  world.frame();
  world.move("hls");
  world.director.setVisible(false);
  assert.deepEqual(world.open, []);
  world.move("hls");
  world.director.setVisible(true);
  assert.deepEqual(world.open, ["first mjpeg /live/demo"]);
});

test("a transport without a frame at the start is reported and replaced", async () => {
  const world = new World();
  await world.play("nal");
  world.advance(8000);
  assert.equal(world.log.at(-1), "failed nal@");
  world.move("mjpeg");
  assert.deepEqual(world.open, ["first mjpeg /live/demo"]);
  const unable = new World();
  await unable.play("webcodecs");
  unable.opened.at(-1)?.sink.ended({ kind: "unsupported", reason: "no" });
  assert.deepEqual([unable.log.at(-1), unable.open], ["failed webcodecs@", ["first nal /live/demo"]]);
  unable.frame();
  assert.equal(unable.log.at(-1), "playing nal@");
  const refused = new World();
  await refused.play("hls");
  refused.opened.at(-1)?.sink.ended({ kind: "refused", reason: "no" });
  assert.equal(refused.log.at(-1), "failed hls@");
});

test("throughput is reported only if enough data arrived", async () => {
  const world = new World();
  await world.play();
  const figures = { received: 0, buffered_ms: null, stalled_ms: 0, frames_dropped: 0, frame_rate: 0, visible: true, view_width: 0, view_height: 0 };
  world.opened.at(-1)?.sink.bandwidthSample(20_000, 100);
  world.opened.at(-1)?.sink.bandwidthSample(20_000, 60);
  world.opened.at(-1)?.sink.queueingDelay(300);
  world.opened.at(-1)?.sink.queueingDelay(20);
  world.director.report(figures);
  world.opened.at(-1)?.sink.bandwidthSample(2000, 1);
  world.director.report(figures);
  assert.deepEqual(world.log.slice(-2), ["report 2000000 300", "report null 0"]);
  world.opened.at(-1)?.sink.bandwidthSample(14_000, 7);
  world.director.report(figures);
  assert.equal(world.log.at(-1), "report 16000000 0");
});

test("a stall starts after one second, and its time is counted once", () => {
  const meter = new StallMeter();
  assert.equal(meter.sample(400), 0);
  meter.displayed(500);
  assert.equal(meter.sample(1000), 0);
  assert.equal(meter.sample(2000), 500);
  meter.displayed(2400);
  assert.equal(meter.sample(3000), 400);
  meter.displayed(3100);
  assert.equal(meter.sample(4000), 0);
});

test("a lost session is reopened with growing delays while playback continues", async () => {
  const world = new World();
  await world.play();
  world.frame();
  for (const wait of [5000, 10_000]) {
    world.events?.lost();
    const before = world.log.length;
    world.advance(wait - 1);
    assert.equal(world.log.length, before);
    world.advance(1);
    await settled();
    assert.deepEqual(world.log.slice(before), ["choose null null", "control /api/sessions/1", "playing mjpeg@"]);
  }
  world.events?.choices({ candidates: [], forced: false, hasAudio: false });
  world.events?.lost();
  world.advance(5000);
  await settled();
  assert.equal(world.log.at(-1), "playing mjpeg@");
  assert.equal(world.opened.length, 1);
});

test("unmuted audio is reported, and transports with audio are named", async () => {
  const world = new World();
  world.director.setListening(true);
  await world.play("nal");
  world.frame();
  world.director.report({ received: 1, buffered_ms: null, stalled_ms: 0, frames_dropped: 0, frame_rate: 1, visible: true, view_width: 0, view_height: 0 });
  assert.deepEqual([world.log[0], world.log.at(-1)], ["choose null null listening", "report null 0 listening"]);
  const { hasAudio, streamHasAudio, audioTransports } = world.director.state;
  assert.deepEqual([hasAudio, streamHasAudio, audioTransports], [false, false, ""]);
  const candidate = (transport: string, hasAudio: boolean) => ({ transport, rendition: "", width: 0, height: 0, bandwidth: 0, hasAudio });
  const candidates = [candidate("nal", false), candidate("mse", true), candidate("hls", true), candidate("hls", true), candidate("mjpeg", false)];
  world.events?.choices({ candidates, forced: false, hasAudio: true });
  const state = world.states.at(-1);
  assert.deepEqual([state?.hasAudio, state?.streamHasAudio, state?.audioTransports], [false, true, "MSE, HLS"]);
  // Without a choice, the current transport reports its audio.
  const alone = new World();
  await alone.play(new Error("404"), "mse");
  alone.opened.at(-1)?.sink.audio(true);
  assert.equal(alone.director.state.streamHasAudio, true);
  assert.equal(alone.director.state.pattern, false, "without a choice it is not the test pattern");
  assert.equal(world.director.state.pattern, true);
});

test("obstacles of transports are displayed after the gateway chose another", async () => {
  const world = new World();
  await world.play("webcodecs");
  world.opened.at(-1)?.sink.ended({ kind: "unsupported", reason: "no intra refresh" });
  assert.deepEqual([world.open, world.log.at(-1)], [["first nal /live/demo"], "failed webcodecs@"]);
  world.opened.at(-1)?.sink.ended({ kind: "unsupported", reason: "none here either" });
  assert.equal(world.log.at(-1), "failed nal@");
  // A transport that has just failed is not retried before anything plays.
  world.move("webcodecs");
  assert.deepEqual([world.open, world.log.at(-1)], [["first mse /live/demo"], "failed webcodecs@"]);
  world.move("mjpeg");
  assert.deepEqual(world.open, ["first mjpeg /live/demo"]);
  world.frame();
  assert.equal(world.director.state.fallback, "no intra refresh; none here either");
  // A transport that plays has no obstacle any more.
  world.move("nal");
  world.frame();
  world.move("mjpeg");
  world.frame();
  assert.equal(world.director.state.fallback, "no intra refresh");
});

test("without WebSockets, a playable transport is found by trial", async () => {
  const world = new World();
  await world.play("nal");
  const refused = { kind: "refused", reason: "the WebSocket could not be opened" } as const;
  world.opened[0]?.sink.ended(refused);
  world.events?.lost();
  world.advance(5000);
  await settled();
  for (let tries = 0; tries < 10 && world.opened.at(-1)?.name !== "hls"; tries++) {
    world.opened.at(-1)?.sink.ended(refused);
    world.advance(5000);
  }
  const last = world.opened.at(-1);
  assert.deepEqual([last?.name, last?.only], ["hls", false]);
  world.events?.lost();
  world.advance(10_000);
  await settled();
  assert.equal(world.opened.at(-1), last, "playback continues");
});
