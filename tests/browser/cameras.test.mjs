// MJPEG in the variants that cameras send, played by the page's own MJPEG reader; and video that looks like the test
// pattern but is not.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { Gateway, playing } from "./support.mjs";

const PATTERN = `source = "test-pattern"\nencode = { width = 640, height = 360, frame-rate = 15, keyframe-interval = "1s" }\n`;

describe("cameras", { timeout: 120_000 }, () => {
  const pattern = new Gateway({ config: `[streams.demo]\n${PATTERN}renditions.small = { width = 320 }\n` });
  before(() => pattern.start());
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => `[streams.copy]\nsource = "${pattern.url}live/demo/mjpeg"\n[streams.demo]\n${PATTERN}`,
  });
  after(() => pattern.stop());

  /** Variants: Content-Type of a part, and number of bytes missing from the end marker. */
  const VARIANTS = {
    whole: ["image/jpeg", 0],
    "without their end marker": ["image/jpeg", 2],
    "called image/jpg": ["image/jpg", 0],
    "with a size in the type": ["image/jpeg;size=1234", 2],
  };

  for (const [variant, [type, missing]] of Object.entries(VARIANTS)) {
    test(`MJPEG: frames ${variant} are displayed`, async () => {
      const image = Buffer.from(await (await fetch(`${gateway.url}live/demo/frame.jpg`)).arrayBuffer());
      assert.deepEqual([...image.subarray(-2)], [0xff, 0xd9]);
      const site = new Camera(gateway.url, type, image.subarray(0, image.length - missing));
      const { page, close } = await openPage({ viewport: { width: 800, height: 600 } });
      await page.goto(await site.start());
      await page.waitForFunction(() => document.querySelector("sluicegate-player").stats.painted >= 10);
      const { width, height } = await page.evaluate(() => document.querySelector("sluicegate-player").stats);
      assert.deepEqual([width, height], [640, 360]);
      await close();
      site.stop();
    });
  }

  const latencyKind = (page) => page.evaluate(() => document.querySelector("sluicegate-player").stats.latencyKind);
  const nextLatencyKinds = (page) =>
    page.evaluate(
      () =>
        new Promise((resolve) => {
          const player = document.querySelector("sluicegate-player");
          const kinds = [];
          player.addEventListener("sluicegate-stats", ({ detail }) => {
            kinds.push(detail.latencyKind);
            if (kinds.length === 3) resolve(kinds);
          });
        }),
    );

  test("end-to-end latency is measured only on the test pattern", async () => {
    for (const [url, stream, kind] of [
      [pattern.url, "demo", "picture"],
      [pattern.url, "demo@small", "picture"],
      [gateway.url, "copy", "decode"],
    ]) {
      const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
      await page.goto(`${url}watch/${stream}?transport=nal`);
      // The frame has a block code that scripts may read.
      await playing(page, "nal");
      await page.waitForFunction((wanted) => document.querySelector("sluicegate-player").stats.latencyKind === wanted, kind);
      assert.deepEqual(await nextLatencyKinds(page), [kind, kind, kind], stream);
      assert.equal(await latencyKind(page), kind);
      assert.deepEqual(problems, []);
      await close();
    }
  });
});

/** A page with the player, and a camera that sends this JPEG ten times a second in parts of this type. */
class Camera {
  #server;

  constructor(gateway, type, jpeg) {
    const head = `--frame\r\nContent-Type: ${type}\r\nContent-Length: ${jpeg.length}\r\n\r\n`;
    const part = Buffer.concat([Buffer.from(head), jpeg, Buffer.from("\r\n")]);
    this.#server = createServer(async ({ url }, response) => {
      if (url === "/") {
        response.writeHead(200, { "content-type": "text/html" });
        response.end('<!doctype html><script type="module" src="/assets/player.js"></script><sluicegate-player src="/live/camera" transport="mjpeg"></sluicegate-player>');
      } else if (url === "/live/camera/mjpeg") {
        response.writeHead(200, { "content-type": "multipart/x-mixed-replace; boundary=frame" });
        const interval = setInterval(() => response.write(part), 100);
        response.on("close", () => clearInterval(interval));
      } else if (url.startsWith("/assets/")) {
        const file = await fetch(new URL(url, gateway));
        response.writeHead(200, { "content-type": file.headers.get("content-type") });
        response.end(Buffer.from(await file.arrayBuffer()));
      } else {
        response.writeHead(404).end();
      }
    });
  }

  /** Starts the server and returns the URL of the page. */
  async start() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${this.#server.address().port}/`;
  }

  stop() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
