// Components are exchanged while pages play them: by WebCodecs in a worker and in the page, Media Source Extensions and
// hls.js. No page reconnects, freezes or reports an error.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gatewayAndBrowser } from "./setup.mjs";
import { displayedFrame, frameNumberReaches, playing, until } from "./support.mjs";

const TRANSPORTS = ["webcodecs", "nal", "mse", "hls"];
/** Exchanges of `hls`; of each other transport there is one in five rounds. */
const SWAPS = 100;
/** A time in ms without a new frame: a busy machine may need it now and then, exchanges must not. */
const PAUSE = 1500;
const LONGEST_PAUSE = 5000;

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const copy = (name) => root(`target/scratch/browser/swaps-${process.pid}-${name}.wasm`);

/** Writes the component `name` as one of two files that do the same: an empty custom section is added. */
function rebuild(name, nth) {
  const label = Buffer.from(String(nth % 2).padStart(9, "0"));
  const section = Buffer.concat([Buffer.from([0, label.length + 1, label.length]), label]);
  writeFileSync(copy(name), Buffer.concat([readFileSync(root(`target/plugins/${name}.wasm`)), section]));
}

describe("components that are exchanged", { timeout: 480_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => {
      mkdirSync(root("target/scratch/browser"), { recursive: true });
      for (const name of TRANSPORTS) rebuild(name, 0);
      const transports = TRANSPORTS.map((name) => `[transports.${name}]\nplugin = ${JSON.stringify(copy(name))}\n`);
      return `
        [streams.demo]
        source = "test-pattern"
        encode = { width = 320, height = 192, frame-rate = 60, keyframe-interval = "500ms" }
        ${transports.join("")}
        part = "200ms"
        segment = "500ms"
      `;
    },
  });

  /** Reads the component again, and waits until all muxers have switched over. */
  async function exchange(name, nth) {
    rebuild(name, nth);
    const response = await fetch(new URL(`/api/plugins/${name}/reload`, gateway.url), { method: "POST" });
    assert.equal(response.status, 200, await response.text());
    await until(`${name} has switched over`, async () => {
      const plugins = await (await fetch(new URL("/api/plugins", gateway.url))).json();
      return plugins.find((plugin) => plugin.name === name).swap?.state === "switched";
    });
  }

  /** Plays the transport in a page that notes how long no new frame came. */
  async function watch(name) {
    const opened = await openPage({ viewport: { width: 480, height: 360 } });
    const { page } = opened;
    await page.goto(`${gateway.url}watch/demo?transport=${name}`);
    const { number } = await playing(page, name);
    await frameNumberReaches(page, number + 60);
    await page.evaluate(() => {
      const player = document.querySelector("sluicegate-player");
      window.pauses = [];
      let [last, since] = [player.readNumber(), performance.now()];
      setInterval(() => {
        const [number, now] = [player.readNumber(), performance.now()];
        if (number === last) return;
        window.pauses.push(now - since);
        [last, since] = [number, now];
      }, 100);
    });
    return { name, ...opened };
  }

  test("pages that play webcodecs, nal, mse and hls notice nothing", async () => {
    const watching = await Promise.all(TRANSPORTS.map(watch));
    for (let nth = 1; nth <= SWAPS; nth++) {
      await exchange("hls", nth);
      if (nth % 5 === 0) for (const name of ["webcodecs", "nal", "mse"]) await exchange(name, nth);
    }
    for (const { name, page, problems, close } of watching) {
      const last = await displayedFrame(page);
      await frameNumberReaches(page, last.number + 30);
      const pauses = (await page.evaluate(() => window.pauses)).filter((pause) => pause >= PAUSE);
      assert.ok(pauses.length <= SWAPS / 20 && Math.max(0, ...pauses) < LONGEST_PAUSE, `${name} froze for ${pauses} ms`);
      assert.equal((await displayedFrame(page)).stats.reconnects, 0, name);
      assert.deepEqual(problems, [], name);
      await close();
    }
  });
});
