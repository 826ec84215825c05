// nginx in front of a gateway, for tests of proxies.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./support.mjs";

/** An nginx process on a free port of loopback. */
export class Nginx {
  #directory = mkdtempSync(join(tmpdir(), "sluicegate-nginx-"));
  #child;
  port;

  /** Starts it with what `blocks` returns for its `http` section and the address that it is to listen on. */
  async start(blocks) {
    const directory = this.#directory;
    this.port = await freePort();
    const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${directory}/${name};`);
    writeFileSync(
      `${directory}/nginx.conf`,
      `daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error.log; events {}
       http { access_log off; ${folders.join(" ")}
         ${blocks(`127.0.0.1:${this.port}`)} }`,
    );
    const program = existsSync("/usr/sbin/nginx") ? "/usr/sbin/nginx" : "nginx";
    this.#child = spawn(program, ["-p", directory, "-c", "nginx.conf"], { stdio: "ignore" });
    await until("nginx listens", () => accepts(this.port));
  }

  async stop() {
    if (this.#child?.exitCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill();
      await exited;
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

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
