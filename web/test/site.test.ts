// Tests of the documentation build.

import assert from "node:assert/strict";
import { test } from "node:test";
import { urlOf, readLink, relativeTo } from "../site/links";
import { readMarkdown } from "../site/markdown";
import { makeSite, type Site } from "../site/site";

const GATEWAY = "https://home.example/cams/";

/** The site of a repository with these files. */
function siteOf(files: Readonly<Record<string, string>>): Site & { text(name: string): string } {
  const paths = Object.keys(files);
  const site = makeSite({
    kind(path) {
      if (path in files) return "file";
      return paths.some((other) => path === "" || other.startsWith(`${path}/`)) ? "folder" : null;
    },
    read: (path) => new TextEncoder().encode(files[path]),
    list(path) {
      const below = path === "" ? "" : `${path}/`;
      return [...new Set(paths.filter((other) => other.startsWith(below)).map((other) => other.slice(below.length).split("/")[0] ?? ""))];
    },
  });
  const read = (name: string): string => new TextDecoder().decode(site.files.get(name));
  return { ...site, text: (name) => resolved(name, read(name)) };
}

/** The page of this file, with each link and source as the path that it leads to. */
function resolved(name: string, html: string): string {
  const url = new URL(name === "docs/index.html" ? "docs" : name.replace(/\.html$/, ""), GATEWAY);
  return html.replace(/\b(href|src)="([^"#][^"]*)"/g, (_, attribute: string, written: string) => {
    assert.ok(!written.startsWith("/"), `${name}: ${written} is not relative`);
    const { href } = new URL(written, url);
    return `${attribute}="${href.startsWith(GATEWAY) ? `/${href.slice(GATEWAY.length)}` : href}"`;
  });
}

const links = (html: string): string[] => [...html.matchAll(/(?:href|src)="([^"]*)"/g)].map(([, url = ""]) => url);
const article = (html: string): string => html.slice(html.indexOf("<article"));

test("a link is another site's, the gateway's, or a file's", () => {
  for (const [href, expected] of [
    ["https://example.org/x", { kind: "external", url: "https://example.org/x" }],
    ["mailto:a@example.org", { kind: "external", url: "mailto:a@example.org" }],
    ["//example.org", { kind: "external", url: "//example.org" }],
    ["http://127.0.0.1:8080", { kind: "gateway", path: "/" }],
    ["http://localhost:8080/watch/demo?transport=hls#x", { kind: "gateway", path: "/watch/demo?transport=hls#x" }],
    ["http://127.0.0.1:80801/", { kind: "external", url: "http://127.0.0.1:80801/" }],
    ["/docs/api", { kind: "gateway", path: "/docs/api" }],
    ["#there", { kind: "file", path: "docs/guide/a.md", anchor: "#there" }],
    ["b.md#there", { kind: "file", path: "docs/guide/b.md", anchor: "#there" }],
    ["../../examples/config/", { kind: "file", path: "examples/config", anchor: "" }],
    ["two%20words.md", { kind: "file", path: "docs/guide/two words.md", anchor: "" }],
    ["../..", { kind: "file", path: "", anchor: "" }],
    ["../../..", { kind: "outside-repository" }],
  ] as const) {
    assert.deepEqual(readLink("docs/guide/a.md", href), expected, href);
  }
});

test("every file has a URL, and unknown types end in .txt", () => {
  for (const [path, kind, url] of [
    ["docs/index.md", "file", "/docs"],
    ["docs/guide/index.md", "file", "/docs/guide"],
    ["docs/guide/install.md", "file", "/docs/guide/install"],
    ["docs/two words.md", "file", "/docs/two%20words"],
    ["docs/picture.png", "file", "/docs/picture.png"],
    ["docs", "folder", "/docs"],
    ["README.md", "file", "/docs/repo/README"],
    ["examples/config/lan.toml", "file", "/docs/repo/examples/config/lan.toml"],
    ["examples/proxies", "folder", "/docs/repo/examples/proxies"],
    ["examples/proxies/Caddyfile", "file", "/docs/repo/examples/proxies/Caddyfile.txt"],
    ["examples/page.html", "file", "/docs/repo/examples/page.html.txt"],
  ] as const) {
    assert.equal(urlOf(path, kind), url, path);
  }
});

