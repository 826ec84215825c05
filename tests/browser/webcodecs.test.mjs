// `webcodecs` in a real browser: a worker that decodes and draws, sound together with the picture, groups that are lost,
// and what happens where a part of it is missing.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { clip } from "./clips.mjs";
import { recordContinuity } from "./moving.mjs";
import { gatewayAndBrowser } from "./setup.mjs";
import { displayedFrame, frameNumberReaches, playing, recordMediaSockets, setHidden, until } from "./support.mjs";

/** Sound and picture are together if they are no further apart than this. */
const IN_SYNC_MS = 40;
const RATE = 60;
/** A white picture and a tone for 200 ms, every second. */
const FLASH = "lt(mod(t,1),0.2)";
const CLAPPER = [
  ...["-f", "lavfi", "-i", `color=black:size=320x180:rate=${RATE}:duration=60,drawbox=color=white:t=fill:enable='${FLASH}'`],
  ...["-f", "lavfi", "-i", `sine=frequency=1000:sample_rate=48000:duration=60,volume='${FLASH}':eval=frame`],
];
const X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", String(RATE), "-pix_fmt", "yuv420p"];
const AAC = ["-c:a", "aac", "-b:a", "96k"];
const STREAMS = `
  [streams.demo]
  source = "test-pattern"
  always-on = true
  encode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = "500ms" }
  [streams.clapper]
  source = "file:${clip("clapper.mp4", [...CLAPPER, ...X264, ...AAC])}"
  [streams.radio]
  source = "file:${clip("tone.m4a", [...CLAPPER.slice(4), ...AAC])}"
`;
const VIEW = { viewport: { width: 480, height: 360 } };

