// What most browser tests start first: a gateway and a browser for all tests of a `describe`.

import { after, before } from "node:test";
import { Gateway, launch, newPage } from "./support.mjs";

/**
 * Starts a gateway and then Chromium before the tests of the calling `describe`, and stops both afterwards, Chromium
 * first. `config` and `env` are those of `Gateway`; `browserArguments` are added to Chromium's command line.
 *
 * `openPage` is `newPage` with this browser. Like the URL of `gateway`, it can be used only once both have started: in
 * tests, and in hooks that the `describe` adds after this call.
 */
export function gatewayAndBrowser({ config, env, browserArguments } = {}) {
  const gateway = new Gateway({ config, env });
  let browser;
  before(async () => {
    await gateway.start();
    browser = await launch(browserArguments);
  });
  after(async () => {
    await browser?.close();
    await gateway.stop();
  });
  return { gateway, openPage: (options) => newPage(browser, options) };
}
