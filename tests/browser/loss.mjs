// Measures the age of the picture per transport for `make bench`: node tests/browser/loss.mjs SECONDS ADDRESS.
//
// The gateway listens on ADDRESS; CHROMIUM is on the other side of a link. Prints a JSON list of { transport, displayed,
// screen }: the median age of a frame when it is displayed, and median and 95th percentile of the age of what is on the
// screen, in ms; or { transport, problem } if it did not play.

import assert from "node:assert/strict";
import { Gateway, launch, newPage, frameNumberReaches, playing, recordMediaSockets } from "./support.mjs";

const SECONDS = Number(process.argv[2] ?? 30);
const ADDRESS = process.argv[3] ?? "127.0.0.1";
/** Frames to skip first, for a third of the measuring time, until players have settled. */
const BEFORE = 10 * SECONDS;

const gatewayWith = (server) =>
  new Gateway({
    address: ADDRESS,
    config: `
      [server]
      open = true
      ${server}
      [streams.demo]
      source = "test-pattern"
      always-on = true
      encode = { width = 640, height = 360, frame-rate = 30 }
      [transports.hls]
      part = "200ms"
    `,
  });

/** Measures one transport in a new browser; `isSocket` says whether it is to have a WebSocket for media. */
async function watch(gateway, transport, isSocket) {
  // WebTransport and WebCodecs need a secure context, which an address other than that of loopback is not.
  const browser = await launch([`--unsafely-treat-insecure-origin-as-secure=${new URL(gateway.url).origin}`]);
  try {
    const { page, problems } = await newPage(browser, { viewport: { width: 800, height: 600 } });
    const sockets = recordMediaSockets(page);
    await page.goto(`${gateway.url}watch/demo?transport=${transport}`);
    const first = await playing(page, transport);
    await frameNumberReaches(page, first.number + BEFORE);
    const found = await page.evaluate(measureAge, SECONDS);
    const { transport: played } = await page.evaluate(() => document.querySelector("sluicegate-player").stats);
    assert.deepEqual([played, sockets.length > 0], [transport, isSocket]);
    assert.deepEqual(problems, []);
    return found;
  } finally {
    // Limits the wait, as a hanging page would block it.
    await Promise.race([browser.close(), new Promise((resolve) => setTimeout(resolve, 5000))]);
  }
}

/** Runs in the page. */
async function measureAge(seconds) {
  const INTERVAL_MS = 50;
  const CLOCK_RANGE = 2 ** 24;
  const player = document.querySelector("sluicegate-player");
  const displayed = [];
  const screen = [];
  const record = ({ detail }) => detail.latencyKind === "picture" && displayed.push(detail.latencyMs);
  player.addEventListener("sluicegate-stats", record);
  const until = performance.now() + 1000 * seconds;
  while (performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS * (0.5 + Math.random())));
    // Gateway and browser are on one machine, with one clock.
    const now = Date.now();
    const clock = player.readClock();
    if (clock === null) continue;
    const age = (now - clock) % CLOCK_RANGE;
    screen.push(age < 0 ? age + CLOCK_RANGE : age);
  }
  player.removeEventListener("sluicegate-stats", record);
  const quantile = (values, part) => values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];
  return { displayed: quantile(displayed, 0.5), screen: [quantile(screen, 0.5), quantile(screen, 0.95)] };
}

const gateway = gatewayWith("");
const bbr = gatewayWith('congestion = "bbr"');
const cubic = gatewayWith('congestion = "cubic"');
const withoutUdp = gatewayWith("webtransport = false");
const found = [];
try {
  for (const each of [gateway, bbr, cubic, withoutUdp]) await each.start();
  for (const [name, server, transport, isSocket] of [
    ["webcodecs, WebTransport", gateway, "webcodecs", false],
    ["webcodecs, WebTransport, BBR", bbr, "webcodecs", false],
    ["webcodecs, WebTransport, CUBIC", cubic, "webcodecs", false],
    ["webcodecs, WebSocket", withoutUdp, "webcodecs", true],
    ["nal", gateway, "nal", true],
    ["mse", gateway, "mse", true],
    ["hls", gateway, "hls", false],
    ["mjpeg", gateway, "mjpeg", false],
  ]) {
    try {
      found.push({ transport: name, ...(await watch(server, transport, isSocket)) });
    } catch (error) {
      found.push({ transport: name, problem: String(error).split("\n")[0] });
    }
  }
} finally {
  for (const each of [gateway, bbr, cubic, withoutUdp]) await each.stop();
}
console.log(JSON.stringify(found));
process.exit(0);
