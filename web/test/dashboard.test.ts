// Tests of the dashboard's data: muxers, encoder, rates and events.

import assert from "node:assert/strict";
import { test } from "node:test";
import { eventLine } from "../src/dashboard/event_list";
import { rowsOf } from "../src/dashboard/muxers";
import { microsBetween, ProcessingRates, processingTexts } from "../src/dashboard/rates";
import { parseDevices, parseMuxers } from "../src/net/api";
import { parseEvent } from "../src/net/events";

const PLUGINS = [
  {
    name: "nal",
    component: "nal@0.1.0",
    muxers: [
      { stream: "door", serial: "door", rendition: "", state: "running", reason: "", calls: 10, us_per_call: 2.5, failures: 0 },
      { stream: "porch@small", serial: "porch", rendition: "small", state: "broken", reason: "it trapped", calls: 4, us_per_call: 9, failures: 10 },
    ],
  },
  {
    name: "mjpeg",
    component: "mjpeg@0.1.0",
    muxers: ["running", "broken", "backing-off"].map((state) => ({ stream: `hall?${state}`, serial: "hall", state, reason: state })),
  },
];

test("muxers are parsed, and invalid ones are skipped", () => {
  const muxers = parseMuxers(PLUGINS);
  assert.deepEqual(
    muxers.slice(0, 2).map(({ stream, transport, component, state, calls }) => [stream, transport, component, state, calls]),
    [
      ["door", "nal", "nal@0.1.0", "running", 10],
      ["porch", "nal", "nal@0.1.0", "broken", 4],
    ],
  );
  for (const odd of [null, {}, [{}], [{ muxers: 5 }], [[]]]) assert.deepEqual(parseMuxers(odd), []);
  assert.deepEqual(parseMuxers([{ muxers: [{}] }])[0]?.calls, 0);
});

test("the table of a stream lists active transports and those with viewers", () => {
  const [device] = parseDevices([{ serial: "door", watching: [{ transport: "nal", rendition: "", viewers: 2 }, { transport: "nal", rendition: "small", viewers: 1 }, { transport: "hls" }, 7] }]);
  assert.ok(device);
  const rows = rowsOf(device, parseMuxers(PLUGINS));
  assert.deepEqual(
    rows.map(({ name, viewers, muxer }) => [name, viewers, muxer?.state]),
    [
      ["hls", 0, undefined],
      ["nal", 2, "running"],
      ["nal @small", 1, undefined],
    ],
  );
  const [idle] = parseDevices([{ serial: "porch" }]);
  assert.ok(idle);
  assert.deepEqual(rowsOf(idle, parseMuxers(PLUGINS)).map(({ name, muxer }) => [name, muxer?.reason]), [["nal @small", "it trapped"]]);
  const [hall] = parseDevices([{ serial: "hall" }]);
  assert.ok(hall);
  assert.deepEqual(rowsOf(hall, parseMuxers(PLUGINS)).map(({ name, muxer }) => [name, muxer?.state]), [["mjpeg", "broken"]]);
  assert.deepEqual(rowsOf(idle, []), []);
});

test("the encoder is parsed with the rejected ones", () => {
  const encoder = { name: "libx264", passed_over: [{ name: "h264_nvenc", reason: "no driver" }] };
  assert.deepEqual(parseDevices([{ serial: "x", encoder }])[0]?.encoder, {
    name: "libx264",
    passedOver: [{ name: "h264_nvenc", reason: "no driver" }],
  });
  for (const encoder of [undefined, null, 5, "x"]) assert.equal(parseDevices([{ serial: "x", encoder }])[0]?.encoder, null);
  assert.deepEqual(parseDevices([{ serial: "x", encoder: {} }])[0]?.encoder, { name: "", passedOver: [] });
});

test("decoding and encoding rates are per second, and zero rates are omitted", () => {
  const rates = new ProcessingRates();
  const at = (decoded: number, encoded: number, jpegs: number) => ({ decoded, encoded, jpegs });
  assert.deepEqual(processingTexts(rates.update(at(5000, 0, 100), 0)), []);
  assert.deepEqual(processingTexts(rates.update(at(5015, 0, 105), 500)), []);
  assert.deepEqual(processingTexts(rates.update(at(5060, 0, 105), 2000)), ["decodes 30/s", "2.5 JPEGs/s"]);
  // A second sample immediately afterwards gives the same rates.
  assert.deepEqual(processingTexts(rates.update(at(5070, 0, 105), 2200)), ["decodes 30/s", "2.5 JPEGs/s"]);
  assert.deepEqual(processingTexts(rates.update(at(0, 15, 0), 3000)), ["encodes 15/s"]);
});

