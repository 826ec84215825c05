// Tests of the page that manages streams: settings as the form shows them, and the API's responses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseStreams, parseTryResult } from "../src/net/streams";
import { describe, renditionRows, rowProblem, settingsOf, tryBody } from "../src/streams/settings";

const SETTINGS = {
  idle: "5s",
  every: "1s",
  encode: { preset: "fast" },
  renditions: { mobile: { width: 640, "frame-rate": 15, bitrate: "500k", "keyframe-interval": "2s" } },
};

test("settings that are shown and saved unchanged stay the same, without a source", () => {
  const values = { source: "", alwaysOn: false, renditions: renditionRows(SETTINGS) };
  assert.deepEqual(settingsOf(values, { ...SETTINGS, source: "rtsp://cam/…" }), SETTINGS);
});

test("a stream that is always on has no idle time", () => {
  const settings = settingsOf({ source: "rtsp://u:p@cam/1", alwaysOn: true, renditions: [] }, SETTINGS);
  assert.deepEqual(settings, { every: "1s", encode: { preset: "fast" }, source: "rtsp://u:p@cam/1", "always-on": true });
  assert.equal("always-on" in settingsOf({ source: "", alwaysOn: false, renditions: [] }, settings), false);
});

test("a renamed rendition keeps its other keys, and an emptied field is left out", () => {
  const [row] = renditionRows(SETTINGS);
  assert.ok(row);
  const renditions = [
    { ...row, name: "phone", width: " 480 ", frameRate: "" },
    { name: "tiny", width: "wide", frameRate: "5", bitrate: "", before: "" },
  ];
  assert.deepEqual(settingsOf({ source: "", alwaysOn: false, renditions }, SETTINGS)["renditions"], {
    phone: { width: 480, bitrate: "500k", "keyframe-interval": "2s" },
    // The gateway says what is wrong with it.
    tiny: { width: "wide", "frame-rate": 5 },
  });
});

test("rows without a name, or with the same one, are a problem", () => {
  const row = (name: string) => ({ name, width: "", frameRate: "", bitrate: "", before: "" });
  assert.equal(rowProblem([row("a"), row("b")]), null);
  assert.match(rowProblem([row("a"), row("")]) ?? "", /needs a name/);
  assert.match(rowProblem([row("a"), row("a")]) ?? "", /two renditions called a/);
});

test("a try is given what controls how a URL is fetched, and nothing else", () => {
  assert.deepEqual(tryBody("http://cam/still.jpg", { ...SETTINGS, redirects: ["other"] }), { source: "http://cam/still.jpg", every: "1s", redirects: ["other"] });
});

test("a stream is described by where it is kept and what is set", () => {
  const stream = { name: "door", kept: "state", source: "rtsp://cam/…", settings: { "always-on": true, ...SETTINGS } };
  assert.equal(describe(stream), "added here · always on · 1 rendition: mobile");
  assert.match(describe({ ...stream, kept: "config", settings: {} }), /config file/);
  assert.equal(describe({ ...stream, kept: "elsewhere", settings: {} }), "elsewhere");
});

test("responses are parsed leniently", () => {
  assert.deepEqual(parseStreams([{ name: "door", kept: "state", source: "rtsp://cam/…", settings: { idle: "5s" } }, { kept: "state" }, 5]), [
    { name: "door", kept: "state", source: "rtsp://cam/…", settings: { idle: "5s" } },
  ]);
  assert.deepEqual(parseStreams([{ name: "door" }]), [{ name: "door", kept: "", source: "", settings: {} }]);
  assert.deepEqual(parseTryResult({ text: "connected", notes: ["a"], bits_per_second: 5, preview: "data:image/jpeg;base64,AA" }), {
    text: "connected",
    notes: ["a"],
    bitsPerSecond: 5,
    preview: "data:image/jpeg;base64,AA",
  });
  // Nothing else is loaded.
  assert.deepEqual(parseTryResult({ preview: "https://elsewhere/x.jpg" }), { text: "", notes: [], bitsPerSecond: null, preview: null });
});
