// Checks that every link in the repository's Markdown files leads to an existing file and anchor.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { test } from "node:test";
import { decoded, readLink } from "../site/links";
import { type Document, readMarkdown } from "../site/markdown";

/** Path from web/, where the tests run. */
const ROOT = "..";
/** Paths that the gateway serves; tests/browser/docs.test.mjs checks the paths below them. */
const GATEWAY = /^\/(?:$|[?#]|(?:docs|api|live|watch|assets|metrics|healthz|readyz)(?:[/?#]|$))/;

const documents = new Map(markdownFiles("").map((path) => [path, readMarkdown(readFileSync(`${ROOT}/${path}`, "utf8"))]));

test("no link in a Markdown file is dead", () => {
  const dead = [...documents].flatMap(([path, document]) =>
    document.references.flatMap(({ href, line }) => {
      const why = wrong(path, href);
      return why === null ? [] : [`${path}:${line}: ${href}: ${why}`];
    }),
  );
  assert.deepEqual(dead, []);
  assert.ok(documents.has("README.md"));
});

function wrong(from: string, href: string): string | null {
  const link = readLink(from, href);
  if (link.kind === "external") return null;
  if (link.kind === "outside-repository") return "it points outside the repository";
  if (link.kind === "gateway") return GATEWAY.test(link.path) ? null : "the gateway has no such path";
  if (statSync(`${ROOT}/${link.path}`, { throwIfNoEntry: false }) === undefined) return `there is no ${link.path}`;
  const document: Document | undefined = documents.get(link.path);
  if (link.anchor.length < 2 || document === undefined || document.ids.has(decoded(link.anchor.slice(1)))) return null;
  return `${link.path} has no such heading`;
}

function markdownFiles(folder: string): string[] {
  return readdirSync(`${ROOT}/${folder}`, { withFileTypes: true }).flatMap((entry) => {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) return entry.name.startsWith(".") || ["node_modules", "target", "captures"].includes(entry.name) ? [] : markdownFiles(path);
    return entry.name.endsWith(".md") ? [path] : [];
  });
}
