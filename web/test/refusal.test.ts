// Tests of the classification of error responses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { classifyRefusal } from "../src/transport/refusal";

const response = (status: number, cache = ""): Response => new Response("no segment yet\n", { status, headers: { "cache-control": cache } });

test("a muxer without data yet is distinguished from a refusal", async () => {
  for (const [status, cache, ms, kind] of [
    // The gateway waited without result, or the component reports immediately that it is not ready, and for how long.
    [503, "", 11_000, "unready"],
    [503, "public, max-age=5", 20, "unready"],
    // The gateway's own refusals: it is shutting down, or restarting the muxer.
    [503, "no-store", 20, "refused"],
    [503, "max-age=0", 20, "refused"],
    [404, "public, max-age=5", 11_000, "refused"],
  ] as const) {
    assert.deepEqual(await classifyRefusal(response(status, cache), ms), { kind, reason: "no segment yet" }, `${status} ${cache} ${ms}`);
  }
});
