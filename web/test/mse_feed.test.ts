// Tests of `MseFeed` with a fake buffer, one message at a time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { trackKinds, MseFeed, type MediaBuffer } from "../src/transport/mse_feed";
import type { Ending } from "../src/transport/transport";
import { fragment, initSegment } from "./support";

const VIDEO = 'video/mp4; codecs="avc1.64001f"';
const OTHER_VIDEO = 'video/mp4; codecs="avc1.640028"';
const BOTH = 'video/mp4; codecs="avc1.64001f,mp4a.40.2"';

/** A fake browser: appends take effect when the test says so, and each fragment lasts one second. */
class World implements MediaBuffer {
  readonly log: string[] = [];
  readonly playable: [number, number][] = [];
  readonly endings: Ending[] = [];
  readonly feed: MseFeed;
  hasAudio: boolean | null = null;
  position = 0;
  fed = 0;
  supported = true;
  /** The buffer stays empty, as with a decoder that waits for an IDR picture. */
  buffersNothing = false;
  full = 0;
  from = 1000;
  to = 1000;
  #init = true;

  constructor() {
    this.feed = new MseFeed({
      supports: () => this.supported,
      open: (mime) => {
        this.log.push(`open ${mime}`);
        this.#init = true;
      },
      position: () => this.position,
      fed: (count) => (this.fed += count),
      playable: (from, to) => this.playable.push([from, to]),
      audio: (there) => (this.hasAudio = there),
      failed: (ending) => this.endings.push(ending),
    });
  }

  buffered(): { from: number; to: number }[] {
    return this.to > this.from ? [{ from: this.from, to: this.to }] : [];
  }

