// Tests of the API response parsers and of number formatting.

import assert from "node:assert/strict";
import { test } from "node:test";
import { levelPath } from "../src/dashboard/bit_rate_chart";
import { parseDevices, parseViewers } from "../src/net/api";
import { errorText } from "../src/net/errors";
import { gatewayUrl } from "../src/net/gateway";
import { bitRate, duration, frameRate, milliseconds, size } from "../src/page/format";
import { Meter } from "../src/player/meter";
import { socketUrl, transportUrl } from "../src/transport/transport";

test("a complete device is parsed", () => {
  const [device] = parseDevices([
    {
      serial: "demo",
      url: "/live/demo",
      watch: "/watch/demo",
      state: "live",
      reason: "",
      since: 1_763_700_000_000,
      source: "test-pattern",
      width: 1280,
      height: 720,
      codec: "h264",
      frame_rate: 30,
      bits_in: 1e6,
      bits_out: 2e6,
      viewers: 2,
      decoder: "running",
      transports: ["mjpeg", "nal"],
      notes: ["a note"],
    },
  ]);
  assert.deepEqual([device?.frameRate, device?.bitsIn, device?.viewers, device?.transports], [30, 1e6, 2, ["mjpeg", "nal"]]);
});

test("missing, unknown and invalid fields are tolerated", () => {
  const [device] = parseDevices([{ serial: "a b/ä", viewers: "many", bits_in: null, notes: [1, "x"], since: "2026-11-21T03:00:00Z", new: {} }]);
  assert.deepEqual(
    [device?.url, device?.watch, device?.viewers, device?.bitsIn, device?.notes, device?.state],
    [gatewayUrl("live/a%20b%2F%C3%A4").pathname, gatewayUrl("watch/a%20b%2F%C3%A4").pathname, 0, null, ["x"], "unknown"],
  );
  assert.equal(device?.since, Date.UTC(2026, 10, 21, 3));
  for (const odd of [null, 5, "x", {}, [null, 3, {}]]) assert.deepEqual(parseDevices(odd), []);
  for (const odd of [null, 5, {}, { sessions: 1 }]) assert.deepEqual(parseViewers(odd), []);
});

test("links to another origin are not followed", () => {
  for (const bad of ["javascript:alert(1)", "//elsewhere/live", "https://elsewhere/", "/\\elsewhere"]) {
    assert.equal(parseDevices([{ serial: "x", watch: bad }])[0]?.watch, gatewayUrl("watch/x").pathname);
  }
});

test("an error response is reported with the gateway's message", async () => {
  for (const [body, text] of [
    ['{"error":"no stream called x"}', "no stream called x"],
    ['{"error":{"code":"UNKNOWN_DEVICE","message":"no such device"}}', "no such device"],
    ["no stream called x\n", "no stream called x"],
    ["<html>proxy page</html>", "404 Not Found"],
    ["", "404 Not Found"],
    ["{broken", "{broken"],
  ] as const) {
    assert.equal(await errorText(new Response(body, { status: 404, statusText: "Not Found" })), text);
  }
});

test("transport URLs are below the stream URL", () => {
  assert.equal(socketUrl(new URL("http://h:1/live/demo"), "nal").href, "ws://h:1/live/demo/nal");
  assert.equal(socketUrl(new URL("https://h/live/a%20b@small/"), "mse").href, "wss://h/live/a%20b@small/mse");
  assert.equal(transportUrl(new URL("https://h/live/demo?client=hall"), "mjpeg").href, "https://h/live/demo/mjpeg?client=hall");
  assert.equal(transportUrl(new URL("https://h/live/demo/"), "hls", "index.m3u8").href, "https://h/live/demo/hls/index.m3u8");
});

test("numbers are formatted for people", () => {
  assert.deepEqual([bitRate(0), bitRate(999), bitRate(64_000), bitRate(2_340_000), bitRate(null)], ["0 bit/s", "999 bit/s", "64 kbit/s", "2.3 Mbit/s", "–"]);
  assert.deepEqual([frameRate(30), frameRate(29.97), frameRate(0)], ["30 fps", "29.97 fps", "–"]);
  assert.deepEqual([size(1280, 720), size(null, 720), milliseconds(41.6)], ["1280 × 720", "–", "42 ms"]);
  assert.deepEqual([duration(59_000), duration(3_599_000), duration(3_661_000), duration(300_000_000)], ["59 s", "59 min", "1 h 1 min", "3 days"]);
});

test("rates are averaged over the time since the previous sample", () => {
  const meter = new Meter(0);
  for (let times = 0; times < 20; times++) meter.frames(3);
  meter.bytes(1000);
  assert.deepEqual(meter.sample(2000), { framesPerSecond: 30, bitsPerSecond: 4000 });
  assert.deepEqual(meter.sample(3000), { framesPerSecond: 0, bitsPerSecond: 0 });
});

test("the rate graph is an area from the first value to the right edge", () => {
  assert.equal(levelPath([5]), "");
  assert.match(levelPath([1, 2]), /^M118\.0 32L118\.0 19\.2L120\.0 6\.4L120 32Z$/);
});
