// Accounts in browsers: signing in and sharing without script, watching, what ends when a link is revoked, and whether
// the pages can be used by everybody (axe-core).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { binary, overflow, playing, screenshot } from "./support.mjs";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const PASSWORD = "a horse, a battery";
const config = () => `
[server]
names = ["cam.test"]
[streams.porch]
source = "test-pattern"
[streams.garden]
source = "test-pattern"
[users.eva]
password = "${execFileSync(binary(), ["user", "hash"], { input: `${PASSWORD}\n`, encoding: "utf8" }).trim()}"
view = ["porch"]
capture = ["porch"]
`;

/** Time (ms) for what is revoked to end. */
const SOON = 1000;

describe("accounts", { timeout: 240_000 }, () => {
  // By this name, a browser is not on the gateway's own machine.
  const { gateway, openPage } = gatewayAndBrowser({ config, browserArguments: ["--host-resolver-rules=MAP cam.test 127.0.0.1"] });
  const url = (path) => `http://cam.test:${new URL(gateway.url).port}${path}`;

  /** A page of a browser without scripts that has signed in and shows `path`. */
  async function signedIn(path = "/account") {
    const opened = await openPage({ javaScriptEnabled: false });
    const { page } = opened;
    await page.goto(url(path));
    await page.waitForURL("**/login?next=*");
    await page.getByLabel("Name").fill("eva");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(url(path));
    return opened;
  }

  /** A page with scripts of the browser that has the cookies of `page`. */
  async function withScripts(page, options = {}) {
    return openPage({ storageState: await page.context().storageState(), ...options });
  }

  test("a wrong password is answered without script, and the right one leads to the page that was wanted", async () => {
    const { page, close } = await openPage({ javaScriptEnabled: false });
    await page.goto(url("/watch/porch"));
    await page.getByLabel("Name").fill("eva");
    await page.getByLabel("Password").fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").getByText("the password is wrong").waitFor();
    assert.equal(await page.getByLabel("Name").inputValue(), "eva");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(url("/watch/porch"));
    await close();
  });

  test("who has signed in watches what is permitted, and the rest does not exist", async () => {
    const reader = await signedIn();
    const { page, problems, close } = await withScripts(reader.page);
    await page.goto(url("/"));
    await page.locator('[data-serial="porch"]').waitFor();
    assert.equal(await page.locator('[data-serial="garden"]').count(), 0);
    await page.goto(url("/watch/porch"));
    await playing(page);
    // The dashboard asks whether it may list components.
    assert.deepEqual(problems.filter((text) => !text.includes("403")), []);
    await page.goto(url("/watch/garden"));
    await page.getByRole("alert").getByText("garden").waitFor();
    await close();
    await reader.page.getByRole("button", { name: "Sign out" }).click();
    await reader.page.waitForURL("**/login");
    await reader.close();
  });

  test("a share link plays in another browser, and ends within a second when it is revoked", async () => {
    const owner = await signedIn("/account?stream=porch");
    await owner.page.getByRole("button", { name: "Create link" }).click();
    const link = await owner.page.getByLabel("Whoever has this address").inputValue();
    assert.ok(link.startsWith(url("/s/")), link);
    const guest = await openPage();
    await guest.page.goto(link);
    await guest.page.waitForURL("**/watch/porch");
    await guest.page.goto(url("/watch/porch?transport=mjpeg"));
    await playing(guest.page, "mjpeg");
    const ended = guest.page.evaluate(
      () =>
        new Promise((resolve) => {
          const player = document.querySelector("sluicegate-player");
          const check = () => (player.stats.phase === "playing" ? setTimeout(check, 10) : resolve(Date.now()));
          check();
        }),
    );
    // The list has the link, without its address.
    await owner.page.goto(url("/account"));
    assert.ok(!(await owner.page.content()).includes(link));
    const began = Date.now();
    await owner.page.getByRole("button", { name: "Revoke the link to porch" }).click();
    const took = (await ended) - began;
    assert.ok(took < SOON, `${took} ms`);
    const again = await guest.page.goto(url("/watch/porch"));
    assert.ok(again.url().includes("/login?next="), again.url());
    await guest.close();
    await owner.close();
  });

  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [
      { width: 360, height: 740 },
      { width: 1440, height: 900 },
    ]) {
      test(`the pages have no violations of accessibility rules at ${viewport.width} px, ${colorScheme}`, async () => {
        const reader = await signedIn();
        await reader.page.getByLabel("Name").fill("wall display");
        await reader.page.getByRole("button", { name: "Create token" }).click();
        await reader.page.getByRole("textbox", { name: "The token" }).waitFor();
        await reader.page.getByRole("button", { name: "Create link" }).click();
        const { page, close } = await withScripts(reader.page, { viewport, colorScheme });
        for (const path of ["/login", "/account", "/", "/watch/porch"]) {
          await page.goto(url(path));
          await page.evaluate(AXE);
          const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
          const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
          assert.deepEqual(found, [], path);
          assert.equal(await overflow(page), 0, path);
          if (path !== "/" && path !== "/watch/porch") await screenshot(page, `account${path.replace("/", "-")}-${viewport.width}-${colorScheme}`, { fullPage: true });
        }
        await close();
        await reader.close();
      });
    }
  }

  test("the form and the account can be used by keyboard alone", async () => {
    const { page, close } = await openPage({ javaScriptEnabled: false });
    await page.goto(url("/login?next=/account"));
    const tabTo = async (locator) => {
      for (let presses = 0; presses < 30; presses++) {
        await page.keyboard.press("Tab");
        if (await locator.evaluate((element) => element === document.activeElement)) return;
      }
      assert.fail("it cannot be reached");
    };
    await tabTo(page.getByLabel("Name"));
    await page.keyboard.type("eva");
    await tabTo(page.getByLabel("Password"));
    await page.keyboard.type(PASSWORD);
    await page.keyboard.press("Enter");
    await page.waitForURL(url("/account"));
    await tabTo(page.getByRole("button", { name: "Create link" }));
    await page.keyboard.press("Enter");
    await page.getByLabel("Whoever has this address").waitFor();
    await tabTo(page.getByRole("button", { name: "Revoke the link to porch" }).first());
    await page.keyboard.press("Enter");
    await page.waitForURL(url("/account"));
    await close();
  });
});