  append(bytes: Uint8Array): void {
    if (this.full > 0) {
      this.full--;
      throw new DOMException("full", "QuotaExceededError");
    }
    this.log.push(`append ${bytes.length}`);
    if (this.#init) this.#init = false;
    else if (!this.buffersNothing) this.to += bytes.length / SECOND.length;
  }

  remove(from: number, to: number): void {
    this.log.push(`remove ${from} ${to}`);
    this.from = Math.max(this.from, to);
  }

  changeType(mime: string): void {
    this.log.push(`change ${mime}`);
    this.#init = true;
  }

  /** Delivers one message and completes the appends that it causes. */
  send(message: string | Uint8Array, done = 1): void {
    this.feed.message(typeof message === "string" ? message : (message.slice().buffer as ArrayBuffer));
    for (let times = 0; times < done; times++) this.feed.updateEnd();
  }

  /** Prepares the feed for fragments. */
  begin(mime = VIDEO, init = initSegment("vide")): this {
    this.send(mime, 0);
    this.feed.ready(this);
    this.send(init);
    this.log.length = 0;
    return this;
  }
}

const KEY = fragment(1, true);
const SECOND = fragment(1, false);
/** A fragment of the second track. */
const AUDIO = fragment(2, true);

test("a MIME type opens a source, and messages wait until it is open", () => {
  const world = new World();
  world.send(VIDEO, 0);
  const init = initSegment("vide");
  for (const message of [init, KEY, SECOND]) world.send(message, 0);
  assert.deepEqual(world.log, [`open ${VIDEO}`]);
  world.feed.ready(world);
  world.feed.updateEnd();
  world.feed.updateEnd();
  // The init segment separately, the backlog in one append.
  assert.deepEqual(world.log, [`open ${VIDEO}`, `append ${init.length}`, `append ${KEY.length + SECOND.length}`]);
  assert.deepEqual(world.playable, [[1000, 1002]]);
  assert.equal(world.hasAudio, false);
});

test("each fragment reports how far the media reaches", () => {
  const world = new World().begin();
  for (let times = 0; times < 3; times++) world.send(SECOND);
  assert.deepEqual(world.playable, [[1000, 1001], [1001, 1002], [1002, 1003]]);
});

test("video of which the browser buffers nothing is given up with a reason", () => {
  const world = new World().begin();
  world.buffersNothing = true;
  for (let times = 0; times < 19; times++) world.send(times === 0 ? KEY : SECOND);
  assert.deepEqual([world.endings, world.fed], [[], 19]);
  world.send(SECOND);
  assert.deepEqual(world.endings, [
    { kind: "unsupported", reason: "this browser's MSE cannot start a stream without IDR frames (intra refresh)" },
  ]);
});

test("an empty buffer is no failure with audio or after data was accepted", () => {
  const both = new World().begin(BOTH, initSegment("vide", "soun"));
  both.buffersNothing = true;
  for (let times = 0; times < 40; times++) {
    both.send(times === 0 ? KEY : SECOND);
    both.send(AUDIO);
  }
  assert.deepEqual([both.endings, both.fed], [[], 40]);

  const emptied = new World().begin();
  emptied.send(KEY);
  emptied.buffersNothing = true;
  emptied.from = emptied.to;
  for (let times = 0; times < 40; times++) emptied.send(SECOND);
  assert.deepEqual([emptied.endings, emptied.fed], [[], 41]);
});

test("audio fragments do not count as frames", () => {
  const slides = new World().begin(BOTH, initSegment("soun", "vide"));
  slides.send(fragment(2, true));
  for (let times = 0; times < 47 * 20; times++) slides.send(fragment(1, true));
  assert.equal(slides.fed, 1);
  // An audio-only stream that does not play is given up as well.
  const alone = new World().begin('audio/mp4; codecs="mp4a.40.2"', initSegment("soun"));
  for (let times = 0; times < 40; times++) alone.send(KEY);
  assert.equal(alone.fed, 40);
});

test("frames are counted on arrival, even if the browser never appends them", () => {
  const unopened = new World();
  unopened.send(BOTH, 0);
  unopened.send(initSegment("vide", "soun"), 0);
  for (const message of [KEY, AUDIO, SECOND]) unopened.send(message, 0);
  assert.deepEqual([unopened.log, unopened.fed], [[`open ${BOTH}`], 2]);
  const stuck = new World().begin();
  for (let times = 0; times < 3; times++) stuck.send(SECOND, 0);
  assert.deepEqual([stuck.log.length, stuck.fed], [1, 3]);
});

test("another codec with the same tracks is a type change, in order", () => {
  const world = new World().begin();
  const init = initSegment("vide");
  world.send(KEY, 0);
  for (const message of [SECOND, OTHER_VIDEO, init, KEY]) world.send(message, 0);
  for (let times = 0; times < 4; times++) world.feed.updateEnd();
  assert.deepEqual(world.log, [`append ${KEY.length}`, `append ${SECOND.length}`, `change ${OTHER_VIDEO}`, `append ${init.length}`, `append ${KEY.length}`]);
});

test("the same type again appends only a new init segment", () => {
  const world = new World().begin();
  world.send(VIDEO, 0);
  world.send(initSegment("vide"));
  assert.deepEqual(world.log, [`append ${initSegment("vide").length}`]);
});

test("an added audio track opens a new source with the init segment", () => {
  const world = new World().begin();
  world.send(BOTH, 0);
  const init = initSegment("vide", "soun");
  world.send(init, 0);
  assert.deepEqual([world.log, world.hasAudio], [[`open ${BOTH}`], true]);
  world.feed.ready(world);
  assert.deepEqual(world.log, [`open ${BOTH}`, `append ${init.length}`]);
});

test("unsupported types and messages without a type end playback once", () => {
  const world = new World();
  world.supported = false;
  world.send('video/mp4; codecs="hvc1.1.6.L93"', 0);
  world.send(VIDEO, 0);
  assert.deepEqual(world.endings.map(({ kind }) => kind), ["unsupported"]);
  assert.match(world.endings[0]?.reason ?? "", /hvc1/);

  const mute = new World();
  mute.send(KEY, 0);
  mute.send(KEY, 0);
  assert.deepEqual(mute.endings.map(({ kind }) => kind), ["refused"]);
});

test("fifteen seconds are kept behind the position, cut at keyframes", () => {
  const world = new World().begin();
  for (let second = 0; second < 60; second++) {
    world.send(second % 4 === 0 ? KEY : SECOND, 2);
    world.position = world.to - 0.5;
    assert.ok(world.position - world.from < 15 + 5 + 4 + 1, `${world.position - world.from} s`);
  }
  const removed = world.log.filter((line) => line.startsWith("remove")).map((line) => Number(line.split(" ")[2]));
  assert.ok(removed.length >= 5, world.log.join());
  for (const until of removed) assert.equal((until - 1000) % 4, 0, `${until} is no keyframe`);
});

test("a group that is still playing is not removed, however long it is", () => {
  const world = new World().begin();
  for (let second = 0; second < 100; second++) {
    world.send(second === 0 ? KEY : SECOND, 2);
    world.position = world.to - 0.5;
  }
  assert.ok(world.log.every((line) => !line.startsWith("remove")));
  // After the next keyframe has passed, the one before may be removed.
  for (let second = 0; second < 100; second++) {
    world.send(second % 50 === 0 ? KEY : SECOND, 2);
    world.position = world.to - 0.5;
  }
  assert.deepEqual(world.log.filter((line) => line.startsWith("remove")), ["remove 0 1100"]);
});

test("audio without video is trimmed anywhere", () => {
  const world = new World().begin('audio/mp4; codecs="mp4a.40.2"', initSegment("soun"));
  for (let second = 0; second < 60; second++) {
    world.send(KEY, 2);
    world.position = world.to - 0.5;
    assert.ok(world.position - world.from <= 21, `${world.position - world.from} s`);
  }
});

test("a full buffer is trimmed further, and ends playback if it stays full", () => {
  const world = new World().begin();
  for (let second = 0; second < 10; second++) world.send(KEY);
  world.position = world.to - 0.5;
  world.full = 1;
  world.send(SECOND, 2);
  assert.deepEqual(world.log.slice(-2), ["remove 0 1008", `append ${SECOND.length}`]);
  assert.deepEqual(world.endings, []);
  world.full = 10;
  world.send(SECOND, 2);
  assert.deepEqual(world.endings, [{ kind: "lost", reason: "the browser's buffer is full" }]);
});

test("a browser that appends nothing is given up before memory grows", () => {
  const world = new World().begin();
  const large = fragment(1, false, "default", 1024 * 1024);
  for (let times = 0; times < 40; times++) world.send(large, 0);
  assert.deepEqual(world.endings.map(({ kind }) => kind), ["lost"]);
});

test("the kinds of tracks are read from the codecs", () => {
  for (const [mime, kinds] of [
    [VIDEO, ["video"]],
    [BOTH, ["audio", "video"]],
    ['video/mp4; codecs="mp4a.40.2, avc1.4d401f"', ["audio", "video"]],
    ["audio/mp4; codecs=opus", ["audio"]],
    ['video/mp4;codecs="avc1.42c01e,Opus"', ["audio", "video"]],
  ] as const) {
    assert.deepEqual(trackKinds(mime), kinds, mime);
  }
});
