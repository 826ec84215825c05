// Responses of components are sandboxed: browsers display them, but their scripts do not run and cannot call the
// gateway. Media players are not affected.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gatewayAndBrowser } from "./setup.mjs";
import { until } from "./support.mjs";

const plugin = fileURLToPath(new URL("../../target/plugins/hostile.wasm", import.meta.url));

describe("a component's pages", { timeout: 120_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({
    config: `
      [streams.cam]
      source = "test-pattern"
      [transports.page]
      plugin = ${JSON.stringify(plugin)}
      in = "request"
      do = "page"
      [transports.trusted]
      plugin = ${JSON.stringify(plugin)}
      in = "request"
      do = "page"
      trusted = true
    `,
  });

  for (const name of ["page.html", "page.xhtml", "page.svg", "page.txt"]) {
    test(`${name} runs no scripts and makes no requests`, async () => {
      const { page, close } = await openPage();
      const requested = [];
      page.on("response", (response) => requested.push(new URL(response.url()).pathname));
      const response = await page.goto(new URL(`live/cam/page/${name}`, gateway.url).href, { waitUntil: "load" });
      assert.equal(response.status(), 200);
      // A script in the page would run before the load event, and its requests would complete before these do.
      const title = await page.title();
      for (let time = 0; time < 3; time++) await page.evaluate((url) => fetch(url).catch(() => 0), gateway.url);
      assert.equal(title, name === "page.txt" ? "" : "untouched");
      assert.equal(await page.title(), title);
      assert.deepEqual(requested, [`/live/cam/page/${name}`], "no other requests");
      assert.equal(page.url(), new URL(`live/cam/page/${name}`, gateway.url).href, "no navigation");
      assert.equal(await page.evaluate(() => self.origin), "null");
      await close();
    });
  }

  test("a gateway page cannot register a component as service worker", async () => {
    const { page, close } = await openPage();
    await page.goto(gateway.url);
    for (const script of ["/live/cam/page/worker.js", "/live/cam/trusted/worker.js"]) {
      const outcome = await page.evaluate(
        (url) => navigator.serviceWorker.register(url).then(() => "registered", (error) => error.message),
        script,
      );
      assert.match(outcome, /403/, script);
    }
    await close();
  });

  test("a trusted component may run scripts but not register a service worker", async () => {
    const { page, close } = await openPage();
    await page.goto(new URL("live/cam/trusted/page.svg", gateway.url).href);
    const title = await until("the script is done", async () => {
      const title = await page.title();
      return title.startsWith("metrics") && title;
    });
    assert.match(title, /^metrics 200, reload 200, worker (TypeError|SecurityError)$/);
    await close();
  });

  test("MJPEG is displayed at its own URL and in an <img>", async () => {
    const { page, close } = await openPage();
    await page.goto(new URL("live/cam/mjpeg", gateway.url).href, { waitUntil: "commit" });
    await until("a frame is displayed", () => page.evaluate(() => (document.images[0]?.naturalWidth ?? 0) > 0));
    await page.goto(gateway.url);
    await page.evaluate(() => {
      const image = document.createElement("img");
      image.src = "/live/cam/mjpeg";
      image.id = "motion";
      document.body.append(image);
    });
    await page.waitForFunction(() => document.querySelector("#motion").naturalWidth > 0);
    await close();
  });
});
