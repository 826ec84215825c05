// The wall with sixteen streams: previews only within the viewport, captures and their strip, and a stream in a
// dialog.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, test } from "node:test";
import { Gateway, launch, newPage, overflow, screenshot, setHidden, until } from "./support.mjs";

const NAMES = Array.from({ length: 16 }, (_, at) => `tile-${String(at + 1).padStart(2, "0")}`);
const [WIDTH, HEIGHT] = [320, 180];

const CONFIG = [
  '[capture]\ndir = "captures"\n',
  ...NAMES.map((name) => `[streams.${name}]\nsource = "lavfi:testsrc2=size=${WIDTH}x${HEIGHT}:rate=4"\nidle = "2s"\n`),
].join("\n");

describe("wall", { timeout: 300_000 }, () => {
  const gateway = new Gateway({ config: CONFIG });
  let browser;

  before(async () => {
    await gateway.start();
    browser = await launch();
  });
  // A test that fails leaves its page open, which would keep the streams of the next one running.
  afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));
  after(async () => {
    await browser?.close();
    await gateway.stop();
  });

  const states = async () => {
    const response = await fetch(new URL("/api/devices", gateway.url));
    return (await response.json()).map(({ state }) => state);
  };
  const allIdle = () => until("all streams idle", async () => (await states()).every((state) => state === "idle"));

  test("opening the wall starts no stream; a click starts one", async () => {
    await allIdle();
    const { page, problems, close } = await open(browser, gateway);
    const requests = recordPreviewRequests(page);
    for (let polls = 0; polls < 3; polls++) await nextDevicesResponse(page);
    assert.equal(requests.all.length, 0);
    assert.ok((await states()).every((state) => state === "idle"));

    // By keyboard.
    const show = page.getByRole("button", { name: "Show tile-03" });
    await show.focus();
    await page.keyboard.press("Enter");
    await preview(page, "tile-03").waitFor();
    assert.deepEqual([...requests.serials()], ["tile-03"]);
    await page.locator('[data-serial="tile-03"] .badge[data-state="live"]').waitFor();
    // Previews do not count as viewers: otherwise one dashboard would keep the streams of another one running.
    assert.equal((await gateway.device("tile-03")).viewers, 0);
    const hide = page.getByRole("button", { name: "Hide tile-03" });
    assert.ok(await hide.evaluate((button) => button === document.activeElement));
    await page.keyboard.press("Enter");
    await allIdle();
    assert.deepEqual(problems, []);
    await close();
  });

  test("only visible tiles request previews, at most two per second each", async () => {
    const { page, problems, close } = await open(browser, gateway, { viewport: { width: 1000, height: 620 } });
    const requests = recordPreviewRequests(page);
    await page.getByRole("button", { name: "Show all" }).click();
    const seen = await visibleTiles(page);
    assert.ok(seen.length >= 3 && seen.length < 16, `${seen}`);
    for (const name of seen) await preview(page, name).waitFor();
    await page.evaluate(() => {
      window.shifts = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.shifts += entry.value;
      }).observe({ type: "layout-shift" });
    });

    requests.forget();
    await page.waitForTimeout(6000);
    const counts = new Map(seen.map((name) => [name, requests.count(name)]));
    assert.deepEqual([...requests.serials()].sort(), seen);
    assert.ok(requests.maxInFlight <= 3, `${requests.maxInFlight} at a time`);
    for (const [name, count] of counts) assert.ok(count >= 4 && count <= 13, `${name}: ${count} in 6 s`);
    assert.ok((await page.evaluate(() => window.shifts)) < 0.01);
    await screenshot(page, "wall");

    await page.getByRole("log", { name: "Events" }).scrollIntoViewIfNeeded();
    const last = await visibleTiles(page);
    await preview(page, "tile-16").waitFor();
    requests.forget();
    await page.waitForTimeout(2000);
    const requested = [...requests.serials()];
    assert.ok(requested.length > 0 && requested.every((name) => last.includes(name)), `${requested} of ${last}`);
    assert.ok(!requested.includes("tile-01"));

    await setHidden(page, true);
    await until("no requests in flight", () => requests.inFlight === 0);
    requests.forget();
    await page.waitForTimeout(1500);
    assert.equal(requests.all.length, 0);
    // No dashboard is visible, so no stream may run.
    await allIdle();
    await setHidden(page, false);
    await until("previews are requested again", () => requests.all.length > 0);
    assert.match(page.url(), /\?show=all$/);
    assert.deepEqual(problems, []);
    await close();
  });

  test("sixteen visible tiles all get previews, and the page stays smooth", async () => {
    const { page, problems, close } = await open(browser, gateway, { viewport: { width: 1600, height: 1500 } }, "?show=all");
    for (const name of NAMES) await preview(page, name).waitFor();
    const requests = recordPreviewRequests(page);
    const longest = await page.evaluate(async () => {
      let longest = 0;
      let last = performance.now();
      const end = last + 5000;
      while (performance.now() < end) {
        await new Promise(requestAnimationFrame);
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }
      return longest;
    });
    const counts = NAMES.map((name) => requests.count(name));
    assert.ok(Math.min(...counts) >= 2 && Math.max(...counts) <= 11, `${counts} in 5 s`);
    assert.ok(requests.maxInFlight <= 3);
    // Maximum duration of a screen refresh: generous, as the machine may be busy with other tests.
    assert.ok(longest < 500, `${longest} ms without a frame`);
    await screenshot(page, "wall-16");
    assert.deepEqual(problems, []);
    await close();
  });

  test("a capture can be viewed, downloaded and saved on the gateway", async () => {
    const { page, problems, close } = await open(browser, gateway);
    await page.getByRole("button", { name: "Capture tile-01" }).click();
    const strip = page.getByRole("region", { name: /capture/ });
    const first = strip.getByRole("listitem").first();
    await first.getByText(`${WIDTH} × ${HEIGHT}`).waitFor();
    assert.equal(await first.getByText("saved").count(), 0);

    const downloading = page.waitForEvent("download");
    await first.getByRole("link", { name: /^Download tile-01/ }).click();
    const download = await downloading;
    assert.match(download.suggestedFilename(), /^tile-01-\d{4}-\d\d-\d\dT[\d-]+Z\.jpg$/);
    assert.deepEqual([...readFileSync(await download.path()).subarray(0, 3)], [0xff, 0xd8, 0xff]);

    const saveOption = page.getByRole("checkbox", { name: "Save captures of tile-02 on the gateway" });
    await saveOption.check();
    await page.getByRole("button", { name: "Capture tile-02" }).click();
    await strip.getByText("saved").waitFor();
    await page.getByRole("log", { name: "Events" }).getByText("tile-02: image captured").waitFor();

    // Opens the dialog by keyboard, and closes it.
    const thumb = strip.getByRole("button", { name: /^Show tile-02/ });
    await thumb.focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "Capture" });
    const large = dialog.getByRole("img", { name: /tile-02/ });
    await large.waitFor();
    await until("the image is loaded", () => large.evaluate((image) => image.complete && image.naturalWidth > 0));
    assert.deepEqual(await large.evaluate(({ naturalWidth, naturalHeight }) => [naturalWidth, naturalHeight]), [WIDTH, HEIGHT]);
    await screenshot(page, "wall-capture");
    await page.keyboard.press("ArrowRight");
    await dialog.getByRole("img", { name: /tile-01/ }).waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    assert.ok(await thumb.evaluate((button) => button === document.activeElement));

    await page.reload();
    await saveOption.waitFor();
    assert.ok(await saveOption.isChecked());
    assert.deepEqual(problems, []);
    await close();
  });

  test("a capture error is displayed until dismissed, and listed as an event", async () => {
    const { page, close } = await open(browser, gateway);
    const failure = { type: "error", code: "CAPTURE_TIMEOUT", message: "no frame arrived within 5 s", capture_id: "c1" };
    await page.route("**/api/devices/tile-01/capture", (route) => route.fulfill({ status: 504, json: failure }));
    await page.getByRole("button", { name: "Capture tile-01" }).click();
    const tile = page.locator('[data-serial="tile-01"]');
    const alert = tile.getByRole("alert");
    await alert.getByText("CAPTURE_TIMEOUT: no frame arrived within 5 s").waitFor();
    for (let polls = 0; polls < 2; polls++) await nextDevicesResponse(page);
    assert.ok(await alert.isVisible());
    await screenshot(page, "wall-problem");
    await tile.getByRole("button", { name: "Dismiss" }).click();
    await alert.waitFor({ state: "hidden" });
    await page.getByRole("log", { name: "Events" }).getByText("tile-01: capture failed: CAPTURE_TIMEOUT").waitFor();
    await close();
  });

  test("devices appear and disappear without moving the focus", async () => {
    const { page, close } = await newPage(browser);
    const phone = { serial: "192.168.1.7:5555", url: "/live/192.168.1.7%3A5555", watch: "/watch/192.168.1.7%3A5555", model: "Pixel 7" };
    let modify = (devices) => devices;
    await page.route("**/api/devices", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: modify(await response.json()) });
    });
    await page.goto(gateway.url);
    const button = page.getByRole("button", { name: "Capture tile-02" });
    await button.focus();
    const requests = recordPreviewRequests(page);
    modify = (devices) => [{ ...devices[0], ...phone, state: "unauthorized", reason: "allow debugging on the phone" }, ...devices.slice(1)];
    const tile = page.locator('[data-serial="192.168.1.7:5555"]');
    await tile.getByText("allow debugging on the phone").waitFor();
    await tile.getByText("Pixel 7").waitFor();
    await page.locator('[data-serial="tile-01"]').waitFor({ state: "detached" });
    assert.ok(await button.evaluate((node) => node === document.activeElement));
    assert.equal(await tile.getByRole("button", { name: /^Show/ }).count(), 0);
    assert.equal(await tile.getByRole("link", { name: "Watch 192.168.1.7:5555" }).getAttribute("href"), phone.watch);
    await page.getByRole("button", { name: "Show all" }).click();
    await preview(page, "tile-02").waitFor();
    assert.ok(!requests.serials().has("192.168.1.7%3A5555"));
    // The gateway's own error, as it does not know this device.
    await tile.getByRole("button", { name: /^Capture/ }).click();
    await tile.getByRole("alert").getByText(/^UNKNOWN_DEVICE: /).waitFor();
    modify = (devices) => devices;
    await tile.waitFor({ state: "detached" });
    await page.getByRole("log", { name: "Events" }).getByText("192.168.1.7:5555: capture failed: UNKNOWN_DEVICE").waitFor();
    await close();
  });

  test("a tile opens its stream in a dialog, which disconnects when closed", async () => {
    await allIdle();
    const { page, problems, close } = await open(browser, gateway);
    const button = page.getByRole("button", { name: "Open tile-02" });
    await button.focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "tile-02" });
    await dialog.waitFor();
    await page.waitForFunction(() => document.querySelector("sluicegate-player")?.stats?.phase === "playing");
    await until("a viewer", async () => (await gateway.device("tile-02")).viewers === 1);
    await screenshot(page, "wall-opened");
    await dialog.getByRole("button", { name: "Capture tile-02" }).click();
    await dialog.getByText(/^Image captured: 320 × 180/).waitFor();
    assert.equal(await dialog.getByRole("link", { name: "Player page" }).getAttribute("href"), "/watch/tile-02");
    await page.keyboard.press("Escape");
    await page.locator("sluicegate-player").waitFor({ state: "detached" });
    assert.ok(await button.evaluate((node) => node === document.activeElement));
    await until("no viewer", async () => (await gateway.device("tile-02")).viewers === 0);
    assert.deepEqual(problems, []);
    await close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`no horizontal scrolling at 390 px, ${colorScheme}`, async () => {
      await allIdle();
      const { page, problems, close } = await open(browser, gateway, { viewport: { width: 390, height: 844 }, colorScheme });
      await page.getByRole("button", { name: "Show tile-01" }).click();
      await preview(page, "tile-01").waitFor();
      await page.getByRole("button", { name: "Capture tile-01" }).click();
      await page.getByRole("region", { name: /capture/ }).getByRole("listitem").first().waitFor();
      assert.ok((await overflow(page)) <= 0);
      await screenshot(page, `wall-390-${colorScheme}`);
      await page.getByRole("button", { name: "Open tile-01" }).click();
      await page.waitForFunction(() => document.querySelector("sluicegate-player")?.stats?.phase === "playing");
      assert.ok((await overflow(page)) <= 0);
      await screenshot(page, `wall-390-opened-${colorScheme}`);
      assert.deepEqual(problems, []);
      await close();
    });
  }
});

