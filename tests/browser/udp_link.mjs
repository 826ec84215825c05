// Simulated network link for UDP: `sluicegate-link`, a relay between a browser and the gateway's UDP port.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { after, afterEach, before } from "node:test";
import { createInterface } from "node:readline";
import { built, Gateway, launch, newPage, playing, recordMediaSockets } from "./support.mjs";

/** Conditions of a link that limits nothing. */
const GOOD = ["rate off", "queue 300", "delay 5", "loss 0", "reorder 0 0", "block off"];

/**
 * Starts a gateway, a link in front of its UDP port and Chromium, which reaches that port through the link, before the
 * tests of the calling `describe`. Afterwards all are stopped. `config` returns the streams and transports of the
 * gateway.
 */
export function gatewayBehindLink(config) {
  let udpPort;
  const gateway = new Gateway({ config: async () => `[server]\nwebtransport = ${udpPort}\n${await config()}` });
  const link = new UdpLink();
  let browser;
  before(async () => {
    udpPort = await freeUdpPort();
    await gateway.start();
    await link.start(udpPort);
    browser = await launch([`--host-resolver-rules=MAP 127.0.0.1:${udpPort} 127.0.0.1:${link.port}`]);
  });
  afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));
  after(async () => {
    await browser?.close();
    await link.stop();
    await gateway.stop();
  });
  /** A page with the URLs of its sockets that carry media. */
  const open = async () => {
    const opened = await newPage(browser, { viewport: { width: 480, height: 360 } });
    return { ...opened, sockets: recordMediaSockets(opened.page) };
  };
  /** A page that plays this stream over WebTransport, on a good link at first; `query` may leave the choice to the gateway. */
  const play = async (stream, query = "?transport=webcodecs") => {
    await link.set(...GOOD);
    const opened = await open();
    const { page, sockets } = opened;
    const before = await link.count();
    await page.goto(`${gateway.url}watch/${stream}${query}`);
    const { number } = await playing(page, "webcodecs");
    const { down } = await link.count();
    assert.ok(down.forwarded > before.down.forwarded, "it plays over the link");
    assert.equal(sockets.length, 0);
    await page.evaluate(() => (window.sameDocument = true));
    return { ...opened, number };
  };
  return { gateway, link, open, play };
}

/** A UDP port that was free a moment ago. */
async function freeUdpPort() {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  await once(socket, "close");
  return port;
}

/** The link between a page and a gateway. */
class UdpLink {
  #child;
  #lines;
  /** Port of the link on the loopback address. */
  port = 0;

  /** Starts relaying to the gateway's UDP port. */
  async start(gatewayPort) {
    const child = spawn(built("sluicegate-link"), [`127.0.0.1:${gatewayPort}`], { stdio: ["pipe", "pipe", "inherit"] });
    this.#child = child;
    const end = () => child.kill("SIGKILL");
    process.once("exit", end);
    child.once("exit", () => process.off("exit", end));
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.port = Number((await this.#line()).split(":").at(-1));
    return this;
  }

  /** Changes conditions, one after another; see `sluicegate-link`. Returns the packets so far. */
  async set(...changes) {
    let counts;
    for (const change of changes) {
      this.#child.stdin.write(`${change}\n`);
      counts = JSON.parse(await this.#line());
    }
    return counts;
  }

  count() {
    return this.set("count");
  }

  async stop() {
    if (this.#child === undefined || this.#child.exitCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.stdin.end();
    await exited;
  }

  async #line() {
    const { value, done } = await this.#lines.next();
    assert.ok(!done, "the link has ended");
    return value;
  }
}
