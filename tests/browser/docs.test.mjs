// The documentation pages: no link is dead, every page fits a phone screen and dark mode, and the API page shows the
// whole API description and can be filtered.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { overflow, screenshot } from "./support.mjs";

describe("the API's description", { timeout: 120_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser();
  let description;

  before(async () => {
    const response = await fetch(new URL("/api/openapi.json", gateway.url));
    assert.equal(response.status, 200);
    description = await response.json();
  });

  const load = async (options = {}, hash = "") => {
    const opened = await openPage(options);
    await opened.page.goto(`${gateway.url}docs/api${hash}`);
    await opened.page.locator(".operation").first().waitFor();
    return opened;
  };

  test("all paths, methods, roles and schemas are listed", async () => {
    const { page, problems, close } = await load();
    const listed = await page.locator(".operation:has(.path)").evaluateAll((nodes) =>
      nodes.map((node) => ({
        path: node.querySelector(".path").textContent,
        methods: [...node.querySelectorAll("header .method")].map(({ textContent }) => textContent),
        role: node.querySelector(".role")?.textContent,
        statuses: [...node.querySelectorAll(".response > .status")].map(({ textContent }) => textContent),
      })),
    );
    let count = 0;
    for (const [path, item] of Object.entries(description.paths)) {
      for (const method of ["get", "post", "put", "delete", "patch"]) {
        const operation = item[method];
        if (operation === undefined) continue;
        count++;
        const socket = "x-websocket" in operation;
        const found = listed.find((one) => one.path === path && (one.methods.includes(method.toUpperCase()) || (socket && one.methods.includes("WS"))));
        assert.ok(found, `${method} ${path}`);
        assert.equal(found.methods.includes("WS"), socket, path);
        assert.equal(found.role, operation["x-role"], path);
        assert.deepEqual(found.statuses.sort(), Object.keys(operation.responses).sort(), path);
      }
    }
    assert.equal(listed.length, count);
    for (const name of Object.keys(description.components.schemas)) {
      assert.equal(await page.locator(`[id="schema-${name.replace(/[^A-Za-z0-9_.-]+/g, "-")}"]`).count(), 1, name);
    }
    // Every link within the page has a target, and every id is unique.
    const dangling = await page.evaluate(() => [...document.querySelectorAll('a[href^="#"]')].map((link) => link.hash.slice(1)).filter((id) => document.getElementById(id) === null));
    assert.deepEqual(dangling, []);
    const ids = await page.locator("[id]").evaluateAll((nodes) => nodes.map(({ id }) => id));
    assert.equal(new Set(ids).size, ids.length);
    assert.ok(!(await page.locator("main").innerText()).includes("[object Object]"));
    assert.deepEqual(problems, []);
    await screenshot(page, "docs-api");
    await close();
  });

  test("WebSocket messages and error codes are listed", async () => {
    const { page, close } = await load();
    const operation = page.locator(".operation", { has: page.locator(".path", { hasText: /^\/api\/ws\/capture\/\{serial\}$/ }) });
    for (const code of ["CAPTURE_TIMEOUT", "CAPTURE_BUSY", "BAD_REQUEST", "UNSUPPORTED_FORMAT", "UNKNOWN_DEVICE", "DEVICE_OFFLINE", "DECODER_DISABLED", "DECODE_FAILED", "SAVE_FAILED"]) {
      await operation.getByRole("cell", { name: code, exact: true }).waitFor();
    }
    await operation.getByRole("heading", { name: "The client sends" }).waitFor();
    await operation.getByRole("heading", { name: "The gateway sends" }).waitFor();
    await close();
  });

  test("the filter matches all words, and a link to a hidden entry resets it", async () => {
    const { page, problems, close } = await load();
    const all = await page.locator(".operation:visible").count();
    await page.getByRole("searchbox", { name: "Filter" }).fill("/api/ws/capture CAPTURE_busy");
    await page.getByText("1 entry", { exact: true }).waitFor();
    assert.equal(await page.locator(".operation:visible").count(), 1);
    await page.locator(".operation:visible").getByRole("link", { name: "CaptureResult" }).first().click();
    assert.equal(await page.locator(".operation:visible").count(), all);
    assert.ok(await page.locator("#schema-CaptureResult").evaluate((node) => Math.abs(node.getBoundingClientRect().top) < innerHeight));
    await page.getByRole("searchbox", { name: "Filter" }).fill("no such thing");
    await page.getByText("No entry contains all of these words.").waitFor();
    assert.deepEqual(problems, []);
    await close();
  });

  test("a URL fragment scrolls to its element", async () => {
    const { page, close } = await load({}, "#schemas");
    await page.waitForFunction(() => Math.abs(document.getElementById("schemas").getBoundingClientRect().top) < innerHeight / 2);
    await close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`no horizontal scrolling at 390 px, ${colorScheme}`, async () => {
      const { page, problems, close } = await load({ viewport: { width: 390, height: 844 }, colorScheme });
      assert.ok((await overflow(page)) <= 0);
      // The contents are collapsed initially, and close after a selection.
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

  test("a failure to load the API description is displayed", async () => {
    const { page, close } = await openPage();
    await page.route("**/api/openapi.json", (route) => route.fulfill({ status: 503, json: { error: "the gateway is shutting down" } }));
    await page.goto(`${gateway.url}docs/api`);
    await page.getByRole("alert").getByText("the gateway is shutting down").waitFor();
    await close();
  });
});

describe("the documentation", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser();
  /** Everything below /docs by path: content type, and HTML of pages. */
  let found;
  /** Links between resources of the gateway: page, path, and fragment. */
  let links;
  /** Paths of all pages except the API page, which is generated by its script. */
  let pages;

  before(async () => {
    ({ found, links } = await crawl(new URL("/docs", gateway.url)));
    pages = [...found].filter(([path, { html }]) => html !== null && path !== "/docs/api").map(([path]) => path);
  });

  const open = async (path, options = {}) => {
    const opened = await openPage(options);
    await opened.page.goto(new URL(path, gateway.url).href);
    return opened;
  };

  test("no link on any page is dead", () => {
    const dead = links.filter(({ path }) => found.get(path).status !== 200).map(({ from, path }) => `${from} links to ${path}: ${found.get(path).status}`);
    assert.deepEqual(dead, []);
    assert.ok(pages.length > 1, "the first page has no links");
    for (const [path, { type }] of found) {
      if (path.startsWith("/docs")) assert.match(type, /^(?:text\/html; charset=utf-8|text\/plain; charset=utf-8|image\/.*)$/, path);
    }
  });

  test("every link fragment has a target", async () => {
    const { page, close } = await open("/docs/api");
    await page.locator(".operation").first().waitFor();
    const apiIds = new Set(await page.locator("[id]").evaluateAll((nodes) => nodes.map(({ id }) => id)));
    await close();
    const ids = new Map([...found].map(([path, { html }]) => [path, new Set([...(html ?? "").matchAll(/\s(?:id|name)="([^"]*)"/g)].map(([, id]) => id))]));
    ids.set("/docs/api", apiIds);
    const dangling = links.filter(({ path, fragment }) => fragment !== "" && found.get(path).html !== null && !ids.get(path).has(fragment));
    assert.deepEqual(dangling, []);
    for (const path of pages) {
      const all = [...found.get(path).html.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id);
      assert.equal(new Set(all).size, all.length, `${path} has an id twice`);
    }
  });

  test("the Next links lead through all pages of the navigation", async () => {
    const { page, problems, close } = await open("/");
    await page.getByRole("link", { name: "Docs", exact: true }).click();
    await page.waitForURL("**/docs");
    const navigation = page.getByRole("navigation", { name: "Documentation" });
    const paths = await navigation.getByRole("link").evaluateAll((nodes) => nodes.map((node) => node.pathname + node.hash));
    const listed = paths.filter((path) => !path.includes("#") && path !== "/docs/api");
    assert.ok(paths.includes("/docs/api"));
    assert.deepEqual(listed.filter((path) => !pages.includes(path)), []);
    for (const [at, path] of listed.entries()) {
      assert.equal(new URL(page.url()).pathname, path);
      assert.equal(await navigation.locator('[aria-current="page"]').evaluate(({ pathname }) => pathname), path);
      assert.ok((await page.getByRole("heading", { level: 1 }).count()) >= 1, path);
      const next = page.getByRole("link", { name: /^Next / });
      if (at + 1 === listed.length) assert.equal(await next.count(), 0);
      else await Promise.all([page.waitForURL(`**${listed[at + 1]}`), next.click()]);
    }
    await page.getByRole("link", { name: /^Previous / }).click();
    await page.waitForURL(`**${listed.at(-2)}`);
    await navigation.getByRole("link", { name: "Overview" }).click();
    await page.waitForURL("**/docs");
    assert.deepEqual(problems, []);
    await screenshot(page, "docs");
    await close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`no horizontal scrolling at 360 px and no errors, ${colorScheme}`, async () => {
      const { page, problems, close } = await open("/docs", { viewport: { width: 360, height: 740 }, colorScheme });
      for (const path of pages) {
        await page.goto(new URL(path, gateway.url).href);
        await page.locator("#Contents[data-ready]").waitFor();
        assert.ok((await overflow(page)) <= 0, `${path} is wider than the window`);
        assert.deepEqual(problems, [], path);
      }
      const brightness = await page.evaluate(() => Math.max(...getComputedStyle(document.querySelector("article")).backgroundColor.match(/\d+/g).map(Number)));
      assert.equal(brightness < 128, colorScheme === "dark");
      await page.goto(new URL("/docs", gateway.url).href);
      // The contents are collapsed initially.
      const link = page.getByRole("navigation", { name: "Documentation" }).getByRole("link").nth(1);
      await page.locator("#Contents[data-ready]").waitFor();
      assert.ok(await link.isHidden());
      await screenshot(page, `docs-360-${colorScheme}`);
      await page.getByText("Contents", { exact: true }).click();
      const to = await link.getAttribute("href");
      await Promise.all([page.waitForURL(`**${to}`), link.click()]);
      await close();
    });
  }

  test("the copy button copies a code block", async () => {
    const path = pages.find((one) => found.get(one).html.includes("<pre"));
    assert.ok(path, "no page has code");
    const { page, problems, close } = await open(path, { permissions: ["clipboard-read", "clipboard-write"] });
    const code = page.locator("article .code").first();
    await code.hover();
    await code.getByRole("button", { name: "Copy the code" }).click();
    await code.getByText("Copied", { exact: true }).waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(copied, (await code.locator("pre").textContent()).trimEnd());
    assert.deepEqual(problems, []);
    await close();
  });

  test("pages are readable without JavaScript", async () => {
    const { page, close } = await open("/docs", { javaScriptEnabled: false });
    assert.ok(await page.getByRole("navigation", { name: "Documentation" }).getByRole("link").nth(1).isVisible());
    await close();
  });

  test("a trailing slash leads to the page without, and unknown pages are 404", async () => {
    const status = async (path) => (await fetch(new URL(path, gateway.url))).status;
    const place = async (path) => new URL((await fetch(new URL(path, gateway.url))).url).pathname;
    for (const path of ["/docs/", "/docs/index", "/docs/index.html"]) assert.equal(await place(path), "/docs");
    assert.equal(await place("/docs/api/"), "/docs/api");
    assert.equal(await place("/docs/guide/install/"), "/docs/guide/install");
    assert.equal(await status("/docs/no/such/page"), 404);
    assert.equal(await status("/docs/repo/no.toml"), 404);
  });
});

/** Crawls the pages below /docs; other paths of the gateway are requested but not followed. */
async function crawl(start) {
  const found = new Map();
  const links = [];
  const queue = [start.pathname];
  for (const path of queue) {
    if (found.has(path)) continue;
    const stop = new AbortController();
    const response = await fetch(new URL(path, start), { signal: stop.signal });
    const type = response.headers.get("content-type") ?? "";
    const html = /^\/docs(?:\/|$)/.test(new URL(path, start).pathname) && type.startsWith("text/html") ? await response.text() : null;
    // Some of these responses are endless.
    stop.abort();
    found.set(path, { status: response.status, type, html });
    for (const [, written] of (html ?? "").matchAll(/\s(?:href|src)="([^"]*)"/g)) {
      const url = new URL(written.replaceAll("&amp;", "&"), new URL(path, start));
      if (url.origin !== start.origin) continue;
      const to = url.pathname + url.search;
      links.push({ from: path, path: to, fragment: decodeURIComponent(url.hash.slice(1)) });
      queue.push(to);
    }
  }
  return { found, links };
}