/** Opens the wall and waits for all its tiles. */
async function open(browser, gateway, options = {}, query = "") {
  const opened = await newPage(browser, options);
  await opened.page.goto(gateway.url + query);
  await opened.page.locator('[data-serial="tile-16"]').waitFor();
  return opened;
}

/** Records preview requests from now on. */
function recordPreviewRequests(page) {
  const serial = (request) => /\/live\/([^/]+)\/frame\.jpg/.exec(request.url())?.[1];
  const requests = {
    all: [],
    inFlight: 0,
    maxInFlight: 0,
    serials: () => new Set(requests.all),
    count: (name) => requests.all.filter((other) => other === name).length,
    forget: () => {
      requests.all = [];
      requests.maxInFlight = 0;
    },
  };
  const open = new Set();
  page.on("request", (request) => {
    const name = serial(request);
    if (name === undefined) return;
    requests.all.push(name);
    open.add(request);
    requests.inFlight = open.size;
    requests.maxInFlight = Math.max(requests.maxInFlight, open.size);
  });
  for (const event of ["requestfinished", "requestfailed"]) {
    page.on(event, (request) => {
      open.delete(request);
      requests.inFlight = open.size;
    });
  }
  return requests;
}

function preview(page, name) {
  return page.getByRole("img", { name: `Preview of ${name}` });
}

function nextDevicesResponse(page) {
  return page.waitForResponse((response) => response.url().endsWith("/api/devices"));
}

/** Streams whose tiles are at least partly within the viewport. */
function visibleTiles(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("[data-serial]")]
      .filter((tile) => {
        const { top, bottom } = tile.getBoundingClientRect();
        return bottom > 0 && top < innerHeight;
      })
      .map((tile) => tile.dataset.serial),
  );
}
