// The page of the API says what the description says, is found through, and fits a phone and a dark room.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Gateway, launch, newPage, overflow, screenshot } from "./support.mjs";

describe("the API's description", { timeout: 120_000 }, () => {
  const gateway = new Gateway();
  let browser;
  let description;

  before(async () => {
    await gateway.start();
    browser = await launch();
    const response = await fetch(new URL("/api/openapi.json", gateway.url));
    assert.equal(response.status, 200);
    description = await response.json();
  });
  after(async () => {
    await browser?.close();
    await gateway.stop();
  });

  const load = async (options = {}, hash = "") => {
    const opened = await newPage(browser, options);
    await opened.page.goto(`${gateway.url}docs/api${hash}`);
    await opened.page.locator(".operation").first().waitFor();
    return opened;
  };

  test("every path, its methods and who may use them are there, and every schema", async () => {
    const { page, problems, close } = await load();
    const shown = await page.locator(".operation:has(.path)").evaluateAll((nodes) =>
      nodes.map((node) => ({
        path: node.querySelector(".path").textContent,
        methods: [...node.querySelectorAll("header .method")].map(({ textContent }) => textContent),
        role: node.querySelector(".role")?.textContent,
        statuses: [...node.querySelectorAll(".answer > .status")].map(({ textContent }) => textContent),
      })),
    );
    let count = 0;
    for (const [path, item] of Object.entries(description.paths)) {
      for (const method of ["get", "post", "put", "delete", "patch"]) {
        const operation = item[method];
        if (operation === undefined) continue;
        count++;
        const socket = "x-websocket" in operation;
        const found = shown.find((one) => one.path === path && (one.methods.includes(method.toUpperCase()) || (socket && one.methods.includes("WS"))));
        assert.ok(found, `${method} ${path}`);
        assert.equal(found.methods.includes("WS"), socket, path);
        assert.equal(found.role, operation["x-role"], path);
        assert.deepEqual(found.statuses.sort(), Object.keys(operation.responses).sort(), path);
      }
    }
    assert.equal(shown.length, count);
    for (const name of Object.keys(description.components.schemas)) {
      assert.equal(await page.locator(`[id="schema-${name.replace(/[^A-Za-z0-9_.-]+/g, "-")}"]`).count(), 1, name);
    }
    // Every link within the page leads somewhere, and every place is there once.
    const lost = await page.evaluate(() => [...document.querySelectorAll('a[href^="#"]')].map((link) => link.hash.slice(1)).filter((id) => document.getElementById(id) === null));
    assert.deepEqual(lost, []);
    const ids = await page.locator("[id]").evaluateAll((nodes) => nodes.map(({ id }) => id));
    assert.equal(new Set(ids).size, ids.length);
    assert.ok(!(await page.locator("main").innerText()).includes("[object Object]"));
    assert.deepEqual(problems, []);
    await screenshot(page, "docs-api");
    await close();
  });

  test("what goes over a WebSocket is described, with its error codes", async () => {
    const { page, close } = await load();
    const operation = page.locator(".operation", { has: page.locator(".path", { hasText: /^\/api\/ws\/capture\/\{serial\}$/ }) });
    for (const code of ["CAPTURE_TIMEOUT", "CAPTURE_BUSY", "BAD_REQUEST", "UNSUPPORTED_FORMAT", "UNKNOWN_DEVICE", "DEVICE_OFFLINE", "DECODER_DISABLED", "DECODE_FAILED", "SAVE_FAILED"]) {
      await operation.getByRole("cell", { name: code, exact: true }).waitFor();
    }
    await operation.getByRole("heading", { name: "The client sends" }).waitFor();
    await operation.getByRole("heading", { name: "The gateway sends" }).waitFor();
    await close();
  });

  test("the filter leaves what has all its words, and a link to what it hid shows everything again", async () => {
    const { page, problems, close } = await load();
    const all = await page.locator(".operation:visible").count();
    await page.getByRole("searchbox", { name: "Filter" }).fill("/api/ws/capture CAPTURE_busy");
    await page.getByText("1 entry", { exact: true }).waitFor();
    assert.equal(await page.locator(".operation:visible").count(), 1);
    await page.locator(".operation:visible").getByRole("link", { name: "CaptureResult" }).first().click();
    assert.equal(await page.locator(".operation:visible").count(), all);
    assert.ok(await page.locator("#schema-CaptureResult").evaluate((node) => Math.abs(node.getBoundingClientRect().top) < innerHeight));
    await page.getByRole("searchbox", { name: "Filter" }).fill("no such thing");
    await page.getByText("Nothing has all of these words.").waitFor();
    assert.deepEqual(problems, []);
    await close();
  });

  test("an address leads to its place on the page", async () => {
    const { page, close } = await load({}, "#schemas");
    await page.waitForFunction(() => Math.abs(document.getElementById("schemas").getBoundingClientRect().top) < innerHeight / 2);
    await close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`at 390 px nothing scrolls sideways, ${colorScheme}`, async () => {
      const { page, problems, close } = await load({ viewport: { width: 390, height: 844 }, colorScheme });
      assert.ok((await overflow(page)) <= 0);
      // The contents are closed until they are wanted, and close behind a choice.
      const link = page.getByRole("navigation", { name: "Contents" }).getByRole("link").first();
      assert.ok(await link.isHidden());
      await page.getByText("Contents", { exact: true }).click();
      await link.click();
      assert.ok(await link.isHidden());
      await screenshot(page, `docs-api-390-${colorScheme}`);
      assert.deepEqual(problems, []);
      await close();
    });
  }

  test("a gateway that does not answer is told in words", async () => {
    const { page, close } = await newPage(browser);
    await page.route("**/api/openapi.json", (route) => route.fulfill({ status: 503, json: { error: "the gateway is shutting down" } }));
    await page.goto(`${gateway.url}docs/api`);
    await page.getByRole("alert").getByText("the gateway is shutting down").waitFor();
    await close();
  });
});