describe("webcodecs", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({ config: STREAMS });

  for (const carrier of ["WebTransport", "WebSocket"]) {
    test(`over ${carrier} it is the first choice, draws in a worker, and shows every frame of the source in order`, async (t) => {
      const { page, problems, close } = await openPage(VIEW);
      const sockets = recordMediaSockets(page);
      if (carrier === "WebSocket") await withoutWebTransport(page);
      await page.goto(`${gateway.url}watch/demo`);
      const { number } = await playing(page, "webcodecs");
      assert.equal(page.workers().length, 1);
      const numbers = await page.evaluate(
        () =>
          new Promise((resolve) => {
            const player = document.querySelector("sluicegate-player");
            const seen = [];
            const look = () => {
              const now = player.readNumber();
              if (now !== null && now !== seen.at(-1)) seen.push(now);
              if (seen.length < 150) requestAnimationFrame(look);
              else resolve(seen);
            };
            look();
          }),
      );
      assert.ok(numbers[0] >= number && numbers.every((seen, index) => index === 0 || seen > numbers[index - 1]), `${numbers}`);
      // A busy machine skips frames, but they are those of the source: none is made up.
      const missed = numbers.at(-1) - numbers[0] + 1 - numbers.length;
      t.diagnostic(`${missed} of ${numbers.length + missed} frames not seen`);
      assert.ok(missed < numbers.length / 2);
      const { stats: after } = await displayedFrame(page);
      assert.deepEqual([after.reconnects, after.reason, sockets.length], [0, "", carrier === "WebSocket" ? 1 : 0]);
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("without OffscreenCanvas the page draws what the worker decodes", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.addInitScript(() => Reflect.deleteProperty(HTMLCanvasElement.prototype, "transferControlToOffscreen"));
    await page.goto(`${gateway.url}watch/demo?transport=webcodecs`);
    const { number } = await playing(page, "webcodecs");
    await frameNumberReaches(page, number + 30);
    assert.equal(await page.evaluate(() => document.querySelector("sluicegate-player").shadowRoot.querySelector(".frame").dataset.screen), "canvas");
    assert.deepEqual(problems, []);
    await close();
  });

  test("without VideoDecoder another transport plays", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.addInitScript(() => Reflect.deleteProperty(window, "VideoDecoder"));
    await page.goto(`${gateway.url}watch/demo`);
    await playing(page, "mse");
    await page.locator("#fallback").getByText("this browser does not support WebCodecs").waitFor();
    assert.deepEqual(problems, []);
    await close();
  });

  test("a worker that cannot be loaded is no dead end", async () => {
    const { page, close } = await openPage(VIEW);
    await page.route("**/assets/webcodecs_worker.js", (route) => route.abort());
    await page.goto(`${gateway.url}watch/demo`);
    // The gateway may have chosen another transport before the player knows that trying again is of no use.
    await playing(page, "nal");
    await close();
  });

  test("a hidden page has neither connection nor worker", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${gateway.url}watch/demo?transport=webcodecs`);
    await playing(page, "webcodecs");
    await until("a viewer", async () => (await gateway.device()).viewers === 1);
    await setHidden(page, true);
    await until("no viewer", async () => (await gateway.device()).viewers === 0);
    await until("no worker", () => page.workers().length === 0);
    // The last frame stays.
    assert.notEqual((await displayedFrame(page)).number, null);
    await setHidden(page, false);
    await playing(page, "webcodecs");
    assert.deepEqual(problems, []);
    await close();
  });

  test("sound and picture are together, and turning sound on or off does not interrupt the picture", async (t) => {
    const { page, problems, close } = await openPage(VIEW);
    await recordSound(page);
    await page.goto(`${gateway.url}watch/clapper?transport=webcodecs`);
    await plays(page, "webcodecs");
    const player = page.locator("sluicegate-player");
    const unmute = player.getByRole("button", { name: "Unmute" });
    await unmute.waitFor();
    assert.equal(await page.evaluate(() => window.tap), null, "nothing is decoded while it is muted");
    await unmute.click();
    await page.waitForFunction(() => window.tones.length > 0);
    const apart = await page.evaluate(measureSync, 9);
    t.diagnostic(`picture minus sound: ${apart.map(Math.round).join(", ")} ms`);
    // A page that is busy for a moment measures wrongly.
    const median = apart.map(Math.abs).sort((one, other) => one - other)[apart.length >> 1];
    assert.ok(median <= IN_SYNC_MS, `${apart} ms`);
    await player.getByRole("button", { name: "Mute", exact: true }).click();
    await page.waitForFunction(() => window.tap.context.state === "closed");
    await showsMore(page);
    const { transport, reconnects } = await statistics(page);
    assert.deepEqual([transport, reconnects], ["webcodecs", 0]);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a stream without video plays its sound", async () => {
    const { page, problems, close } = await openPage(VIEW);
    await recordSound(page);
    await page.goto(`${gateway.url}watch/radio`);
    await plays(page, "webcodecs");
    const player = page.locator("sluicegate-player");
    await player.getByText("Audio only: this stream has no video").waitFor();
    await player.getByRole("button", { name: "Unmute" }).click();
    await page.waitForFunction(() => window.tones.length > 2);
    assert.equal((await statistics(page)).reconnects, 0);
    assert.deepEqual(problems, []);
    await close();
  });

  test("a browser that blocks sound plays the picture, and the sound after the first click", async () => {
    const { page, problems, close } = await openPage({ viewport: { width: 1000, height: 800 } });
    await recordSound(page);
    await page.addInitScript(() => {
      localStorage.setItem("sluicegate-muted", "false");
      // The browser's own rule cannot be used: playwright's access to the page counts as an activation.
      let clicked = false;
      addEventListener("click", () => (clicked = true), { capture: true });
      Object.defineProperty(navigator, "userActivation", { get: () => ({ hasBeenActive: clicked }) });
      window.AudioContext = class extends AudioContext {
        constructor(options) {
          super(options);
          if (!clicked) void this.suspend();
        }
      };
    });
    await page.goto(`${gateway.url}watch/clapper`);
    await plays(page, "webcodecs");
    const player = page.locator("sluicegate-player");
    await player.getByRole("button", { name: "Unmute" }).waitFor();
    await showsMore(page);
    assert.equal(await page.evaluate(() => window.tones.length), 0);
    await page.locator("#name").click();
    await page.waitForFunction(() => window.tones.length > 0);
    await player.getByRole("button", { name: "Mute", exact: true }).waitFor();
    assert.deepEqual(problems, []);
    await close();
  });
});

describe("webcodecs, with a worker that is tampered with", { timeout: 120_000 }, () => {
  // A site with its own copy of the player, whose worker begins with `prefix`.
  let prefix = "";
  let origin;
  const site = createServer(async ({ url }, response) => {
    if (!url.startsWith("/assets/")) {
      response.writeHead(200, { "content-type": "text/html" });
      response.end(`<!doctype html><link rel="icon" href="data:,"><script type="module" src="/assets/player.js"></script>
        <sluicegate-player stream="${url.slice(1)}" src="${gateway.url}" transport="webcodecs"></sluicegate-player>`);
      return;
    }
    const file = await fetch(new URL(url, gateway.url));
    response.writeHead(200, { "content-type": file.headers.get("content-type") });
    response.end((url.endsWith("/webcodecs_worker.js") ? prefix : "") + (await file.text()));
  });
  before(async () => {
    site.listen(0, "127.0.0.1");
    await once(site, "listening");
    origin = `http://127.0.0.1:${site.address().port}`;
  });
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => `
      [server]
      origins = ["${origin}"]
      ${STREAMS}
      [streams.rare]
      source = "test-pattern"
      always-on = true
      encode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = "30s" }
    `,
  });
  after(() => {
    site.closeAllConnections();
    site.close();
  });

  test("without AudioDecoder the picture plays, and the player says that there is no sound", async () => {
    prefix = 'Reflect.deleteProperty(globalThis, "AudioDecoder");';
    const { page, problems, close } = await openPage(VIEW);
    await page.goto(`${origin}/clapper`);
    await plays(page, "webcodecs");
    await page.locator("sluicegate-player").getByRole("button", { name: "Unmute" }).click();
    await page.locator("sluicegate-player").getByText("WebCodecs has no sound; choose Auto or one of: MSE, HLS").waitFor();
    await showsMore(page);
    assert.deepEqual(problems, []);
    await close();
  });

  test("the end of a group that the gateway leaves out is a gap in the picture, and no more", async (t) => {
    // Every fourth group of video is cut after four frames, as for a viewer that is too slow.
    prefix = `
      const Plain = WebSocket;
      let [group, nth] = [0n, 0];
      const isLeftOut = (record) => {
        if (record.getUint8(4) !== 1) return false;
        const now = record.getBigUint64(8);
        [nth, group] = [now === group ? nth + 1 : 0, now];
        return group % 4n === 0n && nth > 3;
      };
      globalThis.WebSocket = class extends Plain {
        set onmessage(receive) {
          super.onmessage = (event) => isLeftOut(new DataView(event.data)) || receive(event);
        }
      };
    `;
    const { page, problems, close } = await openPage(VIEW);
    await withoutWebTransport(page);
    await page.goto(`${origin}/demo`);
    const { number } = await playing(page, "webcodecs");
    await recordContinuity(page);
    const { stats } = await frameNumberReaches(page, number + 180);
    const { longest, steps, blank } = await page.evaluate(() => window.continuity);
    t.diagnostic(`longest time without a new frame: ${Math.round(longest)} ms; ${stats.painted} frames displayed`);
    assert.deepEqual([steps, blank, stats.reconnects, stats.phase], [[], 0, 0, "playing"]);
    // Eleven of fifteen frames of a group.
    assert.ok(longest > 250 && longest < 1000, `${longest} ms without a new frame`);
    assert.deepEqual(problems, []);
    await close();
  });

  for (const carrier of ["WebTransport", "WebSocket"]) {
    test(`over ${carrier}, where the hardware's decoder fails, a keyframe is asked for and software decodes it`, async (t) => {
      // As when a driver is restarted: once the test says so, the decoder is lost, except in software.
      prefix = `
        globalThis.failing = false;
        globalThis.VideoDecoder = class extends VideoDecoder {
          constructor({ output, error }) {
            super({
              output: (frame) => {
                output(frame);
                if (this.inSoftware || !failing) return;
                this.close();
                error(new DOMException("the device is lost", "OperationError"));
              },
              error,
            });
          }
          configure(config) {
            this.inSoftware = config.hardwareAcceleration === "prefer-software";
            super.configure(config);
          }
        };
      `;
      const { page, problems, close } = await openPage(VIEW);
      if (carrier === "WebSocket") await withoutWebTransport(page);
      await page.goto(`${origin}/rare`);
      const { number } = await playing(page, "webcodecs");
      await recordContinuity(page);
      await page.workers()[0].evaluate(() => (globalThis.failing = true));
      const { stats } = await frameNumberReaches(page, number + 120);
      const { longest, steps } = await page.evaluate(() => window.continuity);
      t.diagnostic(`longest time without a new frame: ${Math.round(longest)} ms`);
      // Without the request it were half a minute.
      assert.ok(longest < 1500, `${longest} ms without a new frame`);
      assert.deepEqual([steps, stats.reconnects, stats.phase], [[], 0, "playing"]);
      assert.deepEqual(problems, []);
      await close();
    });
  }
});

