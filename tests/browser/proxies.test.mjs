// Behind a minimal nginx config, which forwards no WebSocket upgrades: the pages work over HTTP, and admin routes are
// refused.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Nginx } from "./nginx.mjs";
import { Gateway, launch, newPage, frameNumberReaches, playing } from "./support.mjs";

describe("behind a minimal nginx config", { timeout: 120_000 }, () => {
  const gateway = new Gateway();
  const nginx = new Nginx();
  let browser;

  before(async () => {
    await gateway.start();
    await nginx.start((address) => `server { listen ${address}; location / { proxy_pass ${gateway.url.slice(0, -1)}; } }`);
    // For a host name other than localhost, browsers send neither Origin nor Sec-Fetch-Site to such an address.
    browser = await launch(["--host-resolver-rules=MAP cam.test 127.0.0.1"]);
  });
  after(async () => {
    await browser?.close();
    await nginx.stop();
    await gateway.stop();
  });

  for (const host of ["cam.test", "127.0.0.1"]) {
    test(`${host}: the player plays and the dashboard loads`, async () => {
      const { page, close } = await newPage(browser);
      const refused = [];
      page.on("response", (response) => {
        if (response.status() >= 400) refused.push(`${response.status()} ${new URL(response.url()).pathname}`);
      });
      await page.goto(`http://${host}:${nginx.port}/watch/demo`);
      const { number, stats } = await playing(page);
      assert.ok(["hls", "mjpeg"].includes(stats.transport), stats.transport);
      await frameNumberReaches(page, number + 20);
      assert.deepEqual(refused.filter((text) => text.includes("/assets/")), []);

      await page.goto(`http://${host}:${nginx.port}/`);
      await page.locator('[data-serial="demo"]').waitFor();
      const statuses = await page.evaluate(async () => {
        const requests = [fetch("/metrics"), fetch("/api/plugins"), fetch("/api/plugins/policy/reload", { method: "POST" })];
        return (await Promise.all(requests)).map((response) => response.status);
      });
      assert.deepEqual(statuses, [403, 403, 403]);
      await close();
    });
  }
});