test("the time per call is averaged over the calls since the last sample", () => {
  const at = (calls: number, microsPerCall: number) => ({ calls, microsPerCall });
  assert.equal(microsBetween(undefined, at(10, 3)), 3);
  assert.equal(microsBetween(at(10, 3), at(20, 4)), 5);
  assert.equal(microsBetween(at(10, 3), at(10, 3)), 3);
  // The gateway was restarted.
  assert.equal(microsBetween(at(100, 3), at(5, 7)), 7);
});

test("events are parsed, and invalid ones are skipped", () => {
  assert.deepEqual(parseEvent("stream", '{"at":5,"serial":"door","state":"live","reason":"receiving video","since":4}'), {
    kind: "stream",
    at: 5,
    stream: "door",
    state: "live",
    reason: "receiving video",
  });
  assert.deepEqual(parseEvent("viewer-came", '{"at":5,"viewer":1,"stream":"door","rendition":"small","transport":"nal"}'), {
    kind: "viewer-came",
    at: 5,
    stream: "door@small",
    transport: "nal",
  });
  assert.deepEqual(parseEvent("swap", '{"at":5,"transport":"nal","state":"refused","component":"nal@0.2.0","reason":"slow"}'), {
    kind: "swap",
    at: 5,
    transport: "nal",
    component: "nal@0.2.0",
    state: "refused",
    reason: "slow",
  });
  assert.deepEqual(parseEvent("missed", '{"at":5,"count":null}'), { kind: "missed", at: 5, count: null });
  assert.deepEqual(parseEvent("hello", "{}"), { kind: "hello", at: 0, run: "" });
  for (const odd of ["", "{", "5", "null", "[]", '"x"']) assert.equal(parseEvent("stream", odd), null);
});

test("events are described for people", () => {
  const line = (kind: Parameters<typeof parseEvent>[0], data: object) => {
    const event = parseEvent(kind, JSON.stringify(data));
    return event && eventLine(event);
  };
  assert.deepEqual(line("stream", { serial: "door", state: "waiting-for-keyframe", reason: "" }), { text: "door is waiting for keyframe", tone: "plain" });
  assert.deepEqual(line("stream", { serial: "door", state: "retrying", reason: "gone" }), { text: "door is retrying: gone", tone: "bad" });
  assert.deepEqual(line("plugin", { stream: "door", transport: "hls", state: "broken", reason: "trap" }), {
    text: "door: hls stopped after repeated failures: trap",
    tone: "bad",
  });
  assert.deepEqual(line("plugin", { stream: "door", transport: "hls", state: "running" }), { text: "door: hls recovered", tone: "good" });
  const swap = (state: string, reason = "") => line("swap", { transport: "nal", component: "nal@0.2.0", state, reason });
  assert.deepEqual(swap("comparing"), { text: "nal compares nal@0.2.0 with the component in use", tone: "plain" });
  assert.deepEqual(swap("refused", "it is slow"), { text: "nal does not use nal@0.2.0: it is slow", tone: "bad" });
  assert.equal(swap("switching"), null);
  assert.deepEqual(swap("switched"), { text: "nal uses nal@0.2.0 now", tone: "good" });
  assert.deepEqual(swap("rolled-back", "trap"), { text: "nal uses the component before nal@0.2.0 again: trap", tone: "bad" });
  assert.deepEqual(line("capture", { serial: "door", width: 640, height: 360, path: "door/1.jpg" }), {
    text: "door: image captured, 640 × 360, saved as door/1.jpg",
    tone: "plain",
  });
  assert.deepEqual(line("stream", { serial: "phone", state: "offline", reason: "unplugged" }), { text: "phone is offline: unplugged", tone: "bad" });
  assert.deepEqual(line("missed", { count: 7 }), { text: "7 earlier events were missed", tone: "plain" });
  assert.equal(line("hello", {}), null);
});
