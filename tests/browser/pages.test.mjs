// The dashboard's live data, and the layout of dashboard and player page on phones and in dark mode. The wall has its
// own tests.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { overflow, playing, screenshot } from "./support.mjs";

describe("pages", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser();

  test("the dashboard displays events and the state of the muxers", async () => {
    const { page, problems, close } = await openPage();
    await page.goto(gateway.url);
    const card = page.locator('[data-serial="demo"]');
    await card.waitFor();
    const viewer = await openPage();
    await viewer.page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(viewer.page, "nal");
    // The first viewer, as the stream is idle until then. Only the events report it; no statistic does.
    const events = page.getByRole("log", { name: "Events" });
    await events.getByText("demo: viewer connected (nal)").first().waitFor();
    await events.getByText("demo is live: receiving video").first().waitFor();
    await card.locator("summary").click();
    const row = card.getByRole("table", { name: "Transports of demo" }).getByRole("row", { name: /^nal/ });
    await row.waitFor();
    const [viewers, micros, state] = await row.getByRole("cell").allInnerTexts();
    assert.deepEqual([viewers, state], ["1", "running"]);
    assert.ok(Number(micros) > 0, micros);
    // The test pattern has to be encoded.
    await card.getByText(/^encodes \d/).waitFor();
    const { encoder } = await gateway.device();
    assert.equal(await page.getByText(/^Video encoder: /).isVisible(), encoder !== null);
    await viewer.close();
    await events.getByText("demo: viewer disconnected (nal)").first().waitFor();
    assert.deepEqual([...problems, ...viewer.problems], []);
    await screenshot(page, "dashboard-events", { fullPage: true });
    await close();
  });

  test("the dashboard displays a stream as live with its viewers", async () => {
    const { page, problems, close } = await openPage();
    await page.goto(gateway.url);
    const card = page.locator('[data-serial="demo"]');
    await card.waitFor();

    const viewer = await openPage();
    await viewer.page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(viewer.page, "nal");
    await card.locator('.badge[data-state="live"]').waitFor();
    await card.getByText("1 viewer", { exact: true }).waitFor();
    await card.locator("summary").click();
    await card.locator(".rates dd", { hasText: "bit/s" }).first().waitFor();
    await page.locator("#viewers-rows tr", { hasText: "nal" }).waitFor();
    await screenshot(page, "dashboard");
    await viewer.close();
    await card.getByText("0 viewers", { exact: true }).waitFor();
    assert.deepEqual([...problems, ...viewer.problems], []);
    await close();
  });

  test("without permission for muxers the dashboard displays only viewers", async () => {
    const { page, close } = await openPage();
    let requests = 0;
    await page.route("**/api/plugins", (route) => {
      requests++;
      return route.fulfill({ status: 403, contentType: "application/json", body: '{"error":"this is for administrators"}' });
    });
    await page.goto(gateway.url);
    const viewer = await openPage();
    await viewer.page.goto(`${gateway.url}watch/demo?transport=nal`);
    await playing(viewer.page, "nal");
    await page.locator('[data-serial="demo"] summary').click();
    const row = page.getByRole("table", { name: "Transports of demo" }).getByRole("row", { name: /^nal/ });
    await row.getByRole("cell", { name: "1", exact: true }).waitFor();
    assert.deepEqual(await row.getByRole("cell").allInnerTexts(), ["1", "–", "–"]);
    for (let polls = 0; polls < 2; polls++) await page.waitForResponse((response) => response.url().endsWith("/api/devices"));
    assert.ok(await page.getByRole("alert").isHidden());
    // Once when the page was loaded, and possibly again when the event stream started.
    assert.ok(requests >= 1 && requests <= 2, `${requests} requests`);
    await viewer.close();
    await close();
  });

  test("stream URLs can be copied, and stay open during updates", async () => {
    const { page, problems, close } = await openPage({ permissions: ["clipboard-read", "clipboard-write"] });
    await page.goto(gateway.url);
    const card = page.locator('[data-serial="demo"]');
    await card.locator("summary").click();
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

  test("the player page is reachable by keyboard from the dashboard", async () => {
    const { page, problems, close } = await openPage();
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
    test(`no horizontal scrolling at 360 px, ${colorScheme}`, async () => {
      const { page, problems, close } = await openPage({ viewport: { width: 360, height: 740 }, colorScheme });
      await page.goto(gateway.url);
      const viewer = await openPage();
      await viewer.page.goto(`${gateway.url}watch/demo?transport=nal`);
      await playing(viewer.page, "nal");
      await page.locator('[data-serial="demo"] summary').click();
      await page.getByRole("img", { name: "Preview of demo" }).waitFor();
      await page.getByRole("table", { name: "Transports of demo" }).waitFor();
      await page.getByRole("log", { name: "Events" }).waitFor();
      assert.ok((await overflow(page)) <= 0);
      await screenshot(page, `dashboard-360-${colorScheme}`, { fullPage: true });
      await viewer.close();

      await page.goto(`${gateway.url}watch/demo`);
      await playing(page);
      await page.locator("sluicegate-player").getByRole("button", { name: "Stats" }).click();
      assert.ok((await overflow(page)) <= 0);
      await screenshot(page, `watch-360-${colorScheme}`, { fullPage: true });
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("the pages can be installed as an app", async () => {
    const { page, problems, close } = await openPage();
    const devtools = await page.context().newCDPSession(page);
    for (const path of ["", "watch/demo"]) {
      await page.goto(gateway.url + path);
      const { url, errors, data } = await devtools.send("Page.getAppManifest");
      assert.deepEqual([url, errors], [`${gateway.url}assets/app.webmanifest`, []]);
      for (const { src, type } of JSON.parse(data).icons) {
        const icon = await page.request.get(new URL(src, url).href);
        assert.deepEqual([icon.status(), icon.headers()["content-type"]], [200, type], src);
      }
      const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
      // Tests run in a private window, which cannot install apps.
      assert.deepEqual(installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== "in-incognito"), []);
    }
    assert.deepEqual(problems, []);
    await close();
  });

  test("pages are dark with light text in dark mode", async () => {
    const { page, problems, close } = await openPage({ colorScheme: "dark" });
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

  test("no animations with reduced motion", async () => {
    const { page, close } = await openPage({ reducedMotion: "reduce" });
    await page.goto(`${gateway.url}watch/demo`);
    await playing(page);
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    await close();
  });
});
