// One page of the documentation: the header of all pages, the navigation, the text, and links to its neighbours. Pure.

import { relativeTo } from "./links";
import { escapeHtml } from "./markdown";
import type { Entry, Group } from "./menu";

export interface Page {
  readonly title: string;
  readonly url: string;
  /** Name of its group, displayed above the text. */
  readonly parent: string;
  /** The sections below the title, for the navigation. */
  readonly sections: readonly { readonly id: string; readonly text: string }[];
  /** HTML. */
  readonly body: string;
  readonly previous: Entry | null;
  readonly next: Entry | null;
}

/** The whole page. No anchor that GitHub makes has capital letters, so these ids are never taken. */
export function pageHtml(page: Page, menu: readonly Group[]): string {
  // Text has no plain quotes, so these are attributes.
  return absoluteHtml(page, menu).replace(/\b(href|src)="(\/(?!\/)[^"]*)"/g, (_, name: string, to: string) => `${name}="${relativeTo(page.url, to)}"`);
}

/** The page with paths of the gateway from its root. */
function absoluteHtml(page: Page, menu: readonly Group[]): string {
  const { previous, next } = page;
  const pageLink = (entry: Entry | null, rel: "prev" | "next", label: string): string =>
    entry === null ? "" : `<a rel="${rel}" href="${entry.url}"><span>${label}</span> ${escapeHtml(entry.title)}</a>`;
  const pageLinks = previous === null && next === null ? "" : `<nav class="pager" aria-label="Previous and next">${pageLink(previous, "prev", "Previous")}${pageLink(next, "next", "Next")}</nav>`;
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>${escapeHtml(page.title)} · Sluicegate</title>
    <link rel="icon" href="/assets/logo.svg" type="image/svg+xml">
    <link rel="manifest" href="/assets/app.webmanifest">
    <meta name="theme-color" content="#0c3540">
    <link rel="stylesheet" href="/assets/style.css">
    <script type="module" src="/assets/reading.js"></script>
  </head>
  <body>
    <a class="skip" href="#Text">Skip to the text</a>
    <header class="site">
      <a class="brand" href="/"><img src="/assets/logo.svg" alt="" width="40" height="40"><span>Sluicegate</span></a>
      <nav><a href="/">All streams</a><a href="/docs" aria-current="${page.url === "/docs" ? "page" : "true"}">Docs</a><a href="/docs/api">API</a></nav>
    </header>
    <main class="reading">
      <nav aria-label="Documentation">
        <details id="Contents" open>
          <summary>Contents</summary>
          <ul>
${menu.map((group) => groupHtml(group, page)).join("\n")}
          </ul>
        </details>
      </nav>
      <article id="Text" tabindex="-1">
        <p class="over">${escapeHtml(page.parent)}</p>
${page.body}
        ${pageLinks}
      </article>
    </main>
  </body>
</html>
`;
}

/** Body of a page that lists a folder's files. */
export function folderHtml(path: string, entries: readonly Entry[]): string {
  const items = entries.map(({ title, url }) => `<li><a href="${url}">${escapeHtml(title)}</a></li>`);
  return `<h1>${escapeHtml(path)}</h1>\n<ul>\n${items.join("\n")}\n</ul>`;
}

function groupHtml({ title, entries }: Group, page: Page): string {
  const items = entries.map((entry) => entryHtml(entry, page)).join("\n");
  return title === "" ? items : `<li class="chapter"><span>${escapeHtml(title)}</span>\n<ul>\n${items}\n</ul></li>`;
}

function entryHtml({ title, url }: Entry, page: Page): string {
  if (url !== page.url) return `<li><a href="${url}">${escapeHtml(title)}</a></li>`;
  const sections = page.sections.map(({ id, text }) => `<li><a href="#${escapeHtml(id)}">${escapeHtml(text)}</a></li>`).join("\n");
  const below = sections === "" ? "" : `\n<ul>\n${sections}\n</ul>`;
  return `<li><a href="${url}" aria-current="page">${escapeHtml(title)}</a>${below}</li>`;
}
