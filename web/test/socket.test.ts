// Tests of the transports' WebSocket with fake sockets.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Session, type SessionSink, type TransportPlayer } from "../src/player/session";
import type { TransportName } from "../src/transport/names";
import { openSocket } from "../src/transport/socket";
import type { Ending } from "../src/transport/transport";
import { Clock, type FakeSocket, fakeSockets, replace, settled, unanswered } from "./support";

/** A socket to `nal`, its events, and a gateway that responds with `respond` to a plain request. */
function open(t: TestContext, respond: () => Response | null = () => new Response("", { status: 426 })) {
  const clock = new Clock(t);
  const sockets = fakeSockets(t);
  replace(t, "location", { origin: "http://gateway" });
  replace(t, "fetch", async (url: URL, init: { signal: AbortSignal }) => respond() ?? unanswered(url, init));
  const events: (Ending | string)[] = [];
  const { close } = openSocket(new URL("http://gateway/live/demo"), "nal", {
    message: (data) => events.push(String(data)),
    ended: (ending) => events.push(ending),
  });
  const socket = sockets[0] as FakeSocket;
  return { clock, socket, events, close };
}

test("an open socket reports its messages and why it ended", async (t) => {
  const { clock, socket, events } = open(t);
  assert.equal(socket.url, "ws://gateway/live/demo/nal");
  socket.open().receive("a frame");
  assert.equal(clock.running, 0);
  clock.advance(60_000);
  socket.end(1001, "restarts");
  await settled();
  assert.deepEqual(events, ["a frame", { kind: "draining", reason: "restarts" }]);
});

test("a socket that fails to open reports the gateway's error, or a refusal", async (t) => {
  const { socket, events } = open(t, () => new Response("no such stream", { status: 404 }));
  socket.end();
  await settled();
  assert.deepEqual(events, [{ kind: "refused", reason: "no such stream" }]);
  const blocked = open(t);
  blocked.socket.end();
  await settled();
  assert.deepEqual(blocked.events, [{ kind: "refused", reason: "the WebSocket could not be opened" }]);
});

test("a socket that neither opens nor fails is closed after 8 s as refused", async (t) => {
  const { clock, socket, events } = open(t);
  clock.advance(7999);
  await settled();
  assert.deepEqual([events, socket.closed], [[], false]);
  clock.advance(1);
  assert.equal(socket.closed, true);
  socket.end();
  await settled();
  assert.deepEqual(events, [{ kind: "refused", reason: "the WebSocket could not be opened" }]);
  assert.equal(clock.running, 0);
});

test("a gateway that responds to nothing is unreachable, not refusing", async (t) => {
  const { clock, events } = open(t, () => null);
  clock.advance(8000);
  await settled();
  clock.advance(15_000);
  await settled();
  assert.deepEqual(events, [{ kind: "unreachable", reason: "the gateway is not responding" }]);
  assert.equal(clock.running, 0);
});

test("closing during connect waits for the connection, for a limited time", async (t) => {
  const opened = open(t);
  opened.close();
  assert.equal(opened.socket.closed, false);
  opened.socket.open().receive("a frame");
  assert.deepEqual([opened.socket.closed, opened.clock.running], [true, 0]);

  const never = open(t);
  never.close();
  never.clock.advance(8000);
  assert.equal(never.socket.closed, true);
  never.socket.end();
  await settled();
  assert.deepEqual([opened.events, never.events, never.clock.running], [[], [], 0]);
});

test("closing while the reason is requested from the gateway reports nothing", async (t) => {
  const { clock, socket, events, close } = open(t, () => null);
  socket.end();
  close();
  await settled();
  assert.deepEqual([events, clock.running], [[], 0]);
});

test("if no WebSocket opens, auto is past them within a minute", async (t) => {
  const clock = new Clock(t);
  const sockets = fakeSockets(t);
  replace(t, "location", { origin: "http://gateway" });
  replace(t, "fetch", async () => new Response("", { status: 426 }));
  const opened: string[] = [];
  const player = (name: TransportName, open: TransportPlayer["open"]): TransportPlayer => ({
    label: name,
    open: (...given) => {
      opened.push(name);
      return open(...given);
    },
    obstacle: () => null,
  });
  const overSocket = (name: TransportName) =>
    player(name, (base, sink) => ({ stop: openSocket(base, name, { message: () => undefined, ended: (ending) => sink.ended(ending) }).close }));
  const plain = (name: TransportName) => player(name, () => ({ stop: () => undefined }));
  const timer = (callback: () => void, ms: number): (() => void) => {
    const started = setTimeout(callback, ms);
    return () => clearTimeout(started);
  };
  const players = () => new Map([["nal", overSocket("nal")], ["mse", overSocket("mse")], ["hls", plain("hls")], ["mjpeg", plain("mjpeg")]]);
  const session = new Session({ players, timer, random: () => 0.5, now: () => performance.now() }, { changed: () => undefined } as unknown as SessionSink);
  session.select({ base: new URL("http://gateway/live/demo"), transport: "auto" });
  for (let second = 0; second < 60; second++) {
    clock.advance(1000);
    await settled();
  }
  assert.deepEqual(opened.slice(0, 5), ["nal", "nal", "mse", "mse", "hls"]);
  assert.deepEqual(sockets.map(({ closed }) => closed), [true, true, true, true]);
  session.stop();
  assert.equal(clock.running, 0);
});
