// Tests of how the frames of `webcodecs` come over one carrier or the other, with fake ones and a clock that the test
// advances.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Continuation } from "../src/transport/continuation";
import { LEAD_MS, SILENT_MS } from "../src/transport/silence_watch";
import { Carrier } from "../src/transport/webcodecs_carrier";
import { GIVE_UP_MS, OPEN_MS } from "../src/transport/udp_silence";
import type { CodedFrame } from "../src/media/records";
import { catalogue, Clock, coded, elapse, FakeSession, fakeSockets, replace, settled, unanswered } from "./support";

const BASE = "http://gateway/live/demo";

const noAnswer = async (_url: URL, _options: { signal: AbortSignal }): Promise<Response> => {
  throw new TypeError("no answer");
};

/** A carrier with its events: `1:0` is a frame of group 1 at 0 ticks, `!1:0` one after a gap. */
function open(t: TestContext, url: string | null = "https://gateway/live/demo/webcodecs", answer: typeof noAnswer = noAnswer) {
  const clock = new Clock(t);
  const sockets = fakeSockets(t);
  replace(t, "WebTransport", FakeSession);
  replace(t, "location", { origin: "http://gateway" });
  replace(t, "fetch", answer);
  const log: string[] = [];
  const carrier = new Carrier(
    { base: BASE, endpoint: url === null ? null : { url, hashes: [] } },
    {
      bytes: () => undefined,
      frame: ({ group, time }, gap) => log.push(`${gap ? "!" : ""}${group}:${(time * 9) / 100}`),
      carrier: (name) => log.push(name),
      webTransportBlocked: () => log.push("blocked"),
      ended: ({ kind }) => log.push(kind),
    },
  );
  return { clock, sockets, log, carrier, session: FakeSession.last };
}

/** Frames of one group at these ticks; the first is independent. */
const group = (number: number, ...times: readonly number[]): Uint8Array[] =>
  times.map((time, index) => coded({ group: number, time, independent: index === 0 }));

/** As a message: `Connection` gets buffers. */
const message = (bytes: Uint8Array): ArrayBuffer => bytes.slice().buffer as ArrayBuffer;

/** An open session on which frames 0, 9 and 18 of group 1 have arrived, and then nothing for a second. */
async function silenced(t: TestContext) {
  const opened = open(t);
  opened.session.open();
  await settled();
  const stream = opened.session.stream();
  for (const bytes of [catalogue(), ...group(1, 0, 9, 18)]) stream.enqueue(bytes);
  await settled();
  assert.deepEqual(opened.log.splice(0), ["WebTransport", "1:0", "1:9", "1:18"]);
  assert.equal(opened.sockets.length, 0);
  opened.clock.advance(SILENT_MS);
  const [twin] = opened.sockets;
  assert.ok(twin);
  twin.open().receive(message(catalogue()));
  return { ...opened, stream, twin };
}

test("the WebSocket goes on where WebTransport ended", async (t) => {
  const { clock, log, twin, session, carrier } = await silenced(t);
  for (const bytes of group(1, 0, 9, 18, 27)) twin.receive(message(bytes));
  clock.advance(LEAD_MS - 1);
  assert.deepEqual(log, []);
  clock.advance(1);
  assert.deepEqual([log, session.closedByPage], [["WebSocket", "blocked", "1:27"], true]);
  for (const bytes of group(2, 36, 45)) twin.receive(message(bytes));
  assert.deepEqual(log.slice(3), ["2:36", "2:45"]);
  carrier.send(Uint8Array.of(0, 0, 0, 1, 2));
  assert.deepEqual(twin.sentBytes, [[0, 0, 0, 1, 2]]);
  await settled();
  carrier.stop();
  assert.deepEqual([twin.closed, clock.running], [true, 0]);
});

