// Tests of what crosses the border between the player and the half of a transport: messages, and the gateway's list.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Context } from "../src/half/context";
import { halvesUrl, parseHalves } from "../src/half/list";
import { readObstacle, Reports } from "../src/half/reports";
import type { Sink } from "../src/transport/transport";

/** Reports into a log, with a clock that the test sets. */
class World {
  readonly log: unknown[] = [];
  now = 0;
  readonly reports: Reports;

  constructor() {
    const note =
      (name: string) =>
      (...values: unknown[]): unknown =>
        this.log.push([name, ...values]);
    const names = ["frame", "displayed", "audioPlayed", "fed", "blocked", "audio", "carrier", "bytes", "bandwidthSample", "queueingDelay", "dropped", "ended"];
    const sink = Object.fromEntries(names.map((name) => [name, note(name)])) as unknown as Sink;
    this.reports = new Reports(sink, () => this.now);
  }

  /** A context whose messages arrive here. */
  context(carriers = ["http", "websocket"]): Context {
    const given = { url: "http://gateway/live/demo/mine?ticket=abc", carriers, muted: true };
    return new Context({} as HTMLElement, given, (message) => assert.equal(this.reports.receive(message), null));
  }
}

test("what a half reports arrives as the player's own transports report it", () => {
  const world = new World();
  const context = world.context();
  context.bytes(1500);
  context.received(2);
  world.now = 7;
  context.displayed({ width: 640, height: 360 });
  context.displayed({ width: 640, height: 360, count: 3, delay: 4.5 });
  context.dropped(1);
  context.audio(true);
  context.link(50_000, 12);
  context.queued(30);
  context.ended("draining", "the gateway is shutting down");
  assert.deepEqual(world.log, [
    ["bytes", 1500],
    ["fed", 2],
    ["displayed", { width: 640, height: 360, at: 7, count: 1, delay: null }],
    ["displayed", { width: 640, height: 360, at: 7, count: 3, delay: { ms: 4.5, kind: "decode" } }],
    ["dropped", 1],
    ["audio", true],
    ["bandwidthSample", 50_000, 12],
    ["queueingDelay", 30],
    ["ended", { kind: "draining", reason: "the gateway is shutting down" }],
  ]);
});

test("values that are wrong or out of range are limited, and nonsense is ignored", () => {
  const world = new World();
  for (const message of [
    "",
    "{}",
    "null",
    "[",
    '["frame",1]',
    '["__proto__"]',
    '["displayed",-1,5,1,null]',
    '["displayed",1e9,"x",1,null]',
    '["displayed",640,360,0.5,null]',
  ]) {
    assert.equal(world.reports.receive(message), null, message);
  }
  assert.deepEqual(world.log, []);
  for (const message of [
    '["bytes",-5]',
    '["bytes",1e99]',
    '["received",1e9]',
    '["displayed",1e9,1e9,1e9,1e99]',
    '["ended","exploded","a\\u0000\\u202eb"]',
    JSON.stringify(["ended", "lost", "x".repeat(900)]),
    '["ended"]',
  ]) {
    assert.equal(world.reports.receive(message), null, message);
  }
  assert.deepEqual(world.log, [
    ["bytes", 0],
    ["bytes", 1e9],
    ["fed", 1000],
    ["displayed", { width: 65_535, height: 65_535, at: 0, count: 1000, delay: { ms: 600_000, kind: "decode" } }],
    ["ended", { kind: "lost", reason: "a  b" }],
    ["ended", { kind: "lost", reason: "x".repeat(200) }],
    ["ended", { kind: "lost", reason: "the transport's player ended" }],
  ]);
});

test("a half that floods the player, or sends it large things, is stopped", () => {
  const world = new World();
  const flood = Array.from({ length: 1300 }, () => world.reports.receive('["bytes",1]'));
  assert.equal(flood.indexOf(flood.find((wrong) => wrong !== null)!), 1200);
  // Three hundred messages a second are never too many.
  const steady = new World();
  for (let nth = 0; nth < 60_000; nth++) {
    steady.now = nth * (1000 / 300);
    assert.equal(steady.reports.receive('["bytes",1]'), null);
  }
  for (const large of ["x".repeat(1001), new Uint8Array(10), { type: "bytes" }, 5, null, undefined]) {
    assert.match(new World().reports.receive(large) ?? "", /too large/);
  }
});

test("an answer whether a half can play is a reason, or none", () => {
  assert.equal(readObstacle('["can-play",null]'), null);
  assert.equal(readObstacle('["can-play","no codec"]'), "no codec");
  for (const nonsense of ['["can-play",5]', '["can-play"]', '["other",null]', "", 7, null, JSON.stringify(["can-play", "x".repeat(2000)])]) {
    assert.equal(readObstacle(nonsense), "the transport's player gives no valid answer");
  }
});

test("addresses contain the newest ticket", () => {
  const context = new World().context();
  assert.equal(context.url().href, "http://gateway/live/demo/mine?ticket=abc");
  assert.equal(context.url("a/b.bin").href, "http://gateway/live/demo/mine/a/b.bin?ticket=abc");
  context.setUrl("https://gateway/live/demo/mine?ticket=def");
  assert.equal(context.socketUrl().href, "wss://gateway/live/demo/mine?ticket=def");
  assert.equal(context.muted, true);
  context.setMuted(false);
  assert.equal(context.muted, false);
});

test("a WebSocket's address is given only for a transport that has the carrier", () => {
  const message = "the transport is not available over websocket, only over http: see `carriers` of its profile";
  assert.throws(() => new World().context(["http"]).socketUrl(), { message });
  // An older gateway does not tell.
  assert.equal(new World().context([]).socketUrl().protocol, "ws:");
});

test("the list of halves is asked for the stream, with its session", () => {
  const url = (base: string): string => halvesUrl(new URL(base)).href;
  assert.equal(url("http://gateway/live/demo"), "http://gateway/api/halves/demo");
  assert.equal(url("http://gateway/live/back%20yard@mobile/?session=ab&client=x"), "http://gateway/api/halves/back%20yard@mobile?session=ab");
});

test("a list is read leniently, and addresses elsewhere are left out", () => {
  const gateway = new URL("http://gateway/live/demo");
  const good = { transport: "mine", label: "", carriers: ["http"], url: "/live/demo/mine?ticket=a", ticket_seconds: 300, module: "/modules/ab.js", frame: null };
  const [half] = parseHalves([good], gateway);
  assert.deepEqual(half, {
    name: "mine",
    label: "mine",
    carriers: ["http"],
    url: new URL("http://gateway/live/demo/mine?ticket=a"),
    ticketMs: 300_000,
    module: new URL("http://gateway/modules/ab.js"),
    frame: null,
  });
  assert.equal(parseHalves([{ ...good, frame: "/halves/demo/mine?ticket=a" }], gateway)[0]?.frame?.pathname, "/halves/demo/mine");
  for (const bad of [{ ...good, module: "//evil.example/x.js" }, { ...good, frame: "https://evil.example" }, { ...good, frame: 5 }, { ...good, transport: "" }]) {
    assert.deepEqual(parseHalves([bad], gateway), []);
  }
  assert.deepEqual(parseHalves({}, gateway), []);
});
