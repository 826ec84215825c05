// A source that falls silent: the last frame is sent repeatedly, Chromium's decoder displays each repeat, and
// playback continues afterwards.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, playing } from "./support.mjs";

/** Frames before and after the silence. */
const BEFORE = 20;
const AFTER = 40;
const REPEAT_MS = 100;

describe("silence", { timeout: 120_000 }, () => {
  const server = createServer();

  before(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  // A copy of `nal` that additionally requests repeats.
  const plugin = fileURLToPath(new URL("../../target/plugins/hostile.wasm", import.meta.url));
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => `
      [streams.demo]
      source = "test-pattern"
      [streams.cam]
      source = "annexb:tcp://127.0.0.1:${server.address().port}"
      [transports.nal]
      plugin = "${plugin}"
      repeat = ${REPEAT_MS}
    `,
  });
  after(() => server.close());

  test("nal: repeats of the last frame are decoded, and playback continues after", async () => {
    const frames = await record(BEFORE + AFTER);
    const { page, problems, close } = await openPage();
    const connected = once(server, "connection");
    await page.goto(`${gateway.url}watch/cam?transport=nal`);
    const [source] = await connected;
    // Parts of a frame must arrive within 20 ms of each other, so each frame is written at once; the frames
    // themselves may be sent without pauses.
    for (const frame of frames.slice(0, BEFORE)) source.write(frame);
    const silent = await playing(page, "nal");
    await page.waitForFunction(
      (least) => document.querySelector("sluicegate-player").stats.painted >= least,
      silent.stats.painted + 10,
    );
    const later = await playing(page, "nal");
    const last = later.number;
    for (const frame of frames.slice(BEFORE)) source.write(frame);
    const { stats } = await frameNumberReaches(page, last + AFTER);
    assert.equal(stats.reconnects, 0);
    assert.deepEqual(problems, []);
    source.destroy();
    await close();
  });

  /** Records `count` access units of the demo stream, from a keyframe on. */
  async function record(count) {
    const { page, close } = await openPage();
    await page.goto(gateway.url);
    const units = await page.evaluate(
      (wanted) =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(`${location.origin.replace("http", "ws")}/live/demo/nal`);
          const units = [];
          socket.binaryType = "arraybuffer";
          socket.onerror = reject;
          socket.onmessage = ({ data }) => {
            units.push([...new Uint8Array(data)]);
            // The first message contains only the parameter sets.
            if (units.length > wanted) {
              socket.close();
              resolve(units);
            }
          };
        }),
      count,
    );
    await close();
    const [parameterSets, ...frames] = units.map((unit) => Buffer.from(unit));
    frames[0] = Buffer.concat([parameterSets, frames[0]]);
    return frames;
  }
});
