// Behind a minimal nginx config, which forwards no WebSocket upgrades: the pages work over HTTP, and admin routes are
// refused.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Gateway, launch, newPage, frameNumberReaches, playing, until } from "./support.mjs";

describe("behind a minimal nginx config", { timeout: 120_000 }, () => {
  const gateway = new Gateway();
  const directory = mkdtempSync(join(tmpdir(), "sluicegate-nginx-"));
  let port;
  let nginx;
  let browser;

  before(async () => {
    await gateway.start();
    port = await freePort();
    const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${directory}/${name};`);
    writeFileSync(
      `${directory}/nginx.conf`,
      `daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error.log; events {}
       http { access_log off; ${folders.join(" ")}
         server { listen 127.0.0.1:${port}; location / { proxy_pass ${gateway.url.slice(0, -1)}; } } }`,
    );
    const program = existsSync("/usr/sbin/nginx") ? "/usr/sbin/nginx" : "nginx";
    nginx = spawn(program, ["-p", directory, "-c", "nginx.conf"], { stdio: "ignore" });
    await until("nginx listens", () => accepts(port));
    // For a host name other than localhost, browsers send neither Origin nor Sec-Fetch-Site to such an address.
    browser = await launch(["--host-resolver-rules=MAP cam.test 127.0.0.1"]);
  });
  after(async () => {
    await browser?.close();
    if (nginx?.exitCode === null) {
      const exited = once(nginx, "exit");
      nginx.kill();
      await exited;
    }
    await gateway.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  for (const host of ["cam.test", "127.0.0.1"]) {
    test(`${host}: the player plays and the dashboard loads`, async () => {
      const { page, close } = await newPage(browser);
      const refused = [];
      page.on("response", (response) => {
        if (response.status() >= 400) refused.push(`${response.status()} ${new URL(response.url()).pathname}`);
      });
      await page.goto(`http://${host}:${port}/watch/demo`);
      const { number, stats } = await playing(page);
      assert.ok(["hls", "mjpeg"].includes(stats.transport), stats.transport);
      await frameNumberReaches(page, number + 20);
      assert.deepEqual(refused.filter((text) => text.includes("/assets/")), []);

      await page.goto(`http://${host}:${port}/`);
      await page.locator('[data-serial="demo"]').waitFor();
      const statuses = await page.evaluate(async () => {
        const requests = [fetch("/metrics"), fetch("/api/plugins"), fetch("/api/plugins/policy/reload", { method: "POST" })];
        return (await Promise.all(requests)).map((response) => response.status);
      });
      assert.deepEqual(statuses, [403, 403, 403]);
      await close();
    });
  }
});

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