test("if the WebSocket has only newer groups, there is a gap", async (t) => {
  const { clock, log, twin } = await silenced(t);
  for (const bytes of group(2, 36, 45)) twin.receive(message(bytes));
  clock.advance(LEAD_MS);
  assert.deepEqual(log, ["WebSocket", "blocked", "!2:36", "2:45"]);
});

test("a WebSocket that knows nothing new waits, and is not needed once WebTransport speaks again", async (t) => {
  const { clock, log, twin, stream, sockets, session } = await silenced(t);
  for (const bytes of group(1, 0, 9, 18)) twin.receive(message(bytes));
  clock.advance(20_000);
  assert.deepEqual([log, twin.closed], [[], false]);
  for (const bytes of group(1, 27)) {
    twin.receive(message(bytes));
    stream.enqueue(bytes);
  }
  await settled();
  clock.advance(LEAD_MS);
  assert.deepEqual([log, twin.closed, session.closedByPage], [["1:27"], true, false]);
  clock.advance(2 * SILENT_MS - LEAD_MS - 1);
  assert.equal(sockets.length, 1);
  clock.advance(1);
  assert.equal(sockets.length, 2);
});

test("a path that is blocked before its first data is noticed, too", async (t) => {
  const { clock, sockets, session, log } = open(t);
  session.open();
  await settled();
  clock.advance(SILENT_MS);
  const [twin] = sockets;
  assert.ok(twin);
  twin.open();
  // The source starts slowly.
  clock.advance(20_000);
  assert.deepEqual([log, session.closedByPage], [[], false]);
  for (const bytes of [catalogue(), ...group(1, 0, 9)]) twin.receive(message(bytes));
  clock.advance(LEAD_MS);
  assert.deepEqual([log, session.closedByPage], [["WebSocket", "blocked", "1:0", "1:9"], true]);
});

test("a gateway that was started again says nothing of UDP", async (t) => {
  const { clock, log, twin, session } = await silenced(t);
  for (const bytes of [catalogue({ startedAt: 2 }), ...group(1, 0)]) twin.receive(message(bytes));
  clock.advance(LEAD_MS);
  assert.deepEqual([log, twin.closed, session.closedByPage], [["lost"], true, true]);
});

test("a gateway that cannot be reached at all, or shuts down, has not only become silent", async (t) => {
  for (const [code, expected] of [[null, "unreachable"], [1006, "lost"], [1001, "draining"]] as const) {
    const { log, clock, sockets, session } = await silenced(t);
    if (code === null) {
      // Silent once more, and then nothing answers.
      session.stream().enqueue(catalogue());
      await settled();
      clock.advance(2 * SILENT_MS);
    }
    sockets.at(-1)?.end(code ?? undefined);
    await settled();
    await settled();
    assert.deepEqual([log, session.closedByPage], [[expected], true]);
  }
});

test("a proxy that refuses WebSockets disturbs nothing", async (t) => {
  const { log, clock, sockets, session, stream } = await silenced(t);
  stream.enqueue(group(1, 27)[0] ?? Uint8Array.of());
  await settled();
  clock.advance(2 * SILENT_MS);
  replace(t, "fetch", async () => new Response("", { status: 403 }));
  sockets.at(-1)?.end();
  await settled();
  await settled();
  stream.enqueue(group(1, 36)[0] ?? Uint8Array.of());
  await settled();
  assert.deepEqual([log, session.closedByPage], [["1:27", "1:36"], false]);
});

