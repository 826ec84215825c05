// A muxer that traps while it has viewers is recreated, and players do not notice.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, playing } from "./support.mjs";

const TRAPS = 10;
const RATE = 15;

describe("a muxer that traps", { timeout: 240_000 }, () => {
  const component = (name) => fileURLToPath(new URL(`../../target/plugins/${name}.wasm`, import.meta.url));
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.demo]
      source = "test-pattern"
      encode = { width = 640, height = 360, frame-rate = ${RATE}, keyframe-interval = "1s" }
      [transports.hls]
      plugin = "${component("brittle-hls")}"
      segment = "1s"
      [transports.mse]
      plugin = "${component("brittle-mse")}"
    `,
  });

  test(`hls and mse: players continue across ${TRAPS} traps`, async () => {
    const watch = async (transport) => {
      const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
      await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      let { number } = await playing(page, transport);
      for (let nth = 0; nth < TRAPS; nth++) {
        const { status } = await fetch(`${gateway.url}live/demo/${transport}/trap`);
        assert.equal(status, 503);
        // Spread out, as ten failures within a minute open the circuit breaker.
        ({ number } = await frameNumberReaches(page, number + 7 * RATE));
      }
      const { phase, reason, reconnects } = await page.evaluate(() => document.querySelector("sluicegate-player").stats);
      assert.deepEqual({ phase, reason, reconnects }, { phase: "playing", reason: "", reconnects: 0 }, transport);
      assert.deepEqual(problems, []);
      const plugins = await (await fetch(`${gateway.url}api/plugins`)).json();
      assert.equal(plugins.find(({ name }) => name === transport).failures, TRAPS);
      await close();
    };
    await Promise.all(["hls", "mse"].map(watch));
  });
});
