// Markdown as GitHub reads it: tables, bare URLs, alerts, and the same anchors for headings. Pure.

import GithubSlugger from "github-slugger";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import css from "highlight.js/lib/languages/css";
import http from "highlight.js/lib/languages/http";
import ini from "highlight.js/lib/languages/ini";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import nginx from "highlight.js/lib/languages/nginx";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import MarkdownIt, { type Token } from "markdown-it";

const LANGUAGES = { bash, css, http, ini, javascript, json, nginx, python, rust, typescript, xml, yaml };
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);

const ALERT = /^\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]\s*/;
/** In raw HTML: an attribute that names a file, and one that names an anchor. */
const REFERENCE = /(\s)(href|src)=("[^"]*"|'[^']*')/gi;
const ANCHOR = /\s(?:id|name)=["']([^"']+)["']/gi;

export interface Heading {
  readonly level: number;
  readonly id: string;
  readonly text: string;
}

/** A link or the source of an image, as written. */
export interface Reference {
  readonly href: string;
  /** Line number in the file, from 1. */
  readonly line: number;
}

export interface Document {
  /** The first heading of level 1; null if there is none. */
  readonly title: string | null;
  readonly headings: readonly Heading[];
  /** What an anchor may name. */
  readonly ids: ReadonlySet<string>;
  readonly references: readonly Reference[];
  /** HTML with the URL that `resolve` returns for each reference. A reference without one is rendered as text. */
  render(resolve: (href: string) => string | null): string;
}

const markdown = new MarkdownIt({ html: true, linkify: true, highlight });
// Only what begins with a scheme: `config.rs` and `README.md` would be host names, too.
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
markdown.core.ruler.push("alerts", ({ tokens }) => markAlerts(tokens));
markdown.core.ruler.push("alignment", ({ tokens }) => classAlignment(tokens));
markdown.renderer.rules.table_open = () => '<div class="scroll" role="region" aria-label="Table" tabindex="0"><table>\n';
markdown.renderer.rules.table_close = () => "</table></div>\n";
markdown.renderer.rules.heading_close = (tokens, at) => {
  const { tag, meta } = tokens[at] ?? {};
  const [id, text] = [String(meta?.["id"]), String(meta?.["text"])];
  return ` <a class="anchor" href="#${escapeHtml(id)}" aria-label="Link to “${escapeHtml(text)}”">#</a></${tag}>\n`;
};
const pre = (html: string | undefined): string => (html ?? "").replace("<pre>", '<pre tabindex="0">');
const { fence, code_block: indented } = markdown.renderer.rules;
markdown.renderer.rules.fence = (...of) => pre(fence?.(...of));
markdown.renderer.rules.code_block = (...of) => pre(indented?.(...of));

/** Reads a Markdown file. */
export function readMarkdown(text: string): Document {
  const environment = {};
  const parse = (): Token[] => markdown.parse(text, environment);
  const tokens = parse();
  const headings = assignHeadingIds(tokens);
  const ids = new Set(headings.map(({ id }) => id));
  const references: Reference[] = [];
  for (const { token, line } of allTokens(tokens)) {
    const href = referenceOf(token);
    if (href !== null) references.push({ href, line });
    if (!isHtml(token)) continue;
    for (const [, , , quoted = ""] of token.content.matchAll(REFERENCE)) references.push({ href: unquoted(quoted), line });
    for (const [, id = ""] of token.content.matchAll(ANCHOR)) ids.add(id);
  }
  return {
    title: headings.find(({ level }) => level === 1)?.text ?? null,
    headings,
    ids,
    references,
    render: (resolve) => {
      const tokens = parse();
      assignHeadingIds(tokens);
      rewriteLinks(tokens, resolve);
      return markdown.renderer.render(tokens, markdown.options, environment);
    },
  };
}

/** Escapes the characters that have a meaning in HTML. */
export const escapeHtml = markdown.utils.escapeHtml;

function highlight(code: string, language: string): string {
  // Empty: markdown-it escapes the code as it is.
  return hljs.getLanguage(language) === undefined ? "" : hljs.highlight(code, { language, ignoreIllegals: true }).value;
}

