// Embedding: a page of another site displays a stream with one script tag if the gateway's `origins` include it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, playing } from "./support.mjs";

describe("a page of another site", { timeout: 120_000 }, () => {
  // One server with two origins: its IP address is in `origins`, its host name is not.
  const site = createServer(serve);
  let allowed;
  let foreign;

  before(async () => {
    site.listen(0, "127.0.0.1");
    await once(site, "listening");
    allowed = `http://127.0.0.1:${site.address().port}`;
    foreign = `http://localhost:${site.address().port}`;
  });
  const { gateway, openPage } = gatewayAndBrowser({
    config: () => `
      [server]
      origins = ["${allowed}"]
      [streams.demo]
      source = "test-pattern"
      encode = { keyframe-interval = "1s" }
    `,
  });
  after(() => {
    site.closeAllConnections();
    site.close();
  });

  /** Serves the site: `/embed` loads the script from the gateway, `/own` has its own copy. */
  async function serve(request, response) {
    const { pathname, searchParams } = new URL(request.url, "http://site");
    const [transport, stream] = [searchParams.get("transport"), searchParams.get("stream") ?? ""];
    if (pathname.startsWith("/assets/")) {
      const file = await fetch(new URL(pathname, gateway.url));
      response.writeHead(200, { "content-type": file.headers.get("content-type") });
      response.end(Buffer.from(await file.arrayBuffer()));
      return;
    }
    const [script, src] =
      pathname === "/own" ? ["/assets/player.js", `src="${gateway.url}"`] : [`${gateway.url}assets/player.js`, searchParams.has("src") ? `src="${gateway.url}live/demo"` : ""];
    response.writeHead(200, { "content-type": "text/html" });
    response.end(`<!doctype html><title>Pets</title><script type="module" src="${script}"></script>
      <sluicegate-player ${stream === "" ? "" : `stream="${stream}"`} ${src} transport="${transport}"></sluicegate-player>`);
  }

  for (const transport of ["webcodecs", "nal", "mse", "hls", "mjpeg"]) {
    test(`${transport} plays on a page of an allowed origin`, async () => {
      const { page, problems, close } = await openPage({ viewport: { width: 800, height: 600 } });
      await page.goto(`${allowed}/embed?stream=demo&transport=${transport}`);
      const { number, stats } = await playing(page, transport);
      await frameNumberReaches(page, number + 10);
      assert.equal(stats.reason, "");
      assert.deepEqual(problems.filter((text) => !text.includes("favicon")), []);
      await close();
    });
  }

  test("src may be the full base URL of the stream", async () => {
    const { page, close } = await openPage({ viewport: { width: 800, height: 600 } });
    await page.goto(`${allowed}/embed?src&transport=auto`);
    await playing(page, "webcodecs");
    await close();
  });

  test("a page of another origin cannot load the script", async () => {
    const { page, problems, close } = await openPage();
    await page.goto(`${foreign}/embed?stream=demo&transport=auto`);
    assert.equal(await page.evaluate(() => customElements.get("sluicegate-player") === undefined), true);
    assert.ok(problems.some((text) => /CORS|blocked|ERR_FAILED|403/i.test(text)), `${problems}`);
    await close();
  });

  for (const transport of ["webcodecs", "nal", "mse", "hls", "mjpeg"]) {
    test(`${transport}: another origin with its own script gets an error message`, async () => {
      const { page, close } = await openPage({ viewport: { width: 800, height: 600 } });
      await page.goto(`${foreign}/own?stream=demo&transport=${transport}`);
      const status = page.locator("sluicegate-player").getByRole("status");
      await status.getByText(`its \`origins\` setting does not include ${foreign}`).waitFor();
      assert.equal(await page.evaluate(() => document.querySelector("sluicegate-player").readNumber()), null);
      await close();
    });
  }
});
