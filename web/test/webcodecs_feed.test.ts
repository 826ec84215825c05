// Tests of what of a `webcodecs` stream is decoded, with a fake decoder, one frame at a time.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { CodedFrame, VideoTrack } from "../src/media/records";
import type { Decoder, EncodedUnit } from "../src/transport/video_decoder";
import { VideoFeed } from "../src/transport/webcodecs_feed";

const geometry = { orientation: { rotation: 0, mirrored: false }, pixelAspect: [1, 1] } as const;
const track = (codec: string): VideoTrack => ({ kind: "video", codec, config: Uint8Array.of(1, 2, 3, 4, 0xff), timescale: 90_000, geometry });
const FIRST = track("avc1.first");
const IDR = Uint8Array.of(0, 0, 0, 2, 0x65, 0x88);
const RECOVERY = Uint8Array.of(0, 0, 0, 1, 0x06, 0, 0, 0, 2, 0x41, 0x9a);

class World implements Decoder {
  readonly log: string[] = [];
  decodeQueueSize = 0;
  dropped = 0;
  fed = 0;
  asked = 0;
  now = 0;
  #time = 0;
  readonly feed = new VideoFeed(this, { dropped: (count) => (this.dropped += count), fed: () => this.fed++, keyframeNeeded: () => this.asked++ });

  configure(codec: string, description?: Uint8Array): void {
    this.log.push(`${codec} ${description?.length}`);
    this.decodeQueueSize = 0;
  }

  decode({ key, recovery, timestamp }: EncodedUnit): void {
    this.log.push(`${recovery ? "recovery" : key ? "key" : "delta"} ${timestamp}`);
  }

  send(kind: "key" | "recovery" | "delta" | "leading", { gap = false, of = FIRST } = {}): void {
    const independent = kind === "key" || kind === "recovery";
    const data = kind === "key" ? IDR : RECOVERY;
    const frame: CodedFrame = { track: of, catalogue: { startedAt: 0, tracks: [of] }, group: 1, independent, leading: kind === "leading", time: this.#time++, data };
    this.feed.frame(frame, of, gap, this.now);
  }
}

test("decoding begins at an independent frame, without the leading ones behind it", () => {
  const world = new World();
  world.send("delta");
  world.send("recovery");
  world.send("leading");
  world.send("delta");
  world.send("recovery");
  world.send("leading");
  assert.deepEqual(world.log, ["avc1.first 5", "recovery 1", "delta 3", "recovery 4", "delta 5"]);
  assert.deepEqual([world.dropped, world.fed], [2, 4]);
});

test("after a gap, decoding continues at the next independent frame with the same decoder", () => {
  const world = new World();
  world.send("key");
  world.send("delta", { gap: true });
  world.send("delta");
  world.send("key");
  world.send("leading");
  world.send("key", { gap: true });
  world.send("leading");
  assert.deepEqual(world.log, ["avc1.first 5", "key 0", "key 3", "key 5"]);
  assert.equal(world.dropped, 4);
});

test("a stream with IDR pictures continues after a gap at one of those", () => {
  const world = new World();
  world.send("key");
  world.send("recovery");
  world.send("leading");
  world.send("delta", { gap: true });
  world.send("key");
  world.send("recovery", { gap: true });
  world.send("delta");
  world.send("key");
  assert.deepEqual(world.log, ["avc1.first 5", "key 0", "delta 1", "delta 2", "key 4", "key 7"]);
});

test("another track is decoded from its first independent frame on", () => {
  const world = new World();
  world.send("key");
  const second = track("avc1.second");
  world.send("delta", { of: second });
  world.send("key", { of: second });
  assert.deepEqual(world.log, ["avc1.first 5", "key 0", "avc1.second 5", "key 2"]);
});

test("a decoder that failed continues at the next independent frame", () => {
  const world = new World();
  world.send("key");
  world.feed.decoderFailed();
  world.send("delta");
  world.send("key");
  assert.deepEqual(world.log, ["avc1.first 5", "key 0", "avc1.first 5", "key 2"]);
});

test("a decoder that is late for 0.5 s skips to the next independent frame", () => {
  const world = new World();
  world.send("key");
  assert.equal(world.feed.frameDecoded(0), 0);
  world.send("delta");
  world.decodeQueueSize = 5;
  world.now = 600;
  world.send("delta");
  world.send("delta");
  assert.equal(world.dropped, 2);
  world.decodeQueueSize = 5;
  world.send("key");
  assert.deepEqual([world.log.slice(2), world.decodeQueueSize], [["delta 1", "avc1.first 5", "key 4"], 0]);
});

test("the arrival time of a decoded frame is known", () => {
  const world = new World();
  world.now = 40;
  world.send("key");
  world.now = 70;
  world.send("delta");
  assert.deepEqual([world.feed.frameDecoded(0), world.feed.frameDecoded(1), world.feed.frameDecoded(1)], [40, 70, null]);
});

test("a keyframe is asked for when the decoder failed, and when none comes for a second", () => {
  const world = new World();
  world.send("key");
  world.feed.decoderFailed();
  assert.equal(world.asked, 1);
  const wait = (ms: number): void => {
    world.now += ms;
    world.send("delta");
  };
  wait(20);
  wait(999);
  assert.equal(world.asked, 1);
  wait(1);
  wait(999);
  assert.equal(world.asked, 2);
  wait(1);
  assert.equal(world.asked, 3);
  world.send("key");
  wait(5000);
  world.send("key", { gap: true });
  // Leading frames are left out on purpose.
  for (let nth = 0; nth < 5; nth++) {
    world.now += 1000;
    world.send("leading");
  }
  world.send("delta", { gap: true });
  wait(999);
  world.send("key");
  assert.equal(world.asked, 3);
});
