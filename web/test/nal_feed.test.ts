// Tests of `NalFeed` with a fake decoder, one message at a time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { NalFeed } from "../src/transport/nal_feed";
import type { Decoder, EncodedUnit } from "../src/transport/video_decoder";
import { annexB, AUD, DELTA, IDR, OTHER_SPS, PPS, RECOVERY, SPS, USER_DATA } from "./support";

/** Records its calls. */
class Recorder implements Decoder {
  readonly log: string[] = [];
  readonly units: { key: boolean; recovery: boolean; timestamp: number; data: number[] }[] = [];
  decodeQueueSize = 0;

  configure(codec: string): void {
    this.log.push(codec);
    this.decodeQueueSize = 0;
  }

  decode(unit: EncodedUnit): void {
    this.log.push(unit.key ? "key" : "delta");
    this.units.push({ ...unit, data: [...unit.data] });
  }
}

/** A feed whose clock advances 1 ms per message, and otherwise when the test says so. */
function feed(): {
  decoder: Recorder;
  feed: NalFeed;
  drops: () => number;
  fed: () => number;
  send: (...nals: number[][]) => void;
  wait: (ms: number) => void;
} {
  const decoder = new Recorder();
  let drops = 0;
  let fed = 0;
  let now = 0;
  const feed = new NalFeed(decoder, { dropped: (count) => (drops += count), fed: () => fed++ });
  return {
    decoder,
    feed,
    drops: () => drops,
    fed: () => fed,
    send: (...nals) => feed.message(annexB(nals), (now += 1000)),
    wait: (ms) => (now += ms * 1000),
  };
}

const KEY = [AUD, SPS, PPS, IDR];

test("a stream with parameter sets in its keyframes is not changed", () => {
  const { decoder, send } = feed();
  send(...KEY);
  send(AUD, DELTA);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key", "delta"]);
  assert.deepEqual(decoder.units[0]?.data, [...annexB(KEY)]);
});

test("separate parameter sets are added to every keyframe without them", () => {
  const { decoder, send } = feed();
  send(SPS, PPS);
  send(USER_DATA);
  send(AUD, IDR);
  send(AUD, DELTA);
  send(AUD, IDR);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key", "delta", "key"]);
  for (const at of [0, 2]) assert.deepEqual(decoder.units[at]?.data, [...annexB([AUD, SPS, PPS, IDR])]);
});

test("a PPS that is repeated apart from its SPS is kept once", () => {
  const { decoder, send } = feed();
  send(SPS);
  for (let times = 0; times < 3; times++) send(PPS);
  send(IDR);
  assert.deepEqual(decoder.units[0]?.data, [...annexB([SPS, PPS, IDR])]);
});

test("the newest PPS of each id is kept, however often they change", () => {
  const { decoder, send } = feed();
  const [first, second] = [[0x68, 0xce, 0x3c, 0x80], [0x68, 0xcb, 0x83]];
  send(SPS, first, IDR);
  for (let times = 0; times < 10_000; times++) {
    send(second, DELTA);
    send(first, DELTA);
  }
  send(second, DELTA);
  send(IDR);
  assert.deepEqual(decoder.units.at(-1)?.data, [...annexB([SPS, second, IDR])]);
});

test("only B pictures right after the starting recovery point are dropped", () => {
  const { decoder, drops, send } = feed();
  const b = [0x01, 0xa0, 0x33];
  send(SPS, PPS, RECOVERY, DELTA);
  send(b);
  send(b);
  send(DELTA);
  send(b);
  send(RECOVERY, DELTA);
  send(b);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key", "delta", "delta", "key", "delta"]);
  assert.equal(drops(), 2);
});

test("delta frames before a keyframe, and keyframes before an SPS, are dropped", () => {
  const { decoder, drops, send } = feed();
  send(DELTA);
  send(IDR);
  send(DELTA);
  send(...KEY);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key"]);
  assert.equal(drops(), 3);
});

test("only frames that are passed to the decoder are counted", () => {
  const { decoder, drops, fed, send, wait } = feed();
  send(DELTA);
  send(SPS, PPS);
  send(IDR);
  for (let times = 0; times < 3; times++) send(DELTA);
  assert.deepEqual([fed(), drops()], [4, 1]);
  // Also if none of them is output.
  decoder.decodeQueueSize = 5;
  wait(3100);
  send(DELTA);
  send(...KEY);
  assert.deepEqual([fed(), drops(), decoder.units.length], [5, 2, 5]);
});

