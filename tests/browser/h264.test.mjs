// Unusual H.264 in a real browser: open GOPs, an invalid level, interlaced video.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";

const folder = fileURLToPath(new URL("../../target/scratch/browser/h264", import.meta.url));

/** Encodes some seconds with x264 and these parameters; returns the file. */
function encode(name, parameters, profile = "high") {
  const file = `${folder}/${name}.h264`;
  const input = ["-f", "lavfi", "-i", "testsrc2=size=320x192:rate=30", "-frames:v", "300", "-pix_fmt", "yuv420p"];
  const x264 = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", profile, "-x264-params", parameters];
  execFileSync("ffmpeg", ["-hide_banner", "-loglevel", "error", "-nostdin", "-y", ...input, ...x264, file]);
  return file;
}

/** Sets an invalid level in each SPS. */
function withoutLevel(file) {
  const bytes = readFileSync(file);
  for (let at = bytes.indexOf("00000167", 0, "hex"); at >= 0; at = bytes.indexOf("00000167", at + 4, "hex")) bytes[at + 6] = 0;
  writeFileSync(file, bytes);
  return file;
}

// They wait for frames, most of the time.
describe("H.264", { timeout: 240_000, concurrency: 4 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({ config: encodedStreams });

  /** Encodes the files, and returns the config of streams that play them. */
  function encodedStreams() {
    mkdirSync(folder, { recursive: true });
    const open = encode("open", "open-gop=1:bframes=3:b-adapt=0:b-pyramid=none:keyint=20:scenecut=0");
    // The x264 default: some of the skipped pictures are references of others.
    const pyramid = encode("pyramid", "open-gop=1:bframes=3:b-adapt=0:keyint=20:scenecut=0");
    const level = withoutLevel(encode("level", "bframes=0:keyint=30", "main"));
    const interlaced = encode("interlaced", "tff=1:bframes=2:keyint=30");
    const stream = (name, file) => `[streams.${name}]\nsource = "file:${file}"\nalways-on = true\n`;
    return [
      stream("open", open),
      stream("pyramid", pyramid),
      stream("level", level),
      stream("interlaced", interlaced),
    ].join("");
  }

  /** Plays until enough frames were displayed, with at most `maxReconnects` reconnects. */
  async function plays(stream, transport, maxReconnects = 0) {
    const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await page.goto(`${gateway.url}watch/${stream}?transport=${transport}`);
    await page.waitForFunction(() => document.querySelector("sluicegate-player").stats.painted > 75);
    const { phase, reconnects } = await page.evaluate(() => document.querySelector("sluicegate-player").stats);
    assert.deepEqual([phase, problems], ["playing", []], `${stream} by ${transport}`);
    assert.ok(reconnects <= maxReconnects, `${stream} by ${transport}: ${reconnects} reconnects`);
    await close();
  }

  for (const transport of ["mse", "webcodecs", "nal", "hls"]) {
    for (const stream of ["open", "pyramid"]) {
      test(`playback starts at an open GOP: ${transport}, ${stream}`, async () => {
        // A first viewer keeps the stream running, so that later ones start in the middle, each at another group.
        const first = await openPage({ viewport: { width: 800, height: 600 } });
        await first.page.goto(`${gateway.url}watch/${stream}?transport=${transport}`);
        await first.page.waitForFunction(() => document.querySelector("sluicegate-player").stats.painted > 30);
        // Chromium stops at the leading pictures of a pyramid if a seek lands between them, as on a machine so busy
        // that the player jumps to the live edge; the player then reconnects.
        const maxReconnects = transport === "mse" && stream === "pyramid" ? 1 : 0;
        await plays(stream, transport, maxReconnects);
        await plays(stream, transport, maxReconnects);
        const { reconnects } = await first.page.evaluate(() => document.querySelector("sluicegate-player").stats);
        assert.ok(reconnects <= maxReconnects, `${reconnects} reconnects`);
        assert.deepEqual(first.problems, []);
        await first.close();
      });
    }

    test(`an invalid level and interlaced video play: ${transport}`, async () => {
      await plays("level", transport);
      await plays("interlaced", transport);
    });
  }
});
