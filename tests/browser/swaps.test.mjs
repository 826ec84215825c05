// Components are exchanged while pages play them: by WebCodecs, Media Source Extensions and hls.js. No page reconnects,
// freezes or reports an error.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gatewayAndBrowser } from "./setup.mjs";
import { displayedFrame, frameNumberReaches, playing, until } from "./support.mjs";

const TRANSPORTS = ["nal", "mse", "hls"];
const SWAPS = 6;
/** Longest time in ms without a new frame that is not a freeze on a busy machine. */
const FREEZE = 1500;

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const copy = (name) => root(`target/scratch/browser/swaps-${process.pid}-${name}.wasm`);

/** Writes the component `name` as another file that does the same: an empty custom section is added. */
function rebuild(name, nth) {
  const label = Buffer.from(String(nth).padStart(9, "0"));
  const section = Buffer.concat([Buffer.from([0, label.length + 1, label.length]), label]);
  writeFileSync(copy(name), Buffer.concat([readFileSync(root(`target/plugins/${name}.wasm`)), section]));
}

describe("components that are exchanged", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => {
      mkdirSync(root("target/scratch/browser"), { recursive: true });
      for (const name of TRANSPORTS) rebuild(name, 0);
      const transports = TRANSPORTS.map((name) => `[transports.${name}]\nplugin = ${JSON.stringify(copy(name))}\n`);
      return `
        [streams.demo]
        source = "test-pattern"
        encode = { width = 640, height = 360, frame-rate = 30, keyframe-interval = "1s" }
        ${transports.join("")}
        part = "200ms"
        segment = "1s"
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

  for (const name of TRANSPORTS) {
    test(`a page that plays ${name} notices nothing`, async () => {
      const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
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
      for (let nth = 1; nth <= SWAPS; nth++) await exchange(name, nth);
      const last = await displayedFrame(page);
      await frameNumberReaches(page, last.number + 30);
      const pauses = await page.evaluate(() => window.pauses);
      const longest = Math.max(...pauses);
      assert.ok(longest < FREEZE, `frozen for ${Math.round(longest)} ms`);
      assert.equal((await displayedFrame(page)).stats.reconnects, 0);
      assert.deepEqual(problems, []);
      await close();
    });
  }
});