/** Leaves the page only WebSockets. */
function withoutWebTransport(page) {
  return page.addInitScript(() => Reflect.deleteProperty(window, "WebTransport"));
}

/** Waits until the transport plays. */
function plays(page, transport) {
  return page.waitForFunction((wanted) => {
    const { phase, transport } = document.querySelector("sluicegate-player").stats;
    return phase === "playing" && transport === wanted;
  }, transport);
}

function statistics(page) {
  return page.evaluate(() => document.querySelector("sluicegate-player").stats);
}

/** Waits until a second's worth of further frames was displayed. */
async function showsMore(page) {
  const { painted } = await statistics(page);
  await page.waitForFunction((least) => document.querySelector("sluicegate-player").stats.painted > least, painted + 30);
}

/**
 * Taps what the page sends to its speakers: `window.tones` has the times at which a tone begins to be heard, in ms of
 * `performance.now()`.
 */
function recordSound(page) {
  return page.addInitScript(() => {
    window.tap = null;
    window.tones = [];
    const connect = AudioNode.prototype.connect;
    AudioNode.prototype.connect = function (to, ...rest) {
      if (to instanceof AudioDestinationNode) {
        const analyser = new AnalyserNode(this.context, { fftSize: 4096 });
        connect.call(this, analyser);
        window.tap = { context: this.context, analyser };
      }
      return connect.call(this, to, ...rest);
    };
    const samples = new Float32Array(4096);
    let loudUntil = -Infinity;
    const listen = () => {
      requestAnimationFrame(listen);
      if (window.tap === null || window.tap.context.state !== "running") return;
      const { context, analyser } = window.tap;
      const { contextTime, performanceTime } = context.getOutputTimestamp();
      const end = context.currentTime;
      analyser.getFloatTimeDomainData(samples);
      samples.forEach((sample, index) => {
        if (Math.abs(sample) < 0.02) return;
        const at = end - (samples.length - index) / context.sampleRate;
        // Half a second of silence before it makes it a new tone.
        if (at - loudUntil > 0.5) window.tones.push(performanceTime + (at - contextTime) * 1000);
        loudUntil = Math.max(loudUntil, at);
      });
    };
    listen();
  });
}

/** Runs in the page: time from the beginning of a tone to that of the flash that belongs to it, in ms, for some of them. */
function measureSync(count) {
  return new Promise((resolve) => {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const canvas = document.querySelector("sluicegate-player").shadowRoot.querySelector(".half canvas");
    const flashes = [];
    let white = true;
    const look = () => {
      context.drawImage(canvas, 0, 0, 1, 1);
      const now = context.getImageData(0, 0, 1, 1).data[0] > 128;
      if (now && !white) flashes.push(performance.now());
      white = now;
      const pairs = flashes.map((flash) => window.tones.map((tone) => flash - tone).filter((apart) => Math.abs(apart) < 500).at(-1));
      const known = pairs.filter((apart) => apart !== undefined);
      if (known.length < count) requestAnimationFrame(look);
      else resolve(known);
    };
    look();
  });
}