/** `> [!NOTE]` and similar: the marker becomes a class and a title. */
function markAlerts(tokens: Token[]): void {
  for (const [at, token] of tokens.entries()) {
    const inline = tokens[at + 2];
    if (token.type !== "blockquote_open" || inline?.type !== "inline") continue;
    const first = inline.children?.[0];
    const kind = ALERT.exec(inline.content)?.[1];
    if (first?.type !== "text" || kind === undefined) continue;
    token.attrJoin("class", `alert ${kind.toLowerCase()}`);
    token.attrSet("data-title", kind.charAt(0) + kind.slice(1).toLowerCase());
    first.content = first.content.replace(ALERT, "");
    if (first.content === "" && inline.children?.[1]?.type === "softbreak") inline.children.splice(0, 2);
  }
}

/** Replaces the alignment of table cells by classes: the CSP of the gateway forbids inline styles. */
function classAlignment(tokens: Token[]): void {
  for (const token of tokens) {
    const [, side] = /^text-align:(left|center|right)$/.exec(String(token.attrGet("style") ?? "")) ?? [];
    if (side !== undefined) token.attrs = [["class", side]];
  }
}

/** Assigns an id to every heading. */
function assignHeadingIds(tokens: Token[]): Heading[] {
  const slugger = new GithubSlugger();
  const headings: Heading[] = [];
  for (const [at, token] of tokens.entries()) {
    const inline = tokens[at + 1];
    if (token.type !== "heading_open" || inline === undefined) continue;
    const text = plain(inline.children ?? []);
    const id = slugger.slug(text);
    token.attrSet("id", id);
    headings.push({ level: Number(token.tag.slice(1)), id, text });
    const close = tokens[at + 2];
    if (close !== undefined) close.meta = { id, text };
  }
  return headings;
}

/** The text of a heading, without markup. */
function plain(tokens: readonly Token[]): string {
  return tokens.map((token) => (token.type === "text" || token.type === "code_inline" ? token.content : token.type === "softbreak" ? " " : "")).join("");
}

/** All tokens, including nested ones, each with its line number. */
function* allTokens(tokens: readonly Token[]): Generator<{ token: Token; line: number }> {
  let line = 1;
  for (const token of tokens) {
    if (token.map !== null) line = token.map[0] + 1;
    yield { token, line };
    let childLine = line;
    for (const child of token.children ?? []) {
      yield { token: child, line: childLine };
      if (child.type === "softbreak" || child.type === "hardbreak") childLine++;
    }
  }
}

function referenceOf(token: Token): string | null {
  const attribute = token.type === "link_open" ? "href" : token.type === "image" ? "src" : null;
  const value = attribute === null ? null : token.attrGet(attribute);
  return value === null ? null : String(value);
}

function isHtml(token: Token): boolean {
  return token.type === "html_inline" || token.type === "html_block";
}

/** Replaces the URLs of links and images by what `resolve` returns. */
function rewriteLinks(tokens: readonly Token[], resolve: (href: string) => string | null): void {
  const open: boolean[] = [];
  for (const token of tokens) {
    const href = referenceOf(token);
    if (token.type === "link_open") {
      const url = href === null ? null : resolve(href);
      if (url !== null) token.attrSet("href", url);
      token.hidden = url === null;
      open.push(url !== null);
    } else if (token.type === "link_close") {
      token.hidden = open.pop() === false;
    } else if (token.type === "image") {
      const url = href === null ? null : resolve(href);
      if (url === null) {
        token.type = "text";
        continue;
      }
      token.attrSet("src", url);
      token.attrSet("loading", "lazy");
    } else if (isHtml(token)) {
      token.content = token.content.replace(REFERENCE, (_, space: string, name: string, quoted: string) => {
        const url = resolve(unquoted(quoted));
        return url === null ? "" : `${space}${name}="${escapeHtml(url)}"`;
      });
    }
    rewriteLinks(token.children ?? [], resolve);
  }
}

function unquoted(quoted: string): string {
  return quoted.slice(1, -1).replaceAll("&amp;", "&");
}