test("a page refers to others so that it holds wherever the gateway is", () => {
  for (const [from, to, written] of [
    ["/docs", "/", "./"],
    ["/docs", "/docs", "docs"],
    ["/docs", "/docs/api", "docs/api"],
    ["/docs/api", "/docs", "../docs"],
    ["/docs/api", "/docs/guide/install#now", "guide/install#now"],
    ["/docs/guide/install", "/", "../../"],
    ["/docs/guide/install", "/docs/guide", "../guide"],
    ["/docs/guide/install", "/docs/guide/watch?a=/b", "watch?a=/b"],
    ["/docs/guide/install", "/assets/style.css", "../../assets/style.css"],
    ["/docs/guide", "/docs/guide/install", "guide/install"],
    ["/docs/repo/a/b", "/docs/repo/a/", "./"],
  ] as const) {
    assert.equal(relativeTo(from, to), written, `${from} ${to}`);
    const at = (path: string): string => new URL(path.slice(1), GATEWAY).href;
    assert.equal(new URL(written, at(from)).href, at(to));
  }
});

test("headings have the same anchors as on GitHub", () => {
  const page = readMarkdown("# A `--flag`, & more!\n## Twice\n### Twice\n## `[server]` names_of\n> ## Über\n\n<a name=\"own\"></a>\n");
  assert.equal(page.title, "A --flag, & more!");
  assert.deepEqual([...page.ids], ["a---flag--more", "twice", "twice-1", "server-names_of", "über", "own"]);
});

test("links lead to served pages, and files linked outside docs/ are included", () => {
  const site = siteOf({
    "docs/index.md": "# Docs\n[install](guide/install.md#now) ![shot](../web/shot.png) [readme](../README.md) [old](http://127.0.0.1:8080/watch/demo) [out](https://example.org/)",
    "docs/guide/install.md": "# Install\n## Now\n[config](../../examples/config/lan.toml), [here](#now), [up](../index.md), <a href='../../LICENSE'>license</a>",
    "README.md": "# Read me\n[docs](docs/), [proxies](examples/proxies)",
    "examples/config/lan.toml": "[server]",
    "examples/config/other.toml": "[server]",
    "examples/proxies/Caddyfile": "x",
    "examples/proxies/.hidden": "x",
    "web/shot.png": "\0png",
    LICENSE: "Apache",
  });
  assert.deepEqual(site.problems, []);
  assert.deepEqual([...site.files.keys()].sort(), [
    "docs/guide/install.html",
    "docs/index.html",
    "docs/repo/LICENSE.txt",
    "docs/repo/README.html",
    "docs/repo/examples/config/lan.toml",
    "docs/repo/examples/proxies.html",
    "docs/repo/examples/proxies/Caddyfile.txt",
    "docs/repo/web/shot.png",
  ]);
  assert.deepEqual(links(article(site.text("docs/index.html"))), [
    "#docs", "/docs/guide/install#now", "/docs/repo/web/shot.png", "/docs/repo/README", "/watch/demo", "https://example.org/", "/docs/guide/install",
  ]);
  const install = links(article(site.text("docs/guide/install.html")));
  for (const url of ["/docs/repo/examples/config/lan.toml", "#now", "/docs", "/docs/repo/LICENSE.txt"]) assert.ok(install.includes(url), url);
  assert.deepEqual(links(article(site.text("docs/repo/README.html"))), ["#read-me", "/docs", "/docs/repo/examples/proxies"]);
  assert.ok(links(site.text("docs/repo/examples/proxies.html")).includes("/docs/repo/examples/proxies/Caddyfile.txt"));
  for (const source of ["docs/index.md", "README.md", "examples/config/lan.toml"]) assert.ok(site.sources.has(source), source);
});

