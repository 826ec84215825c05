// The dashboard shows what goes on; both pages fit a phone and a dark room.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway, launch, newPage, overflow, playing, screenshot } from "./support.mjs";

describe("pages", { timeout: 240_000 }, () => {
  const gateway = new Gateway();
  let browser;

  before(async () => {
    await gateway.start();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await gateway.stop();
  });

  test("the dashboard lists demo, and shows it live with its viewer as soon as somebody watches", async () => {
    const { page, problems, close } = await newPage(browser);
    await page.goto(gateway.url);
    const card = page.locator('[data-serial="demo"]');
    await card.waitFor();

    const viewer = await newPage(browser);
    await viewer.page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(viewer.page, "nal");
    await card.locator('.badge[data-state="live"]').waitFor();
    await card.getByText("1 viewer", { exact: true }).waitFor();
    await card.locator(".rates dd", { hasText: "bit/s" }).first().waitFor();
    await page.locator("#viewers-rows tr", { hasText: "nal" }).waitFor();
    await screenshot(page, "dashboard");
    await viewer.close();
    await card.getByText("0 viewers", { exact: true }).waitFor();
    assert.deepEqual([...problems, ...viewer.problems], []);
    await close();
  });

  test("a stream's plain addresses are there to copy, and stay open while the page goes on", async () => {
    const { page, problems, close } = await newPage(browser, { permissions: ["clipboard-read", "clipboard-write"] });
    await page.goto(gateway.url);
    const card = page.locator('[data-serial="demo"]');
    await card.getByText("Addresses").click();
    const host = new URL(gateway.url).host;
    assert.equal(await card.getByRole("textbox", { name: "MJPEG" }).inputValue(), `http://${host}/live/demo/mjpeg`);
    assert.equal(await card.getByRole("textbox", { name: "H.264 over WebSocket" }).inputValue(), `ws://${host}/live/demo/nal`);
    await card.getByRole("button", { name: "Copy MJPEG" }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `http://${host}/live/demo/mjpeg`);
    await page.waitForResponse((response) => response.url().endsWith("/api/devices"));
    await page.waitForResponse((response) => response.url().endsWith("/api/devices"));
    assert.ok(await card.getByRole("textbox", { name: "MJPEG" }).isVisible());
    assert.deepEqual(problems, []);
    await close();
  });

  test("the dashboard leads to the player by keyboard alone", async () => {
    const { page, problems, close } = await newPage(browser);
    await page.goto(gateway.url);
    await page.locator('[data-serial="demo"]').waitFor();
    for (let presses = 0; presses < 20; presses++) {
      await page.keyboard.press("Tab");
      if ((await page.evaluate(() => document.activeElement?.getAttribute("aria-label"))) === "Watch demo") break;
    }
    await page.keyboard.press("Enter");
    await page.waitForURL("**/watch/demo");
    await playing(page);
    assert.deepEqual(problems, []);
    await close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`at 360 px nothing scrolls sideways, ${colorScheme}`, async () => {
      const { page, problems, close } = await newPage(browser, { viewport: { width: 360, height: 740 }, colorScheme });
      await page.goto(gateway.url);
      await page.locator('[data-serial="demo"]').waitFor();
      await page.getByText("Addresses").click();
      assert.ok((await overflow(page)) <= 0);
      await screenshot(page, `dashboard-360-${colorScheme}`, { fullPage: true });

      await page.goto(`${gateway.url}watch/demo`);
      await playing(page);
      await page.locator("sluicegate-player").getByRole("button", { name: "Stats" }).click();
      assert.ok((await overflow(page)) <= 0);
      await screenshot(page, `watch-360-${colorScheme}`, { fullPage: true });
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("in the dark the pages are dark, and the text stands out", async () => {
    const { page, problems, close } = await newPage(browser, { colorScheme: "dark" });
    for (const [path, name] of [["", "dashboard-dark"], ["watch/demo", "watch-dark"]]) {
      await page.goto(gateway.url + path);
      if (path === "") await page.locator('[data-serial="demo"]').waitFor();
      else await playing(page);
      const [ground, text] = await page.evaluate(() => {
        const style = getComputedStyle(document.body);
        return [style.backgroundColor, style.color].map((colour) => {
          const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
          return 0.299 * red + 0.587 * green + 0.114 * blue;
        });
      });
      assert.ok(ground < 60 && text > 180, `ground ${ground}, text ${text}`);
      await screenshot(page, name);
    }
    assert.deepEqual(problems, []);
    await close();
  });

  test("where motion is not wanted, nothing moves but the picture", async () => {
    const { page, close } = await newPage(browser, { reducedMotion: "reduce" });
    await page.goto(`${gateway.url}watch/demo`);
    await playing(page);
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    await close();
  });
});
