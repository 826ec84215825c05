// Tests of the WebCodecs transport with a fake decoder.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { openNal } from "../src/transport/nal";
import type { Sink } from "../src/transport/transport";
import { annexB, AUD, Clock, DELTA, type FakeSocket, fakeSockets, IDR, PPS, replace, SPS } from "./support";

/** A fake decoder that accepts everything and outputs frames when the test says so. */
class FakeDecoder {
  static instances: FakeDecoder[] = [];
  readonly #output: (frame: object) => void;
  state = "configured";
  decodeQueueSize = 0;
  decoded = 0;

  constructor({ output }: { output: (frame: object) => void }) {
    this.#output = output;
    FakeDecoder.instances.push(this);
  }

  configure(): void {}

  decode(): void {
    this.decoded++;
  }

  close(): void {
    this.state = "closed";
  }

  output(frame: object): void {
    this.#output(frame);
  }
}

function open(t: TestContext) {
  const clock = new Clock(t);
  const sockets = fakeSockets(t);
  FakeDecoder.instances = [];
  replace(t, "VideoDecoder", FakeDecoder);
  replace(t, "EncodedVideoChunk", class {});
  const counts = { fed: 0, dropped: 0, frames: 0 };
  const sink = {
    bytes: () => undefined,
    fed: (count: number) => (counts.fed += count),
    dropped: (count: number) => (counts.dropped += count),
    frame: () => counts.frames++,
  } as unknown as Sink;
  const transport = openNal(new URL("http://gateway/live/demo"), sink);
  const socket = (sockets[0] as FakeSocket).open();
  const send = (...nals: number[][]): void => socket.receive(annexB(nals).slice().buffer);
  return { clock, socket, counts, transport, send };
}

test("frames passed to the decoder are counted, displayed or not", (t) => {
  const { counts, send } = open(t);
  send(DELTA);
  assert.deepEqual(counts, { fed: 0, dropped: 1, frames: 0 });
  send(AUD, SPS, PPS, IDR);
  for (let times = 0; times < 20; times++) send(DELTA);
  assert.deepEqual(counts, { fed: 21, dropped: 1, frames: 0 });
});

test("stop closes socket and decoder, and late frames are released", (t) => {
  const { clock, socket, counts, transport, send } = open(t);
  send(AUD, SPS, PPS, IDR);
  const [decoder] = FakeDecoder.instances;
  transport.stop();
  let closed = 0;
  decoder?.output({ close: () => closed++ });
  assert.deepEqual([socket.closed, decoder?.state, closed, counts.frames, clock.running], [true, "closed", 1, 0, 0]);
});
