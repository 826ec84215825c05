// Tests of captures, their list, and the decision which tiles display previews.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Capture, Captures, fileName } from "../src/dashboard/captures";
import { ageText, previewState } from "../src/dashboard/preview_state";
import { type Device, parseDevices } from "../src/net/api";
import { CaptureError, readCapturedImage } from "../src/net/capture";
import { previewUrl } from "../src/net/preview_image";

const image = (url: string): Omit<Capture, "key"> => ({
  serial: "door",
  at: 0,
  ageMs: 5,
  width: 640,
  height: 360,
  bytes: 3,
  path: null,
  blob: new Blob(["jpg"]),
  url,
});

test("the newest captures are kept, and each removed one is released once", () => {
  const released: string[] = [];
  const captures = new Captures((url) => released.push(url), 3);
  for (const url of ["1", "2", "3", "4", "5"]) captures.add(image(url));
  assert.deepEqual(captures.list.map(({ url }) => url), ["5", "4", "3"]);
  assert.deepEqual(released, ["1", "2"]);
  captures.clear();
  assert.deepEqual(captures.list, []);
  assert.deepEqual(released, ["1", "2", "5", "4", "3"]);
  captures.clear();
  assert.equal(released.length, 5);
});

test("each capture has its neighbours, and the first and last have one", () => {
  const captures = new Captures(() => {});
  const [one, two] = [captures.add(image("1")), captures.add(image("2"))];
  assert.notEqual(one.key, two.key);
  assert.equal(captures.neighbour(one.key, -1), two);
  assert.equal(captures.neighbour(two.key, 1), one);
  assert.deepEqual([captures.neighbour(two.key, -1), captures.neighbour(one.key, 1), captures.neighbour("gone", 1)], [null, null, null]);
});

test("file names are portable and contain stream and time", () => {
  const at = Date.UTC(2026, 10, 22, 3, 4, 5, 678);
  for (const [serial, name] of [
    ["door", "door-2026-11-22T03-04-05-678Z.jpg"],
    ["192.168.1.7:5555", "192.168.1.7_5555-2026-11-22T03-04-05-678Z.jpg"],
    ["../../etc/passwd", "_.._etc_passwd-2026-11-22T03-04-05-678Z.jpg"],
    ["Küche <1>", "Küche_1_-2026-11-22T03-04-05-678Z.jpg"],
    ["..", "picture-2026-11-22T03-04-05-678Z.jpg"],
  ] as const) {
    assert.equal(fileName({ serial, at }), name);
  }
});

test("a capture response is read with its headers", async () => {
  const headers = { "content-type": "image/jpeg", "x-capture-id": "c7", "x-captured-at": "2026-11-22T03:04:05.678Z", "x-age-ms": "12", "x-width": "640", "x-height": "360" };
  const full = await readCapturedImage(new Response("jpg", { headers: { ...headers, "x-path": "door/1.jpg" } }), 0);
  assert.deepEqual(
    [full.id, full.at, full.ageMs, full.width, full.height, full.path, full.blob.size],
    ["c7", Date.UTC(2026, 10, 22, 3, 4, 5, 678), 12, 640, 360, "door/1.jpg", 3],
  );
  const bare = await readCapturedImage(new Response("jpg", { headers: { "content-type": "image/jpeg", "x-width": "wide", "x-age-ms": "-1" } }), 99);
  assert.deepEqual([bare.at, bare.ageMs, bare.width, bare.path], [99, null, null, null]);
});

test("a failed capture has code and message, whatever the response is", async () => {
  for (const [status, body, code, message] of [
    [504, '{"type":"error","code":"CAPTURE_TIMEOUT","message":"no frame arrived within 5 s","capture_id":"c1"}', "CAPTURE_TIMEOUT", "no frame arrived within 5 s"],
    [403, '{"error":"this is for administrators"}', "HTTP 403", "this is for administrators"],
    [502, "<html>proxy</html>", "HTTP 502", "502 x"],
    [503, "the gateway shuts down\n", "HTTP 503", "the gateway shuts down"],
  ] as const) {
    await assert.rejects(readCapturedImage(new Response(body, { status, statusText: "x" }), 0), (error: unknown) => {
      assert.ok(error instanceof CaptureError);
      assert.deepEqual([error.code, error.message], [code, message]);
      return true;
    });
  }
  await assert.rejects(readCapturedImage(new Response("{}", { headers: { "content-type": "application/json" } }), 0), { code: "BAD_ANSWER" });
});

const device = (fields: object): Device => {
  const [found] = parseDevices([{ serial: "door", ...fields }]);
  assert.ok(found);
  return found;
};

test("the wall displays running streams only if they are watched or always on", () => {
  const active = (fields: object, choice: boolean | null = null): boolean => previewState(device(fields), choice).active;
  assert.equal(active({ state: "idle", always_on: false }), false);
  assert.equal(active({ state: "live", viewers: 0, always_on: false }), false);
  assert.equal(active({ state: "live", viewers: 1, always_on: false }), true);
  assert.equal(active({ state: "silent", viewers: 0, always_on: true }), true);
  assert.equal(active({ state: "live", viewers: 0 }), true);
  assert.equal(active({ state: "failed", viewers: 1 }), false);
  for (const state of ["idle", "live", "failed", "retrying"]) {
    assert.equal(active({ state }, true), true, state);
    assert.equal(active({ state, viewers: 3 }, false), false, state);
  }
});

test("an unavailable device gets no requests, and the reason is displayed", () => {
  for (const state of ["offline", "unauthorized"]) {
    const { active, selectable, message } = previewState(device({ state, reason: "tap Allow" }), true);
    assert.deepEqual([active, selectable, message], [false, false, "tap Allow"]);
    assert.notEqual(previewState(device({ state }), null).message, "");
  }
  assert.equal(previewState(device({ state: "retrying", reason: "gone" }), null).message, "gone");
  assert.equal(previewState(device({ state: "idle", reason: "nobody watches" }), null).message, "");
});

test("the age of an image is displayed from 3 s on", () => {
  assert.deepEqual([null, 0, 2999, 3000, 59_000, 61_000, 7_300_000].map(ageText), ["", "", "", "3 s old", "59 s old", "1 min old", "2 h old"]);
});

test("stream URLs are used as the gateway sent them", () => {
  assert.equal(previewUrl(device({ serial: "192.168.1.7:5555", url: "/live/192.168.1.7%3A5555" }).url), "/live/192.168.1.7%3A5555/frame.jpg?width=320&quality=60");
});
