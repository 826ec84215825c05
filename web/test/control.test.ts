// Tests of the control channel on fake sockets and a fake clock.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Control, type Report } from "../src/net/control";
import { Clock, type FakeSocket, fakeSockets } from "./support";

const REPORT: Report = {
  goodput: null, received: 0, queued_ms: 0, buffered_ms: null, stalled_ms: 0, frames_dropped: 0, frame_rate: 0, network: null, visible: true, listening: false, view_width: 640, view_height: 360,
};

function openControl(t: TestContext) {
  const clock = new Clock(t);
  const sockets = fakeSockets(t);
  const events: string[] = [];
  const control = new Control(new URL("http://gateway/api/sessions/1"), {
    move: ({ transport }) => events.push(`move ${transport}`),
    choices: () => events.push("choices"),
    refused: (reason) => events.push(`refused ${reason}`),
    lost: () => events.push("lost"),
  });
  const last = (): FakeSocket => sockets.at(-1) as FakeSocket;
  /** Messages sent on the newest channel, without reports and pings. */
  const sent = () => last().sent.filter(({ type }) => type !== "report" && type !== "ping");
  return { clock, sockets, events, control, last, sent };
}

test("a channel that neither opens nor fails is closed after 8 s as lost", (t) => {
  const { clock, sockets, events, control, last } = openControl(t);
  control.failed({ transport: "nal", rendition: "" });
  clock.advance(7999);
  assert.deepEqual([events, last().closed], [[], false]);
  clock.advance(1);
  assert.deepEqual([events, last().closed], [["lost"], true]);
  last().end();
  clock.advance(60_000);
  assert.deepEqual([events, sockets.length, clock.running], [["lost"], 1, 0]);
});

test("a reconnected channel repeats the newest failure, target and selection", (t) => {
  const { clock, sockets, events, control, last, sent } = openControl(t);
  last().open();
  control.playing({ transport: "nal", rendition: "" });
  last().end();
  control.pin({ transport: "mse" });
  control.failed({ transport: "mse", rendition: "" });
  control.pin({ transport: "hls", rendition: "mobile" });
  clock.advance(1000);
  assert.equal(sockets.length, 2);
  last().open();
  assert.deepEqual(sent(), [
    { type: "failed", transport: "mse", rendition: "" },
    { type: "playing", transport: "nal", rendition: "" },
    { type: "pin", transport: "hls", rendition: "mobile" },
  ]);
  control.pin(null);
  // Messages sent just before the channel closed may have been lost.
  last().end();
  clock.advance(1000);
  last().open();
  assert.deepEqual(sent(), [{ type: "playing", transport: "nal", rendition: "" }, { type: "auto" }]);
  assert.deepEqual(events, []);
});

test("a channel without a pong for 30 s is reconnected", (t) => {
  const { clock, sockets, events, control, last } = openControl(t);
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
  last().receive(JSON.stringify({ type: "pong", id: 2 }));
  clock.advance(40_000);
  control.report(REPORT);
  assert.deepEqual([events, last().closed], [[], false]);
});

test("a refused channel is lost, and a closed one leaves no timers", (t) => {
  const refused = openControl(t);
  refused.last().open().end(1008);
  assert.deepEqual([refused.events, refused.clock.running], [["lost"], 0]);

  const waiting = openControl(t);
  waiting.last().open().end();
  waiting.control.close();
  assert.equal(waiting.clock.running, 0);

  const connecting = openControl(t);
  connecting.control.close();
  connecting.clock.advance(8000);
  assert.deepEqual([connecting.last().closed, connecting.clock.running, connecting.events], [true, 0, []]);

  const open = openControl(t);
  open.last().open();
  open.control.close();
  open.last().receive('{"type":"refused","reason":"late"}');
  assert.deepEqual([open.last().closed, open.clock.running, open.events], [true, 0, []]);
});
