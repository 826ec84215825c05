// Non-square pixels and rotated phone videos: every transport displays them upright and in the same size.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gatewayAndBrowser } from "./setup.mjs";
import { Gateway, playing } from "./support.mjs";

const directory = fileURLToPath(new URL("../../target/scratch/browser/", import.meta.url));

/** Records three seconds of a gateway's stream, encoded with these ffmpeg arguments. */
async function record(gateway, stream, name, options) {
  mkdirSync(directory, { recursive: true });
  const path = `${directory}${name}-${process.pid}.mp4`;
  const to = ["-t", "3", ...options, "-c:v", "libx264", "-g", "15", path];
  await promisify(execFile)("ffmpeg", ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i", `${gateway.url}live/${stream}/mse`, ...to]);
  return path;
}

/** Writes a rotation matrix into the track header of an MP4 file (ISO/IEC 14496-12 8.3.2). */
function setRotation(path, [a, b, c, d]) {
  const bytes = readFileSync(path);
  const at = bytes.indexOf("tkhd");
  assert.equal(bytes[at + 4], 0, "track header is version 0");
  [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30].forEach((number, index) => bytes.writeInt32BE(number, at + 44 + 4 * index));
  writeFileSync(path, bytes);
}

describe("geometry", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({ config: recordedStreams });

  /** Records the files, and returns the config of streams that play them. */
  async function recordedStreams() {
    const recorder = await new Gateway({
      config: `
        [streams.landscape]
        source = "test-pattern"
        encode = { width = 640, height = 360, frame-rate = 30 }
        [streams.portrait]
        source = "test-pattern"
        encode = { width = 360, height = 640, frame-rate = 30 }
      `,
    }).start();
    const wide = await record(recorder, "landscape", "wide", ["-vf", "setsar=16/11"]);
    const phone = await record(recorder, "portrait", "phone", ["-vf", "transpose=cclock"]);
    const mirror = await record(recorder, "portrait", "mirror", ["-vf", "transpose=cclock_flip"]);
    await recorder.stop();
    setRotation(phone, [0, 1, -1, 0]);
    setRotation(mirror, [0, 1, 1, 0]);
    return `
      [streams.wide]
      source = "file:${wide}"
      [streams.phone]
      source = "file:${phone}"
      [streams.mirror]
      source = "file:${mirror}"
    `;
  }

  for (const [stream, size] of [
    ["wide", [931, 360]],
    ["phone", [360, 640]],
    ["mirror", [360, 640]],
  ]) {
    for (const transport of ["webcodecs", "nal", "mse", "hls", "mjpeg"]) {
      test(`${stream} is ${size.join("×")} and upright on ${transport}`, async () => {
        const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
        await page.goto(`${gateway.url}watch/${stream}?transport=${transport}`);
        // The block code can be read only if the frame is upright.
        const { stats } = await playing(page, transport);
        // JPEGs are 4:2:0, so their sides are even.
        const even = transport === "mjpeg" ? size.map((side) => side - (side % 2)) : size;
        assert.deepEqual([stats.width, stats.height], even);
        assert.deepEqual(problems, []);
        await close();
      });
    }
  }
});
