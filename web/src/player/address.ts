// Where a stream is, from the element's attributes. Pure.

/** What the attribute `rendition` says for the stream itself. */
export const ITSELF = "-";

/**
 * The stream's base address, such as `https://gateway/live/demo`; null for nothing to play.
 *
 * `src` alone is that address, or its path. With `stream`, `src` is where the gateway is, and without `src` the gateway is
 * where the script came from: `home`. `page` is what a relative `src` is relative to.
 */
export function streamBase(src: string, stream: string, home: string, page: string): URL | null {
  if (src === "" && stream === "") return null;
  try {
    const given = src === "" ? new URL(home) : new URL(src, page);
    return stream === "" ? given : new URL(`live/${encodeStream(stream)}`, folder(given));
  } catch {
    return null;
  }
}

/** A gateway's clock, beside its streams. */
export function clockUrl(base: URL): URL {
  return new URL("../healthz", base.href.replace(/\/+(?=$|[?#])/, ""));
}

/** One path segment; `@` parts stream and rendition, so it stays as it is. */
export function encodeStream(name: string): string {
  return encodeURIComponent(name).replaceAll("%40", "@");
}

function folder(url: URL): URL {
  const made = new URL(url);
  made.pathname = `${made.pathname.replace(/\/+$/, "")}/`;
  made.search = made.hash = "";
  return made;
}