test("the navigation follows the first page, and pages link to their neighbours", () => {
  const site = siteOf({
    "docs/index.md": "# Sluicegate\n[b](guide/b.md) [limits](reference/limits.md) [why](decisions/) [bench](benchmarks.md)",
    "docs/guide/a.md": "# A",
    "docs/guide/b.md": "# B\n## One\n### Two",
    "docs/reference/limits.md": "# Limits",
    "docs/decisions/2-two.md": "# Two",
    "docs/decisions/10-ten.md": "# Ten",
    "docs/benchmarks.md": "no heading",
    "docs/more/how-to/x.md": "# X",
  });
  assert.deepEqual(site.problems, []);
  const html = site.text("docs/guide/b.html");
  const menu = html.slice(html.indexOf("<main"), html.indexOf("<article"));
  assert.deepEqual([...menu.matchAll(/<(?:span|a[^>]*)>([^<]*)</g)].map(([, words]) => words), [
    "Overview", "Guide", "B", "One", "A", "Reference", "Limits", "HTTP and WebSocket API", "Benchmarks", "Decisions", "Two", "Ten", "More", "X",
  ]);
  assert.match(html, /<a rel="prev" href="\/docs"><span>Previous<\/span> Overview<\/a><a rel="next" href="\/docs\/guide\/a"><span>Next<\/span> A<\/a>/);
  // Pages outside the navigation are skipped, and the last page has no next.
  assert.match(site.text("docs/reference/limits.html"), /rel="next" href="\/docs\/benchmarks"/);
  assert.ok(!site.text("docs/more/how-to/x.html").includes('rel="next"'));
  assert.match(site.text("docs/benchmarks.html"), /<title>Benchmarks · Sluicegate<\/title>[^]*<h1>Benchmarks<\/h1>/);
  assert.deepEqual(links(article(site.text("docs/decisions.html"))), ["/docs/decisions/2-two", "/docs/decisions/10-ten"]);
});

test("a dead link is reported with its line and rendered as text", () => {
  const site = siteOf({
    "docs/index.md": "# Docs\n\nText\nthat goes on, [gone](gone.md), ![no picture](no.png)\n\n[bin](../a.bin) [far](../../x) [place](#nowhere) [there](a.md#nowhere)",
    "docs/a.md": "# A",
    "a.bin": "\0",
  });
  assert.deepEqual(site.problems, [
    "docs/index.md:4: gone.md does not exist",
    "docs/index.md:4: no.png does not exist",
    "docs/index.md:6: ../a.bin is neither text nor an image that is served",
    "docs/index.md:6: ../../x points outside the repository",
    "docs/index.md:6: docs/index.md has no anchor #nowhere",
    "docs/index.md:6: docs/a.md has no anchor #nowhere",
  ]);
  assert.match(site.text("docs/index.html"), /that goes on, gone, no picture/);
});

test("pages contain nothing that the gateway's CSP blocks", () => {
  const site = siteOf({
    "docs/index.md": "# Docs\n\n| a | b |\n|--:|:-:|\n| 1 | 2 |\n\n```toml\n[server] # <b>\n```\n\n> [!NOTE]\n> Mind <this>.\n",
  });
  const html = site.text("docs/index.html");
  assert.ok(!/\sstyle=|<style|<script(?! type="module" src="\/assets\/)/.test(html));
  assert.match(html, /<th class="right">a<\/th>\n<th class="center">b<\/th>/);
  assert.match(html, /<span class="hljs-section">\[server\]<\/span> <span class="hljs-comment"># &lt;b&gt;<\/span>/);
  assert.match(html, /<blockquote class="alert note" data-title="Note">\n<p>Mind <this>\.<\/p>/);
});

test("a missing first page or two files for one URL are an error", () => {
  assert.throws(() => siteOf({ "README.md": "# x" }), /docs\/index\.md is missing/);
  assert.throws(() => siteOf({ "docs/index.md": "", "docs/api.md": "" }), /docs\/api\.md would be served at \/docs\/api/);
  assert.throws(() => siteOf({ "docs/index.md": "", "docs/a.md": "", "docs/a/index.md": "" }), /would be served at \/docs\/a, /);
});
