// Tests of the OpenAPI, JSON Schema and Markdown parsers of the API page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { matches, readApiDescription } from "../src/docs/api_description";
import { type Block, blocks, spans } from "../src/docs/markdown";
import { readSchema, refName, type Schema } from "../src/docs/schema";
import { OPENAPI } from "./openapi.fixture";

const description = readApiDescription(OPENAPI);
const operation = (path: string) => {
  const found = description.groups.flatMap(({ operations }) => operations).find((one) => one.path === path);
  assert.ok(found, path);
  return found;
};
const plainText = (description: readonly Block[]): string =>
  description.map((block) => (block.kind === "paragraph" ? block.spans.map(({ text }) => text).join("") : block.kind)).join("|");

test("operations are grouped by tag in order, those without a tag last", () => {
  assert.deepEqual(
    description.groups.map(({ id, name, operations }) => [id, name, operations.map(({ path }) => path)]),
    [
      ["tag-capture", "capture", ["/api/devices/{serial}/capture", "/api/ws/capture/{serial}"]],
      ["tag-devices", "devices", ["/api/devices", "/api/events"]],
      ["tag-other", "Other", ["/live/{stream}/{transport}"]],
    ],
  );
  assert.deepEqual([description.title, description.version, plainText(description.description)], ["Sluicegate", "0.1.0", "Live video.|Times are Unix ms:|list"]);
});

test("every operation has a unique id on the page", () => {
  const ids = description.groups.flatMap(({ operations }) => operations.map(({ id }) => id));
  assert.deepEqual(ids, ["op-capture", "op-capturesocket", "op-devices", "op-get-api-events", "op-capture-2"]);
});

test("an operation's parameters precede its path's, and references resolve", () => {
  const { parameters, body, responses, errors, role } = operation("/api/devices/{serial}/capture");
  assert.deepEqual(
    parameters.map(({ name, location, required, schema }) => [name, location, required, schema.type, schema.limits]),
    [
      ["serial", "path", true, "string", []],
      ["trace", "header", true, "string", ['for example "x1"']],
    ],
  );
  assert.equal(plainText(parameters[0]?.description ?? []), "Which.");
  assert.deepEqual([body?.required, body?.contents[0]?.type, body?.contents[0]?.schema?.ref, body?.contents[0]?.examples], [true, "application/json", "CaptureRequest", ['{\n  "format": "jpeg"\n}']]);
  assert.deepEqual(
    responses.map(({ status, description, contents, headers }) => [status, plainText(description), contents.map(({ type, schema }) => [type, schema?.ref]), headers.map(({ name }) => name)]),
    [
      ["200", "Done.", [["image/jpeg", undefined], ["application/json", "Result"]], ["X-Capture-Id"]],
      ["504", "Too late.", [["application/json", "Failure"]], []],
    ],
  );
  assert.deepEqual(errors.map(({ code, status, description }) => [code, status, plainText(description)]), [["CAPTURE_TIMEOUT", "504", "No frame arrived."]]);
  assert.equal(role, "capture");
});

test("a WebSocket is listed with its messages, close codes and errors", () => {
  const { methods, socket, errors } = operation("/api/ws/capture/{serial}");
  assert.deepEqual(methods, ["WS"]);
  assert.deepEqual(socket?.client.map(({ name, schema }) => [name, schema?.ref]), [["text", "CaptureRequest"]]);
  assert.deepEqual(socket?.server.map(({ name, schema }) => [name, schema?.limits]), [["text", []], ["binary", ["content image/*"]]]);
  assert.deepEqual(socket?.closes.map(({ code, description }) => [code, plainText(description)]), [["1001", "The gateway shuts down."]]);
  assert.deepEqual(errors.map(({ code, status }) => [code, status]), [["CAPTURE_BUSY", "503"]]);
  assert.deepEqual(operation("/live/{stream}/{transport}").methods, ["GET", "WS"]);
  assert.deepEqual(operation("/api/events").events.map(({ name }) => name), ["hello"]);
});

