// Parses the MP4 output of the muxers with an independent parser, mp4box from npm.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Gateway } from "./support.mjs";

const { createFile } = createRequire(new URL("../../web/package.json", import.meta.url))("mp4box");

const SECONDS = 6;

describe("boxes", { timeout: 120_000 }, () => {
  let gateway;

  before(async () => {
    const directory = fileURLToPath(new URL("../../target/scratch/browser/", import.meta.url));
    mkdirSync(directory, { recursive: true });
    const file = `${directory}boxes-${process.pid}.mp4`;
    // B-frames, and an audio sample rate that is not a multiple of the frame rate.
    execFileSync("ffmpeg", [
      ...["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=320x192:rate=30", "-f", "lavfi", "-i", "sine=sample_rate=44100"],
      ...["-t", "12", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac", file],
    ]);
    gateway = new Gateway({ config: `[streams.demo]\nsource = "file:${file}"\n[transports.hls]\nsegment = "1s"\n` });
    await gateway.start();
  });
  after(() => gateway?.stop());

  test("the continuous MP4 has both tracks with all samples", async () => {
    const controller = new AbortController();
    const { body, headers } = await fetch(`${gateway.url}live/demo/mse`, { signal: controller.signal });
    assert.match(headers.get("content-type"), /^video\/mp4/);
    const parser = new Parser();
    for await (const bytes of body) {
      parser.append(bytes);
      if (parser.seconds() > SECONDS) break;
    }
    controller.abort();
    parser.check();
  });

  test("HLS segments have all samples, and parts concatenate to their segment", async () => {
    const base = `${gateway.url}live/demo/hls/`;
    const get = async (name) => {
      const response = await fetch(base + name);
      assert.equal(response.status, 200, name);
      return response;
    };
    const parser = new Parser();
    const known = new Set();
    let next = "media.m3u8";
    while (parser.seconds() < SECONDS) {
      const playlist = await (await get(next)).text();
      if (known.size === 0) parser.append(new Uint8Array(await (await get(/MAP:URI="([^"]+)"/.exec(playlist)[1])).arrayBuffer()));
      for (const name of playlist.match(/^[^#\n]+\.m4s$/gm)) {
        if (known.has(name)) continue;
        known.add(name);
        const segment = new Uint8Array(await (await get(name)).arrayBuffer());
        parser.append(segment);
        const parts = [...playlist.matchAll(/PART:.*URI="([^"]+)"/g)].map(([, part]) => part).filter((part) => part.startsWith(name.replace("m4s", "")));
        if (parts.length === 0) continue;
        const partData = await Promise.all(parts.map(async (part) => Buffer.from(await (await get(part)).arrayBuffer())));
        assert.ok(Buffer.concat(partData).equals(Buffer.from(segment)), name);
      }
      const newest = Math.max(...[...known].map((name) => Number(/-(\d+)\./.exec(name)[1])));
      next = `media.m3u8?_HLS_msn=${newest + 1}`;
    }
    parser.check();
  });
});

/** Parses MP4 incrementally. */
class Parser {
  #file = createFile();
  #at = 0;
  #info = null;
  #samples = new Map();

  constructor() {
    this.#file.onError = (module, message) => assert.fail(`${module}: ${message}`);
    this.#file.onReady = (info) => {
      this.#info = info;
      for (const { id } of info.tracks) this.#file.setExtractionOptions(id, null, { nbSamples: 1 });
      this.#file.onSamples = (id, _, samples) => {
        const known = this.#samples.get(id) ?? [];
        this.#samples.set(id, known.concat(samples));
      };
      this.#file.start();
    };
  }

  append(bytes) {
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    buffer.fileStart = this.#at;
    this.#at += buffer.byteLength;
    this.#file.appendBuffer(buffer);
  }

  /** Seconds of video so far. */
  seconds() {
    const track = this.#info?.videoTracks[0];
    const samples = this.#samples.get(track?.id) ?? [];
    return samples.length === 0 ? 0 : (samples.at(-1).dts - samples[0].dts) / track.timescale;
  }

  /** Checks the tracks, and that every sample starts where the previous one ends and has the size it declares. */
  check() {
    const { videoTracks, audioTracks, isFragmented } = this.#info;
    assert.deepEqual([isFragmented, videoTracks.length, audioTracks.length], [true, 1, 1]);
    assert.match(videoTracks[0].codec, /^avc1\./);
    assert.equal(audioTracks[0].codec, "mp4a.40.2");
    assert.deepEqual(videoTracks[0].video, { width: 320, height: 192 });
    assert.equal(audioTracks[0].audio.sample_rate, 44100);
    for (const track of [videoTracks[0], audioTracks[0]]) {
      const samples = this.#samples.get(track.id);
      samples.reduce((before, sample) => {
        const gap = sample.dts - before.dts - before.duration;
        assert.ok(Math.abs(gap) <= 1, `track ${track.id}: ${gap} ticks between ${before.dts} and ${sample.dts}`);
        return sample;
      });
      assert.ok(samples.every(({ data, size }) => data.byteLength === size && size > 0));
    }
    const frames = this.#samples.get(videoTracks[0].id);
    assert.ok(frames[0].is_sync);
    assert.ok(frames.some(({ cts, dts }) => cts !== dts), "B-frames have composition offsets");
    const presentationTimes = frames.map(({ cts }) => cts).sort((a, b) => a - b);
    const step = videoTracks[0].timescale / 30;
    // Without the frames that the cut at the end leaves incomplete.
    const gaps = presentationTimes.slice(1, -4).map((time, index) => time - presentationTimes[index]);
    assert.ok(gaps.every((gap) => Math.abs(gap - step) <= 1), `${gaps}`);
  }
}
