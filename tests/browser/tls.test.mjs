// The player page over HTTPS: a secure context, so WebCodecs and MSE play over wss:, and MJPEG over HTTP/2.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { recordMediaSockets, frameNumberReaches, playing } from "./support.mjs";

describe("over TLS", { timeout: 120_000 }, () => {
  // A source that takes more than a second to start looks like blocked UDP, so that the player would look into the
  // WebSocket, too.
  const { gateway, openPage } = gatewayAndBrowser({
    config: '[server]\ntls = "self-signed"\n[streams.demo]\nsource = "test-pattern"\nalways-on = true\n',
  });

  for (const transport of ["webcodecs", "nal", "mse", "mjpeg"]) {
    test(`${transport} plays, and the page is served over HTTP/2`, async () => {
      const { page, problems, close } = await openPage({ ignoreHTTPSErrors: true });
      const sockets = recordMediaSockets(page);
      await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      assert.match(page.url(), /^https:/);
      assert.equal(await page.evaluate(() => window.isSecureContext), true);
      const protocol = () => performance.getEntriesByType("navigation")[0].nextHopProtocol;
      assert.equal(await page.evaluate(protocol), "h2");

      const first = await playing(page, transport);
      const later = await frameNumberReaches(page, first.number + 30);
      assert.equal(later.stats.transport, transport);
      assert.ok(sockets.every((url) => url.startsWith("wss:")), `${sockets}`);
      assert.equal(later.stats.carrier, transport === "webcodecs" ? "WebTransport" : null);
      assert.equal(sockets.length > 0, ["nal", "mse"].includes(transport), `${sockets}`);
      assert.deepEqual(problems, []);
      await close();
    });
  }
});
