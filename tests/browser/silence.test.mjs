// A source that falls silent: Chromium's decoder shows the last picture again as often as it comes, and goes on from there.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Gateway, launch, newPage, numberReaches, playing } from "./support.mjs";

/** Pictures before the silence and behind it. */
const BEFORE = 20;
const BEHIND = 40;
const REPEAT_MS = 100;

describe("silence", { timeout: 120_000 }, () => {
  const server = createServer();
  let browser, gateway;

  before(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    // Otherwise it does as `nal`, which wants no repeats.
    const plugin = fileURLToPath(new URL("../../target/plugins/hostile.wasm", import.meta.url));
    gateway = new Gateway({
      config: `
        [streams.demo]
        source = "test-pattern"
        [streams.cam]
        source = "annexb:tcp://127.0.0.1:${server.address().port}"
        [transports.nal]
        plugin = "${plugin}"
        repeat = ${REPEAT_MS}
      `,
    });
    await gateway.start();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
    server.close();
  });

  test("nal: the last picture is decoded again and again, and what follows goes on from it", async () => {
    const pictures = await record(BEFORE + BEHIND);
    const { page, problems, close } = await newPage(browser);
    const connected = once(server, "connection");
    await page.goto(`${gateway.url}watch/cam?transport=nal`);
    const [source] = await connected;
    // Pieces of a picture have to follow each other within 20 ms, so each is written whole; the pictures themselves may come at once.
    for (const picture of pictures.slice(0, BEFORE)) source.write(picture);
    const silent = await playing(page, "nal");
    await page.waitForFunction(
      (least) => document.querySelector("sluicegate-player").stats.painted >= least,
      silent.stats.painted + 10,
    );
    const later = await playing(page, "nal");
    const still = later.number;
    for (const picture of pictures.slice(BEFORE)) source.write(picture);
    const { stats } = await numberReaches(page, still + BEHIND);
    assert.equal(stats.reconnects, 0);
    assert.deepEqual(problems, []);
    source.destroy();
    await close();
  });

  /** So many access units of the demo, from a keyframe on. */
  async function record(count) {
    const { page, close } = await newPage(browser);
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
            // The parameter sets come first, by themselves.
            if (units.length > wanted) {
              socket.close();
              resolve(units);
            }
          };
        }),
      count,
    );
    await close();
    const [sets, ...pictures] = units.map((unit) => Buffer.from(unit));
    pictures[0] = Buffer.concat([sets, pictures[0]]);
    return pictures;
  }
});
