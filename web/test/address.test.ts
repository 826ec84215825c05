// Tests of the stream URLs derived from the element's attributes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clockUrl, streamBase } from "../src/player/address";

const HOME = "https://gateway.example/";
const PAGE = "https://pets.example/cats/";

test("a stream is found by path, by name, and by name on another gateway", () => {
  for (const [src, stream, expected] of [
    ["/live/demo", "", "https://pets.example/live/demo"],
    ["https://other.example/live/demo@small", "", "https://other.example/live/demo@small"],
    ["", "demo", "https://gateway.example/live/demo"],
    ["", "back yard@small", "https://gateway.example/live/back%20yard@small"],
    ["", "a/../b?c#d", "https://gateway.example/live/a%2F..%2Fb%3Fc%23d"],
    ["https://other.example", "demo", "https://other.example/live/demo"],
    ["https://other.example/cameras", "demo", "https://other.example/cameras/live/demo"],
    ["/cameras/?x", "demo", "https://pets.example/cameras/live/demo"],
    ["", "", null],
    ["https://", "demo", null],
  ] as const) {
    assert.equal(streamBase(src, stream, HOME, PAGE)?.href ?? null, expected, `src="${src}" stream="${stream}"`);
  }
});

test("the clock URL is next to the stream URLs", () => {
  for (const [base, expected] of [
    ["https://h/live/demo", "https://h/healthz"],
    ["https://h/live/demo/", "https://h/healthz"],
    ["https://h/cameras/live/demo?client=hall", "https://h/cameras/healthz"],
  ] as const) {
    assert.equal(clockUrl(new URL(base)).href, expected);
  }
});
