// The navigation beside every page: groups made of the folders of docs/, in the order in which docs/index.md links to
// what is in them. Pure.

import { urlOf, DOCS, readLink } from "./links";
import type { Document } from "./markdown";

export interface Entry {
  readonly title: string;
  readonly url: string;
}

/** A folder and what is in it; a page at the top of docs/ is a group of its own, without a title. */
export interface Group {
  readonly title: string;
  readonly entries: readonly Entry[];
}

/** The API page, which renders `/api/openapi.json`. */
export const API: Entry = { title: "HTTP and WebSocket API", url: `${DOCS}/api` };
const TOP = "docs/index.md";

/** Groups of these pages, by path. */
export function makeMenu(pages: ReadonlyMap<string, Document>): Group[] {
  const byFolder = new Map<string, string[]>();
  for (const path of readingOrder(pages)) {
    const [, folder, ...rest] = path.split("/");
    const key = rest.length === 0 ? path : (folder ?? "");
    byFolder.set(key, [...(byFolder.get(key) ?? []), path]);
  }
  const groups = [...byFolder].map(([key, paths]): Group & { key: string } => ({
    key,
    title: key.startsWith("docs/") ? "" : titleFromName(key),
    entries: paths.map((path) => ({ title: path === TOP ? "Overview" : titleOf(path, pages.get(path)), url: urlOf(path, "file") })),
  }));
  const reference = groups.find(({ key }) => key === "reference");
  return reference === undefined
    ? [...groups, { title: "", entries: [API] }]
    : groups.map((group) => (group === reference ? { ...group, entries: [...group.entries, API] } : group));
}

/** Title of a page. */
export function titleOf(path: string, page: Document | undefined): string {
  const name = path.split("/").at(-1) ?? path;
  return page?.title ?? titleFromName(name.replace(/\.md$/, ""));
}

/**
 * The pages in reading order: as the first page links to them, then as the folders' index pages link to them, then by
 * name.
 */
function readingOrder(pages: ReadonlyMap<string, Document>): Set<string> {
  const all = [...pages.keys()].sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
  const heads = [TOP, ...all.filter((path) => path !== TOP && path.endsWith("/index.md"))];
  const order = new Set([TOP]);
  for (const head of heads) {
    for (const { href } of pages.get(head)?.references ?? []) {
      const link = readLink(head, href);
      if (link.kind !== "file") continue;
      const path = pages.has(link.path) ? link.path : `${link.path}/index.md`;
      if (pages.has(path)) order.add(path);
    }
  }
  for (const path of all) order.add(path);
  return order;
}

/** `how-to` is "How to". */
function titleFromName(name: string): string {
  const spaced = name.replace(/[-_]+/g, " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}
