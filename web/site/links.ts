// What a link in a Markdown file means. Pure.

/** Where the pages of `docs/` are served; below REPOSITORY, those files of the repository that they link to. */
export const DOCS = "/docs";
export const REPOSITORY = "/docs/repo";

/** The gateway as the documentation names it. A link there means the gateway that serves the page. */
const EXAMPLE_GATEWAY = /^https?:\/\/(?:127\.0\.0\.1|localhost):8080(?=[/?#]|$)/;

export type Link =
  /** Another site, or mail. */
  | { readonly kind: "external"; readonly url: string }
  /** A path of the gateway, with its query and anchor. */
  | { readonly kind: "gateway"; readonly path: string }
  /** A file or folder by its path in the repository: "" is the top. `anchor` is "" or begins with #. */
  | { readonly kind: "file"; readonly path: string; readonly anchor: string }
  /** A path that points outside the repository. */
  | { readonly kind: "outside-repository" };

/** The link `href` in the file at `from`, a path in the repository. */
export function readLink(from: string, href: string): Link {
  const gateway = EXAMPLE_GATEWAY.exec(href);
  if (gateway !== null) {
    const rest = href.slice(gateway[0].length);
    return { kind: "gateway", path: rest.startsWith("/") ? rest : `/${rest}` };
  }
  if (/^(?:[a-z][a-z0-9+.-]*:|\/\/)/i.test(href)) return { kind: "external", url: href };
  if (href.startsWith("/")) return { kind: "gateway", path: href };
  const [, target = "", anchor = ""] = /^([^?#]*)(?:\?[^#]*)?(#.*)?$/s.exec(href) ?? [];
  if (target === "") return { kind: "file", path: from, anchor };
  const parts = from.split("/").slice(0, -1);
  for (const part of decoded(target).split("/")) {
    if (part === "..") {
      if (parts.pop() === undefined) return { kind: "outside-repository" };
    } else if (part !== "" && part !== ".") {
      parts.push(part);
    }
  }
  return { kind: "file", path: parts.join("/"), anchor };
}

/** File name extensions of images that the gateway has a content type for (`content_type` in the host's pages.rs). */
const IMAGE = /\.(?:png|svg|jpe?g|webp)$/i;
/** Endings that the gateway serves as text; what ends otherwise gets a `.txt` behind its name. */
const TEXT = /\.(?:txt|toml|wit|conf)$/;

export function isImage(path: string): boolean {
  return IMAGE.test(path);
}

/** Where a file or folder of the repository is served. */
export function urlOf(path: string, kind: "file" | "folder"): string {
  const inDocs = path === "docs" || path.startsWith("docs/");
  const below = inDocs ? path.slice("docs/".length) : path;
  return [inDocs ? DOCS : REPOSITORY, ...served(below, kind).split("/").filter(Boolean).map(encodeURIComponent)].join("/");
}

function served(path: string, kind: "file" | "folder"): string {
  if (kind === "folder" || isImage(path) || TEXT.test(path)) return path;
  if (!path.endsWith(".md")) return `${path}.txt`;
  // The file that stands for its folder.
  return path.slice(0, -".md".length).replace(/(?:^|\/)index$/, "");
}

/**
 * The file below target/web with what is served at `url`. A page's file name ends in .html, though its URL does not.
 */
export function outputOf(url: string, isPage: boolean): string {
  const path = url.slice(1).split("/").map(decodeURIComponent).join("/");
  if (!isPage) return path;
  return url === DOCS ? "docs/index.html" : `${path}.html`;
}

/** How the page at `from` refers to `to`, both of them paths of the gateway: relative, so that it holds wherever a proxy shows it. */
export function relativeTo(from: string, to: string): string {
  const [, path = "", rest = ""] = /^([^?#]*)(.*)$/s.exec(to) ?? [];
  const [folder, parts] = [from.split("/").slice(0, -1), path.split("/")];
  let shared = 0;
  while (shared < folder.length && shared < parts.length - 1 && folder[shared] === parts[shared]) shared++;
  const relative = "../".repeat(folder.length - shared) + parts.slice(shared).join("/");
  return (relative === "" ? "./" : relative) + rest;
}

/** Percent-decoded; as it is where that is not possible. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
