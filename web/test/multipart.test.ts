// Tests of the multipart parser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { boundaryOf, MultipartError, MultipartReader, type Part } from "../src/media/multipart";
import { seeded } from "./support";

const encoder = new TextEncoder();

function part(body: Uint8Array, headers = `Content-Type: image/jpeg\r\nContent-Length: ${body.length}`): Uint8Array {
  return join([encoder.encode(`--frame\r\n${headers}\r\n\r\n`), body, encoder.encode("\r\n")]);
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
}

function bodies(parts: readonly Part[]): number[][] {
  return parts.map(({ body }) => [...body]);
}

test("parts are complete however the bytes are split", () => {
  const random = seeded(1);
  for (let run = 0; run < 200; run++) {
    const sent = Array.from({ length: 1 + Math.floor(random() * 5) }, () =>
      // Bodies full of delimiter-like bytes.
      Uint8Array.from({ length: Math.floor(random() * 60) }, () => [13, 10, 45, 45, 102][Math.floor(random() * 5)] ?? 0),
    );
    const wire = join(sent.map((body) => part(body)));
    const reader = new MultipartReader("frame");
    const received: Part[] = [];
    for (let at = 0; at < wire.length; ) {
      const to = at + 1 + Math.floor(random() * 40);
      received.push(...reader.push(wire.subarray(at, to)));
      at = to;
    }
    assert.deepEqual(bodies(received), sent.map((body) => [...body]));
  }
});

test("a part is returned with its last byte, not with the next delimiter", () => {
  const wire = part(Uint8Array.of(1, 2, 3));
  const parts = new MultipartReader("frame").push(wire.subarray(0, wire.length - 2));
  assert.deepEqual(bodies(parts), [[1, 2, 3]]);
  assert.equal(parts[0]?.type, "image/jpeg");
});

test("header names are case-insensitive, and unknown headers are ignored", () => {
  const headers = "X-Time: 5\r\ncontent-LENGTH:  2\r\nCONTENT-type: Image/JPEG; q=1";
  const parts = new MultipartReader("frame").push(part(Uint8Array.of(7, 8), headers));
  assert.deepEqual(bodies(parts), [[7, 8]]);
  assert.equal(parts[0]?.type, "image/jpeg");
});

test("the closing delimiter ends the body", () => {
  const reader = new MultipartReader("frame");
  const parts = reader.push(join([part(Uint8Array.of(1)), encoder.encode("--frame--\r\nepilogue"), part(Uint8Array.of(2))]));
  assert.deepEqual(bodies(parts), [[1]]);
  assert.equal(reader.ended, true);
});

for (const [name, wire] of [
  ["another delimiter", "--other\r\nContent-Length: 1\r\n\r\nx"],
  ["no Content-Length", "--frame\r\nContent-Type: image/jpeg\r\n\r\nx"],
  ["a negative Content-Length", "--frame\r\nContent-Length: -1\r\n\r\nx"],
  ["a part above the limit", "--frame\r\nContent-Length: 101\r\n\r\nx"],
  ["endless headers", `--frame\r\nX: ${"x".repeat(300)}`],
] as const) {
  test(`rejected: ${name}`, () => {
    const reader = new MultipartReader("frame", { head: 200, body: 100 });
    assert.throws(() => reader.push(encoder.encode(wire)), MultipartError);
  });
}

test("the boundary is read from Content-Type", () => {
  for (const [type, boundary] of [
    ["multipart/x-mixed-replace; boundary=frame", "frame"],
    ['Multipart/X-Mixed-Replace;charset=x;Boundary="a b"', "a b"],
    ["multipart/x-mixed-replace", null],
    ["image/jpeg; boundary=frame", null],
    [null, null],
  ] as const) {
    assert.equal(boundaryOf(type), boundary);
  }
});
