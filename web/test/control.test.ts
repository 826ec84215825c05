// Tests of the control channel on fake sockets and a fake clock.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Control, type Report } from "../src/net/control";
import { Clock, type FakeSocket, fakeSockets } from "./support";

const REPORT: Report = {
  goodput: null, received: 0, queued_ms: 0, buffered_ms: null, stalled_ms: 0, frames_dropped: 0, frame_rate: 0, network: null, visible: true, listening: false,
};

function attend(t: TestContext) {
  const clock = new Clock(t);
  const sockets = fakeSockets(t);
  const told: string[] = [];
  const control = new Control(new URL("http://gateway/api/sessions/1"), {
    move: ({ transport }) => told.push(`move ${transport}`),
    choices: () => told.push("choices"),
    refused: (reason) => told.push(`refused ${reason}`),
    lost: () => told.push("lost"),
  });
  const last = (): FakeSocket => sockets.at(-1) as FakeSocket;
  /** Messages sent on the newest channel, without reports and pings. */
  const said = () => last().sent.filter(({ type }) => type !== "report" && type !== "ping");
  return { clock, sockets, told, control, last, said };
}

test("a channel that neither opens nor fails is closed after 8 s as lost", (t) => {
  const { clock, sockets, told, control, last } = attend(t);
  control.failed({ transport: "nal", rendition: "" });
  clock.advance(7999);
  assert.deepEqual([told, last().closed], [[], false]);
  clock.advance(1);
  assert.deepEqual([told, last().closed], [["lost"], true]);
  last().end();
  clock.advance(60_000);
  assert.deepEqual([told, sockets.length, clock.running], [["lost"], 1, 0]);
});

test("a reconnected channel repeats the newest failure, form and selection", (t) => {
  const { clock, sockets, told, control, last, said } = attend(t);
  last().open();
  control.playing({ transport: "nal", rendition: "" });
  last().end();
  control.pin({ transport: "mse" });
  control.failed({ transport: "mse", rendition: "" });
  control.pin({ transport: "hls", rendition: "mobile" });
  clock.advance(1000);
  assert.equal(sockets.length, 2);
  last().open();
  assert.deepEqual(said(), [
    { type: "failed", transport: "mse", rendition: "" },
    { type: "playing", transport: "nal", rendition: "" },
    { type: "pin", transport: "hls", rendition: "mobile" },
  ]);
  control.pin(null);
  // Messages sent just before the channel closed may have been lost.
  last().end();
  clock.advance(1000);
  last().open();
  assert.deepEqual(said(), [{ type: "playing", transport: "nal", rendition: "" }, { type: "auto" }]);
  assert.deepEqual(told, []);
});

test("a channel without a pong for 30 s is reconnected", (t) => {
  const { clock, sockets, told, control, last } = attend(t);
  last().open();
  for (let second = 0; second < 30; second++) {
    control.report(REPORT);
    clock.advance(1000);
  }
  assert.equal(last().closed, false);
  const dead = last();
  control.report(REPORT);
  assert.equal(dead.closed, true);
  clock.advance(1000);
  assert.equal(sockets.length, 2);
  last().open();
  control.report(REPORT);
  last().hear(JSON.stringify({ type: "pong", id: 2 }));
  clock.advance(40_000);
  control.report(REPORT);
  assert.deepEqual([told, last().closed], [[], false]);
});

test("a refused channel is lost, and a closed one leaves no timers", (t) => {
  const gone = attend(t);
  gone.last().open().end(1008);
  assert.deepEqual([gone.told, gone.clock.running], [["lost"], 0]);

  const waiting = attend(t);
  waiting.last().open().end();
  waiting.control.close();
  assert.equal(waiting.clock.running, 0);

  const connecting = attend(t);
  connecting.control.close();
  connecting.clock.advance(8000);
  assert.deepEqual([connecting.last().closed, connecting.clock.running, connecting.told], [true, 0, []]);

  const open = attend(t);
  open.last().open();
  open.control.close();
  open.last().hear('{"type":"refused","reason":"late"}');
  assert.deepEqual([open.last().closed, open.clock.running, open.told], [true, 0, []]);
});
