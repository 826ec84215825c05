// Hidden pages close their connection, and pages reconnect to a gateway that was restarted.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, displayedFrame, playing, setHidden, until } from "./support.mjs";

describe("recovery", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser();

  for (const transport of ["webcodecs", "nal", "mse", "hls", "mjpeg"]) {
    test(`${transport}: a hidden page disconnects and reconnects when visible`, async () => {
      const { page, problems, close } = await openPage();
      await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
      await playing(page, transport);
      await until("one viewer", async () => (await gateway.device()).viewers === 1);
      await setHidden(page, true);
      await until("no viewer", async () => (await gateway.device()).viewers === 0);
      assert.equal((await displayedFrame(page)).stats.phase, "paused");
      await setHidden(page, false);
      const { number } = await playing(page, transport);
      await frameNumberReaches(page, number + 5);
      await until("one viewer again", async () => (await gateway.device()).viewers === 1);
      assert.deepEqual(problems, []);
      await close();
    });
  }

  for (const signal of ["SIGKILL", "SIGTERM"]) {
    for (const transports of [["nal", "hls"], ["mse", "mjpeg"], ["webcodecs"]]) {
      test(`${transports.join(" and ")}: players reconnect after ${signal} and a restart`, async () => {
        const pages = [];
        for (const transport of transports) {
          const { page, close } = await openPage();
          await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
          await playing(page, transport);
          await page.evaluate(() => (window.sameDocument = true));
          pages.push({ page, close, transport });
        }
        await gateway.stop(signal);
        for (const { page } of pages) {
          await page.waitForFunction(() => ["waiting", "connecting"].includes(document.querySelector("sluicegate-player").stats.phase));
          await page.locator("sluicegate-player").getByRole("status").getByText(/Reconnecting|Connecting/).waitFor();
        }
        await gateway.start();
        for (const { page, close, transport } of pages) {
          const { number, stats } = await playing(page, transport);
          await frameNumberReaches(page, number + 5);
          assert.ok(stats.reconnects > 0);
          assert.equal(await page.evaluate(() => window.sameDocument), true);
          await close();
        }
      });
    }
  }

  test("the dashboard reports a gateway that is down, and recovers", async () => {
    const { page, close } = await openPage();
    await page.goto(gateway.url);
    await page.locator('[data-serial="demo"]').waitFor();
    await gateway.stop("SIGKILL");
    await page.getByRole("alert").getByText("is not responding").waitFor();
    await gateway.start();
    await page.getByRole("alert").waitFor({ state: "hidden" });
    await page.locator('[data-serial="demo"]').waitFor();
    // The event stream is reopened too, and reports that earlier events were missed.
    const events = page.getByRole("log", { name: "Events" });
    await events.getByText("earlier events were missed").waitFor();
    const viewer = await openPage();
    await viewer.page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(viewer.page, "nal");
    await events.getByText("demo: viewer connected (nal)").waitFor();
    await viewer.close();
    await close();
  });
});
