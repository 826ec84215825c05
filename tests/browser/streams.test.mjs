// The page that manages streams: trying, adding, changing and removing them, by mouse and keyboard, below a base path,
// and whether it can be used by everybody (axe-core).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, overflow, playing, screenshot } from "./support.mjs";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const CONFIG = `
[server]
base-path = "/cams"
[streams.porch]
source = "test-pattern"
`;

describe("managing streams", { timeout: 240_000 }, () => {
  const { gateway, openPage } = gatewayAndBrowser({ config: () => CONFIG });
  const url = (path) => new URL(`/cams/${path}`, gateway.url).href;

  /** The page, with what it asked for elsewhere than below the base path. */
  async function opened(options) {
    const result = await openPage(options);
    const { page } = result;
    const elsewhere = [];
    page.on("request", (request) => {
      if (!request.url().startsWith(url("")) && !request.url().startsWith("data:")) elsewhere.push(request.url());
    });
    await page.goto(url("streams"));
    await page.getByRole("listitem").filter({ hasText: "porch" }).waitFor();
    return { ...result, elsewhere };
  }

  const item = (page, name) => page.locator("#list > li").filter({ has: page.getByText(name, { exact: true }) });

  /** Adds a stream with a rendition. */
  async function add(page, name, source) {
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByLabel("Source").fill(source);
    await page.getByRole("button", { name: "Add rendition" }).click();
    const rendition = page.getByRole("group", { name: "New rendition" });
    await rendition.getByLabel("Name").fill("small");
    await rendition.getByLabel("Width").fill("320");
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await page.getByRole("status").getByText(`${name} was added.`).waitFor();
  }

  test("a source is tried and described, with a picture", async () => {
    const { page, problems, elsewhere, close } = await opened();
    await page.getByLabel("Source").fill("test-pattern");
    await page.getByRole("button", { name: "Try" }).click();
    await page.getByRole("button", { name: "Cancel" }).waitFor();
    await page.getByRole("status").getByText(/^Connected, H\.264 \d+×\d+, \d+\/s, no audio, .*bit\/s\.$/).waitFor();
    const preview = page.getByRole("img", { name: "A frame of the source" });
    await preview.waitFor();
    assert.equal(await preview.evaluate((image) => image.decode().then(() => image.naturalWidth)), 320);
    await page.getByRole("button", { name: "Try" }).waitFor();
    await screenshot(page, "streams-tried", { fullPage: true });
    assert.deepEqual([problems, elsewhere], [[], []]);
    await close();
  });

  test("what is wrong with a source is told in words, and a try can be cancelled", async () => {
    const { page, close } = await opened();
    await page.getByRole("button", { name: "Try" }).click();
    await page.getByRole("alert").getByText("Write the source").waitFor();
    await page.getByLabel("Source").fill("file:/etc/passwd");
    await page.getByRole("button", { name: "Try" }).click();
    await page.getByRole("alert").getByText("only in the config file").waitFor();
    await page.getByLabel("Source").fill("rtsp://admin:hunter2@127.0.0.1:1/x");
    await page.getByRole("button", { name: "Try" }).click();
    const alert = page.getByRole("alert").getByText("nothing listens there");
    await alert.waitFor();
    assert.ok(!(await alert.textContent()).includes("hunter2"));
    await page.getByLabel("Source").fill("test-pattern");
    await page.getByRole("button", { name: "Try" }).click();
    const ended = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/api/try"));
    await page.getByRole("button", { name: "Cancel" }).click();
    await ended;
    await page.getByRole("button", { name: "Try" }).waitFor();
    assert.equal(await page.getByText("Trying the source").count(), 0);
    await close();
  });

  test("a stream is added, changed without its source, and removed", async () => {
    const { page, problems, elsewhere, close } = await opened();
    await add(page, "front door", "rtsp://admin:hunter2@127.0.0.1:554/1");
    const link = page.getByRole("status").getByRole("link", { name: "Watch front door" });
    assert.equal(await link.evaluate((node) => node.href), url("watch/front%20door"));
    assert.equal(await page.getByLabel("Source").inputValue(), "");
    const door = item(page, "front door");
    await door.getByText("added here · 1 rendition: small").waitFor();
    // Nothing on the page has the password.
    assert.ok(!(await page.content()).includes("hunter2"));
    // What is in the config file is only shown.
    assert.equal(await item(page, "porch").getByRole("button").count(), 0);

    await door.getByRole("button", { name: "Change front door" }).click();
    const dialog = page.getByRole("dialog", { name: "Change front door" });
    const source = dialog.getByLabel("Source");
    assert.equal(await source.inputValue(), "");
    assert.equal(await source.getAttribute("placeholder"), "stays as it is: rtsp://127.0.0.1:554/…");
    assert.equal(await dialog.getByRole("group", { name: "Rendition small" }).getByLabel("Width").inputValue(), "320");
    await dialog.getByRole("button", { name: "Remove rendition" }).click();
    await dialog.getByLabel("Always on").check();
    await screenshot(page, "streams-change");
    await dialog.getByRole("button", { name: "Save" }).click();
    await door.getByText("added here · always on").waitFor();
    assert.ok(!(await dialog.isVisible()));
    await door.getByText("rtsp://127.0.0.1:554/…").waitFor();

    await door.getByRole("button", { name: "Remove front door" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    assert.equal(await door.count(), 1);
    await door.getByRole("button", { name: "Remove front door" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove front door" }).click();
    await door.waitFor({ state: "detached" });
    assert.deepEqual([problems, elsewhere], [[], []]);
    await close();
  });

  test("who watches stays when a stream changes, and is told when it is removed", async () => {
    const { page, close } = await opened();
    await add(page, "garden", "test-pattern");
    const watching = await openPage();
    await watching.page.goto(url("watch/garden?transport=nal"));
    const first = await playing(watching.page, "nal");
    const put = { method: "PUT", body: JSON.stringify({ encode: { width: 640, height: 360 } }) };
    const [address, status] = [url("api/streams/garden"), (init) => fetch(address, init).then((answer) => answer.status)];
    assert.equal(await status(put), 200);
    await watching.page.waitForFunction(() => document.querySelector("sluicegate-player")?.stats?.width === 640);
    const later = await frameNumberReaches(watching.page, first.number + 30);
    assert.equal(later.stats.transport, "nal");
    assert.equal(await status({ method: "DELETE" }), 200);
    await watching.page.getByText("no stream `garden`").waitFor();
    await screenshot(watching.page, "streams-removed");
    await watching.close();
    await close();
  });

  test("what the gateway refuses is told beside the form, which keeps what was typed", async () => {
    const { page, close } = await opened();
    await page.getByLabel("Name", { exact: true }).fill("a/b");
    await page.getByLabel("Source").fill("test-pattern");
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await page.getByRole("alert").getByText("is not a valid stream name").waitFor();
    assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "a/b");
    await page.getByLabel("Name", { exact: true }).fill("porch");
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await page.getByRole("alert").getByText("config").waitFor();
    await close();
  });

  test("it can be used by keyboard alone", async () => {
    const { page, close } = await opened();
    const tabTo = async (locator) => {
      for (let presses = 0; presses < 40; presses++) {
        await page.keyboard.press("Tab");
        if (await locator.evaluate((element) => element === document.activeElement)) return;
      }
      assert.fail("it cannot be reached");
    };
    await tabTo(page.getByLabel("Name", { exact: true }));
    await page.keyboard.type("yard");
    await tabTo(page.getByLabel("Source"));
    await page.keyboard.type("test-pattern");
    await page.keyboard.press("Enter");
    await item(page, "yard").waitFor();
    await tabTo(page.getByRole("button", { name: "Change yard" }));
    await page.keyboard.press("Enter");
    await tabTo(page.getByRole("dialog").getByLabel("Always on"));
    await page.keyboard.press("Space");
    await page.keyboard.press("Enter");
    await item(page, "yard").getByText("always on").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Change");
    await tabTo(page.getByRole("button", { name: "Remove yard" }));
    await page.keyboard.press("Enter");
    await tabTo(page.getByRole("dialog").getByRole("button", { name: "Remove yard" }));
    await page.keyboard.press("Enter");
    await item(page, "yard").waitFor({ state: "detached" });
    await page.waitForFunction(() => document.activeElement?.id === "list-title");
    await close();
  });

  test("the dashboard leads here", async () => {
    const { page, elsewhere, close } = await opened();
    await page.goto(url(""));
    await page.getByRole("link", { name: "Manage" }).click();
    await page.waitForURL(url("streams"));
    assert.deepEqual(elsewhere, []);
    await close();
  });

  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [
      { width: 360, height: 740 },
      { width: 1440, height: 900 },
    ]) {
      test(`the page has no violations of accessibility rules at ${viewport.width} px, ${colorScheme}`, async () => {
        const { page, close } = await opened({ viewport, colorScheme });
        const check = async (name) => {
          await page.evaluate(AXE);
          const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
          const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
          assert.deepEqual(found, [], name);
          assert.equal(await overflow(page), 0, name);
          await screenshot(page, `streams-${name}-${viewport.width}-${colorScheme}`, { fullPage: true });
        };
        const name = `door-${viewport.width}-${colorScheme}`;
        await add(page, name, "test-pattern");
        await page.getByLabel("Source").fill("test-pattern");
        await page.getByRole("button", { name: "Try" }).click();
        await page.getByRole("img", { name: "A frame of the source" }).waitFor();
        await page.getByRole("button", { name: "Add rendition" }).click();
        await check("page");
        await page.getByLabel("Source").fill("file:x");
        await page.getByRole("button", { name: "Try" }).click();
        await page.getByRole("alert").getByText("only in the config file").waitFor();
        await check("problem");
        await page.getByRole("button", { name: `Change ${name}` }).click();
        await page.getByRole("dialog").waitFor();
        await check("dialog");
        await page.keyboard.press("Escape");
        await page.getByRole("button", { name: `Remove ${name}` }).click();
        await page.getByRole("dialog").waitFor();
        await check("removal");
        await close();
      });
    }
  }
});
