// The documentation as the gateway serves it: every Markdown file below docs/ as a page, and below /docs/repo those
// files of the repository that a page links to, so that no link is dead.

import { urlOf, decoded, isImage, outputOf, readLink, REPOSITORY } from "./links";
import { type Document, readMarkdown } from "./markdown";
import { API, type Entry, type Group, makeMenu, titleOf } from "./menu";
import { folderHtml, pageHtml } from "./page";

/** The repository's files, by paths from its top. */
export interface Files {
  /** Kind of the entry at this path; null if there is none. */
  kind(path: string): "file" | "folder" | null;
  read(path: string): Uint8Array;
  /** Names in a folder. */
  list(path: string): string[];
}

export interface Site {
  /** By the file's name below target/web. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Files and folders that it was built from. */
  readonly sources: ReadonlySet<string>;
  /** Dead links: on the pages they are plain text. */
  readonly problems: readonly string[];
}

const TOP = "docs/index.md";
/** Folders with generated files. */
const GENERATED = new Set(["node_modules", "target"]);
/** A link to a folder brings all its files along, into the gateway's binary. */
const MAX_FILES = 200;

/** Builds the site. Throws if the first page is missing, or if two files have the same URL. */
export function makeSite(files: Files): Site {
  if (files.kind(TOP) !== "file") throw new Error(`${TOP} is missing: it is the first page of the documentation, which the gateway serves at /docs`);
  return new SiteBuilder(files).build();
}

class SiteBuilder {
  readonly #files: Files;
  readonly #output = new Map<string, Uint8Array>();
  readonly #sources = new Set<string>();
  readonly #problems: string[] = [];
  /** Markdown files and folders that become pages; more come as links name them. */
  readonly #pages = new Map<string, Document>();
  readonly #queue = new Set<string>();
  readonly #anchors: { readonly at: string; readonly path: string; readonly id: string }[] = [];
  #menu: readonly Group[] = [];

  constructor(files: Files) {
    this.#files = files;
  }

  build(): Site {
    for (const path of this.#below("docs")) if (path.endsWith(".md")) this.#pages.set(path, this.#document(path));
    this.#menu = makeMenu(this.#pages);
    for (const path of this.#pages.keys()) this.#queue.add(path);
    // Grows during the iteration.
    for (const path of this.#queue) this.#serve(path);
    for (const { at, path, id } of this.#anchors) {
      if (this.#pages.get(path)?.ids.has(id) === false) this.#problems.push(`${at}: ${path} has no anchor #${id}`);
    }
    return { files: this.#output, sources: this.#sources, problems: this.#problems };
  }

  #serve(path: string): void {
    const url = urlOf(path, this.#kind(path));
    if (this.#kind(path) === "folder") this.#put(url, true, path, this.#folder(path, url));
    else if (path.endsWith(".md")) this.#put(url, true, path, this.#page(path, url));
    else this.#put(url, false, path, this.#read(path));
  }

  #put(url: string, isPage: boolean, path: string, content: Uint8Array | string): void {
    const name = outputOf(url, isPage);
    if (this.#output.has(name) || name === "docs/api.html") throw new Error(`${path} would be served at ${url}, which is already in use: rename it`);
    this.#output.set(name, typeof content === "string" ? new TextEncoder().encode(content) : content);
  }

  #page(path: string, url: string): string {
    const page = this.#pages.get(path) ?? this.#document(path);
    this.#pages.set(path, page);
    const lines = new Map(page.references.map(({ href, line }) => [href, line]));
    const text = page.render((href) => this.#resolve(path, lines.get(href) ?? 1, href));
    const title = titleOf(path, page);
    const order = this.#menu.flatMap(({ entries }) => entries).filter((entry) => entry !== API);
    const at = order.findIndex((entry) => entry.url === url);
    const group = this.#menu.find(({ entries }) => entries.some((entry) => entry.url === url));
    return pageHtml(
      {
        title,
        url,
        parent: group === undefined ? `${path}, a file of the repository` : group.title || "Documentation",
        sections: page.headings.filter(({ level }) => level === 2),
        body: page.title === null ? `<h1>${title}</h1>\n${text}` : text,
        previous: order[at - 1] ?? null,
        next: (at < 0 ? null : order[at + 1]) ?? null,
      },
      this.#menu,
    );
  }

  /** A page that lists what is in a folder, for one that has no page of its own. */
  #folder(path: string, url: string): string {
    const ofRepository = url.startsWith(REPOSITORY);
    const files = this.#below(path).filter((file) => ofRepository || this.#pages.has(file));
    const entries = files.map((file): Entry => {
      this.#queue.add(file);
      const title = ofRepository ? file.slice(path.length + 1) : titleOf(file, this.#pages.get(file));
      return { title, url: urlOf(file, "file") };
    });
    const title = ofRepository ? `${path}/` : titleOf(path, undefined);
    const parent = ofRepository ? "A folder of the repository" : "Documentation";
    return pageHtml({ title, url, parent, sections: [], body: folderHtml(title, entries), previous: null, next: null }, this.#menu);
  }

  /** Where a link on a page leads when it is served; null if nowhere. */
  #resolve(from: string, line: number, href: string): string | null {
    const link = readLink(from, href);
    const at = `${from}:${line}`;
    if (link.kind === "external") return link.url;
    if (link.kind === "gateway") return link.path;
    const deadLink = (why: string): null => {
      this.#problems.push(`${at}: ${href} ${why}`);
      return null;
    };
    if (link.kind === "outside-repository") return deadLink("points outside the repository");
    const path = this.#pages.has(`${link.path}/index.md`) ? `${link.path}/index.md` : link.path;
    const kind = this.#files.kind(path);
    if (kind === null) return deadLink("does not exist");
    if (kind === "folder" && this.#below(path).length > MAX_FILES) return deadLink(`has more than ${MAX_FILES} files, too many to include`);
    if (kind === "file" && !path.endsWith(".md") && !isImage(path) && this.#read(path).includes(0)) return deadLink("is neither text nor an image that is served");
    this.#queue.add(path);
    if (link.anchor.length > 1 && path.endsWith(".md")) this.#anchors.push({ at, path, id: decoded(link.anchor.slice(1)) });
    return link.path === from && link.anchor !== "" ? link.anchor : urlOf(path, kind) + link.anchor;
  }

  #document(path: string): Document {
    return readMarkdown(new TextDecoder().decode(this.#read(path)));
  }

  #read(path: string): Uint8Array {
    this.#sources.add(path);
    return this.#files.read(path);
  }

  #kind(path: string): "file" | "folder" {
    return this.#files.kind(path) ?? "file";
  }

  /** All files below a folder, by name, without hidden and generated ones. */
  #below(folder: string): string[] {
    this.#sources.add(folder);
    const found: string[] = [];
    for (const name of this.#files.list(folder).sort((one, other) => one.localeCompare(other, "en", { numeric: true }))) {
      const path = folder === "" ? name : `${folder}/${name}`;
      if (name.startsWith(".") || GENERATED.has(name)) continue;
      if (this.#kind(path) === "folder") found.push(...this.#below(path));
      else found.push(path);
    }
    return found;
  }
}