test("what is open at first: WebTransport, else the WebSocket; only silence while TCP has answers means that UDP is blocked", async (t) => {
  const asked: string[] = [];
  const blocked = open(t, undefined, async (url) => {
    asked.push(url.href);
    return Response.json({});
  });
  await elapse(blocked.clock, OPEN_MS);
  assert.ok(asked.length > 1 && asked.every((url) => url === "http://gateway/healthz"), `${asked}`);
  const refused = open(t);
  refused.session.refuse();
  await settled();
  const unreachable = open(t);
  await elapse(unreachable.clock, OPEN_MS);
  const silent = open(t, undefined, unanswered);
  await elapse(silent.clock, GIVE_UP_MS);
  const alone = open(t, null);
  for (const { sockets, log } of [blocked, refused, unreachable, silent, alone]) {
    const expected = ["WebSocket", ...(log === blocked.log ? ["blocked"] : []), "1:0"];
    const [socket] = sockets;
    assert.equal(socket?.url, "ws://gateway/live/demo/webcodecs");
    assert.deepEqual(log, []);
    socket.open();
    for (const bytes of [catalogue(), ...group(1, 0)]) socket.receive(message(bytes));
    assert.deepEqual(log, expected);
    socket.end(1001, "restarts");
    assert.equal(log.at(-1), "draining");
  }
});

test("a record goes out on the session, or nowhere while nothing is open", async (t) => {
  const { carrier, session } = open(t);
  carrier.send(Uint8Array.of(1));
  session.open();
  await settled();
  carrier.send(Uint8Array.of(2));
  await settled();
  assert.deepEqual(session.sent, [[2]]);
  carrier.stop();
});

test("another run of the stream begins anew", async (t) => {
  const { session, log, carrier } = open(t);
  session.open();
  await settled();
  const [first, second] = [session.stream(), session.stream()];
  for (const bytes of [catalogue(), ...group(7, 0)]) first.enqueue(bytes);
  for (const bytes of [catalogue({ startedAt: 2 }), ...group(1, 0)]) second.enqueue(bytes);
  await settled();
  assert.deepEqual(log, ["WebTransport", "7:0", "1:0"]);
  carrier.stop();
});

test("frames that are known are left out, with sound and picture apart", () => {
  const frame = (kind: "video" | "audio", group: number, time: number, { independent = false, startedAt = 1 } = {}): CodedFrame =>
    ({ track: { kind }, catalogue: { startedAt }, group, time, independent }) as unknown as CodedFrame;
  const continuation = new Continuation();
  const known = continuation.resume();
  for (const time of [0, 20, 10]) continuation.given(frame("video", 3, time));
  continuation.given(frame("audio", 3, 5));
  assert.deepEqual(known.place(frame("video", 3, 0)), { gap: false }, "nothing was known then");
  const [one, other, third] = [continuation.resume(), continuation.resume(), continuation.resume()];
  const before = [frame("video", 2, 0, { independent: true }), frame("video", 3, 0, { independent: true }), frame("video", 3, 20), frame("video", 3, 10)];
  assert.deepEqual(before.map((frame) => one.place(frame)), [null, null, null, null]);
  assert.deepEqual([one.place(frame("video", 3, 40)), one.place(frame("video", 3, 30))], [{ gap: false }, { gap: false }]);
  assert.deepEqual([one.place(frame("audio", 3, 0)), one.place(frame("audio", 3, 25, { independent: true }))], [null, { gap: true }]);
  assert.deepEqual([other.place(frame("video", 3, 40)), other.place(frame("video", 3, 50, { independent: true }))], [null, { gap: true }], "it begins behind");
  assert.deepEqual(third.place(frame("video", 1, 0, { independent: true, startedAt: 2 })), { gap: true });
});

test("what a late stream brings of a run that has ended is left out", async (t) => {
  const { session, log, carrier } = open(t);
  session.open();
  await settled();
  const [before, after] = [session.stream(), session.stream()];
  for (const bytes of [catalogue({ startedAt: 1 }), ...group(8, 0)]) before.enqueue(bytes);
  await settled();
  for (const bytes of [catalogue({ startedAt: 2 }), ...group(1, 9)]) after.enqueue(bytes);
  await settled();
  before.enqueue(coded({ group: 8, time: 9 }));
  after.enqueue(coded({ group: 1, time: 18 }));
  await settled();
  assert.deepEqual(log, ["WebTransport", "8:0", "1:9", "1:18"]);
  carrier.stop();
});