test("a different SPS reconfigures the decoder, the same one does not", () => {
  const { decoder, send } = feed();
  send(...KEY);
  send(...KEY);
  send(AUD, OTHER_SPS, PPS, IDR);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key", "key", "avc1.640028", "key"]);
});

test("a decoder that is late for 0.5 s gets nothing until the next keyframe", () => {
  const { decoder, feed: nal, drops, send, wait } = feed();
  send(...KEY);
  nal.frameDecoded();
  send(DELTA);
  decoder.decodeQueueSize = 5;
  wait(600);
  send(DELTA);
  decoder.decodeQueueSize = 0;
  send(DELTA);
  assert.equal(drops(), 2);
  send(...KEY);
  send(DELTA);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key", "delta", "key", "delta"]);
});

test("a burst that the decoder handles in time loses nothing", () => {
  const { decoder, feed: nal, drops, send, wait } = feed();
  send(...KEY);
  nal.frameDecoded();
  for (let burst = 0; burst < 5; burst++) {
    decoder.decodeQueueSize = 0;
    wait(300);
    send(DELTA);
    for (decoder.decodeQueueSize = 1; decoder.decodeQueueSize < 20; decoder.decodeQueueSize++) send(DELTA);
  }
  assert.equal(drops(), 0);
});

test("a keyframe clears the queue of a decoder that is behind", () => {
  const { decoder, feed: nal, send, wait } = feed();
  send(...KEY);
  nal.frameDecoded();
  send(DELTA);
  decoder.decodeQueueSize = 5;
  wait(600);
  send(...KEY);
  assert.deepEqual(decoder.log.slice(-2), ["avc1.42c01f", "key"]);
  assert.equal(decoder.decodeQueueSize, 0);
  decoder.decodeQueueSize = 5;
  send(DELTA);
  assert.equal(decoder.log.at(-1), "delta");
});

test("an excessive queue is cut, however fast it grew", () => {
  const { decoder, drops, send } = feed();
  send(...KEY);
  decoder.decodeQueueSize = 901;
  send(DELTA);
  assert.equal(drops(), 1);
});

test("the burst for a late viewer is decoded completely", () => {
  const { decoder, feed: nal, drops, send, wait } = feed();
  send(...KEY);
  for (let count = 1; count <= 300; count++) {
    decoder.decodeQueueSize = count;
    send(DELTA);
    if (count === 100) nal.frameDecoded();
  }
  wait(2000);
  send(DELTA);
  assert.equal(drops(), 0);
  assert.equal(decoder.units.length, 302);
  wait(1000);
  send(DELTA);
  assert.equal(drops(), 1);
});

test("only a stream without IDR pictures starts at a recovery point", () => {
  const refresh = feed();
  refresh.send(SPS, PPS);
  refresh.send(DELTA);
  refresh.send(RECOVERY, DELTA);
  refresh.send(DELTA);
  assert.deepEqual(refresh.decoder.log, ["avc1.42c01f", "key", "delta"]);
  assert.deepEqual(refresh.decoder.units.map(({ recovery }) => recovery), [true, false]);

  const plain = feed();
  plain.send(...KEY);
  plain.send(RECOVERY, DELTA);
  assert.deepEqual(plain.decoder.log, ["avc1.42c01f", "key", "delta"]);
});

test("an intra-refresh stream that began with an IDR resumes after a failure", () => {
  const { decoder, feed: nal, send } = feed();
  send(...KEY);
  nal.decoderFailed();
  send(RECOVERY, DELTA);
  send(RECOVERY, DELTA);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key", "avc1.42c01f", "key"]);
});

test("after a failure the next keyframe configures the decoder again", () => {
  const { decoder, feed: nal, send } = feed();
  send(SPS, PPS);
  send(IDR);
  nal.decoderFailed();
  send(DELTA);
  send(IDR);
  assert.deepEqual(decoder.log, ["avc1.42c01f", "key", "avc1.42c01f", "key"]);
  assert.deepEqual(decoder.units[1]?.data, [...annexB([SPS, PPS, IDR])]);
});

test("timestamps increase even if messages arrive together", () => {
  const { decoder, feed: nal } = feed();
  for (let count = 0; count < 4; count++) nal.message(annexB(KEY), 500);
  assert.deepEqual(decoder.units.map(({ timestamp }) => timestamp), [500, 501, 502, 503]);
});