test("the filter requires all words, in any place", () => {
  const found = (query: string): string[] => description.groups.flatMap(({ operations }) => operations.filter((one) => matches(one.searchText, query)).map(({ path }) => path));
  assert.equal(found("").length, 5);
  assert.deepEqual(found(" CAPTURE_busy "), ["/api/ws/capture/{serial}"]);
  assert.deepEqual(found("ws capture"), ["/api/ws/capture/{serial}"]);
  assert.deepEqual(found("ws xyz"), []);
});

test("a schema is a tree that ends at references", () => {
  const schema = (name: string): Schema => {
    const found = description.schemas.find((one) => one.name === name);
    assert.ok(found);
    return found.schema;
  };
  const request = schema("CaptureRequest");
  assert.deepEqual(request.limits, ["no other properties"]);
  assert.deepEqual(
    request.properties.map(({ name, required, schema: { type, nullable, values, limits } }) => [name, required, type, nullable, values, limits]),
    [
      ["format", false, "string", false, ['"jpeg"', '"png"'], ["default jpeg"]],
      ["quality", false, "integer", true, [], ["format uint8", "at least 1", "at most 100"]],
    ],
  );
  const [serial, state, audio, labels] = schema("Device").properties;
  assert.equal(serial?.required, true);
  assert.deepEqual([state?.schema.ref, plainText(state?.schema.description ?? [])], ["State", "Its state."]);
  assert.deepEqual([audio?.schema.ref, audio?.schema.nullable, audio?.schema.variants, plainText(audio?.schema.description ?? [])], ["Device", true, null, "Its audio."]);
  assert.deepEqual([labels?.schema.others?.type, labels?.schema.others?.items?.type], ["array", "number"]);
  assert.deepEqual([schema("State").variants?.word, schema("State").variants?.schemas.map(({ values }) => values[0])], ["one of", ['"live"', '"idle"']]);
});

test("invalid descriptions are tolerated", () => {
  for (const odd of [null, 5, "x", [], {}, { paths: [] }, { paths: { "/x": null } }, { paths: { "/x": { get: 5 } } }, { tags: 1, components: "x" }]) {
    assert.deepEqual(readApiDescription(odd).groups, []);
  }
  // Circular, dangling and external references.
  const ring = { paths: { "/x": { $ref: "#/a" } }, a: { $ref: "#/b" }, b: { $ref: "#/a" } };
  assert.deepEqual(readApiDescription(ring).groups, []);
  assert.deepEqual(readApiDescription({ paths: { "/x": { get: { parameters: [{ $ref: "#/no/where" }], responses: 5 } } } }).groups[0]?.operations[0]?.parameters, []);
  assert.deepEqual([refName("#/components/schemas/a~1b"), refName("https://elsewhere/x"), refName(5)], ["a/b", "https://elsewhere/x", null]);
  let deep: object = { type: "string" };
  for (let times = 0; times < 1000; times++) deep = { type: "array", items: deep };
  assert.equal(readSchema(deep).type, "array");
  assert.deepEqual([readSchema(true).type, readSchema({ type: "null" }).type, readSchema({ properties: {} }).type], ["", "null", "object"]);
});

test("descriptions have paragraphs, lists and code; all else is text", () => {
  assert.deepEqual(blocks("one\ntwo\n\n- a `b`\n- c\n  d\n\n1. x\n\n```\nlet <a>;\n\n- no item\n```\nend"), [
    { kind: "paragraph", spans: [{ kind: "text", text: "one two" }] },
    { kind: "list", ordered: false, items: [[{ kind: "text", text: "a " }, { kind: "code", text: "b" }], [{ kind: "text", text: "c d" }]] },
    { kind: "list", ordered: true, items: [[{ kind: "text", text: "x" }]] },
    { kind: "code", text: "let <a>;\n\n- no item" },
    { kind: "paragraph", spans: [{ kind: "text", text: "end" }] },
  ]);
  assert.deepEqual(spans("<b>x</b> **y** `a`b` *z*"), [
    { kind: "text", text: "<b>x</b> " },
    { kind: "strong", text: "y" },
    { kind: "text", text: " " },
    { kind: "code", text: "a" },
    { kind: "text", text: "b` *z*" },
  ]);
  assert.deepEqual(blocks(""), []);
  assert.deepEqual(blocks("```\nnever closed"), [{ kind: "code", text: "never closed" }]);
});
