// Tests of the reader of `webcodecs` records: split anywhere, damaged, oversized.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Catalogues, type CodedFrame, MAX_RECORD, RecordError, RecordReader } from "../src/media/records";
import { catalogue, coded, record, seeded } from "./support";

const reader = (): RecordReader => new RecordReader(new Catalogues());

/** The frames of a stream that arrives in these pieces. */
function read(...pieces: readonly Uint8Array[]): CodedFrame[] {
  const records = reader();
  return pieces.flatMap((piece) => records.push(piece));
}

function joined(...records: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(records.flatMap((record) => [...record]));
}

const STREAM = joined(
  catalogue(),
  coded({ group: 7, time: 3000, independent: true, data: [1, 2, 3] }),
  // Of a kind that this player does not know, and a track that it does not know.
  record(9, [1, 2, 3]),
  coded({ track: 2, group: 1, data: [9] }),
  coded({ group: 7, time: -3000, leading: true, data: [] }),
  coded({ track: 1, group: 2 ** 40, time: 480, independent: true, data: [4] }),
);

test("a stream is read the same however it is split", () => {
  const whole = read(STREAM);
  const found = whole.map(({ track, group, time, independent, leading, data }) => [track.kind, group, time, independent, leading, [...data]]);
  assert.deepEqual(found, [
    ["video", 7, 33_333, true, false, [1, 2, 3]],
    ["video", 7, -33_333, false, true, []],
    ["audio", 2 ** 40, 10_000, true, false, [4]],
  ]);
  assert.deepEqual(read(...[...STREAM].map((byte) => Uint8Array.of(byte))), whole);
  const random = seeded(1);
  for (let times = 0; times < 200; times++) {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < STREAM.length; ) {
      const length = 1 + Math.floor(random() * 40);
      pieces.push(STREAM.subarray(at, at + length));
      at += length;
    }
    assert.deepEqual(read(...pieces), whole);
  }
});

test("messages are records", () => {
  const records = reader();
  assert.equal(records.message(catalogue()), null);
  assert.equal(records.message(record(9, [1])), null);
  assert.deepEqual(records.message(coded({ data: [5, 6] }))?.data, Uint8Array.of(5, 6));
});

test("the same catalogue on another stream has the same tracks", () => {
  const catalogues = new Catalogues();
  const [first, second] = [0, 0].map(() => new RecordReader(catalogues).push(joined(catalogue(), coded({}))));
  assert.equal(first?.[0]?.track, second?.[0]?.track);
  const [other] = new RecordReader(catalogues).push(joined(catalogue({ startedAt: 2 }), coded({})));
  assert.notEqual(first?.[0]?.catalogue, other?.catalogue);
});

test("a track that another catalogue of the same run describes the same way is the same, in whatever order they come", () => {
  const catalogues = new Catalogues();
  const [first, renamed, again] = [{}, { epoch: 7 }, {}].map((fields) => new RecordReader(catalogues).push(joined(catalogue(fields), coded({}), coded({ track: 1 }))));
  for (const index of [0, 1]) {
    assert.equal(first?.[index]?.track, renamed?.[index]?.track);
    assert.equal(first?.[index]?.track, again?.[index]?.track);
  }
  const [other] = new RecordReader(catalogues).push(joined(catalogue({ startedAt: 2 }), coded({})));
  assert.notEqual(first?.[0]?.track, other?.track);
});

test("a catalogue describes what the decoders need", () => {
  const [frame] = read(joined(catalogue(), coded({ track: 0 })));
  const [video, audio, unknown] = frame?.catalogue.tracks ?? [];
  assert.deepEqual(video, {
    kind: "video",
    codec: "avc1.64001f",
    config: Uint8Array.of(1, 0x64, 0, 0x1f, 0xff, 0xe0, 0),
    timescale: 90_000,
    geometry: { orientation: { rotation: 90, mirrored: false }, pixelAspect: [16, 11] },
  });
  assert.deepEqual(audio, { kind: "audio", codec: "mp4a.40.2", config: Uint8Array.of(0x11, 0x90), timescale: 48_000, sampleRate: 48_000, channels: 2 });
  assert.equal(unknown, null);
});

test("damaged input ends with a reason", () => {
  const header = [0, 0, 0, 0];
  for (const [bytes, reason] of [
    [coded({}), "the gateway sent a frame before the catalogue"],
    [joined(catalogue(), record(1, new Array<number>(18).fill(0))), "the gateway sent a frame of 19 bytes, less than its header"],
    [record(0, [...new TextEncoder().encode("{")]), "the gateway sent a catalogue that is not a JSON object"],
    [record(0, new Array<number>(65_537).fill(32)), "the gateway sent a catalogue of 65537 bytes"],
    [catalogue({ version: 2 }), "this player reads version 1 of the format, and the gateway sends 2: reload the page"],
    [Uint8Array.from(header), `the gateway sent a record of 0 bytes; it may have 1 to ${MAX_RECORD}`],
    [Uint8Array.of(1, 0, 0, 1), `the gateway sent a record of ${2 ** 24 + 1} bytes; it may have 1 to ${MAX_RECORD}`],
  ] as const) {
    assert.throws(() => read(bytes), (error) => error instanceof RecordError && error.message === reason);
  }
  for (const bytes of [Uint8Array.of(0, 0), Uint8Array.of(0, 0, 0, 2, 1), joined(catalogue(), Uint8Array.of(0))]) {
    assert.throws(() => reader().message(bytes), RecordError);
  }
});

test("anything is either read or refused", () => {
  const random = seeded(2);
  for (let times = 0; times < 2000; times++) {
    const bytes = STREAM.slice();
    for (let flips = 0; flips < 4; flips++) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    try {
      read(bytes);
    } catch (error) {
      assert.ok(error instanceof RecordError, String(error));
    }
  }
});
