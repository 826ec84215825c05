// Derives the URLs of a stream and of the gateway's clock from the attributes of the player element. Pure.

/** Value of the attribute `rendition` that selects the stream itself rather than one of its renditions. */
export const ITSELF = "-";

/**
 * Returns the stream's base URL, such as `https://gateway/live/demo`, or null if there is nothing to play.
 *
 * `src` without `stream` is that URL, or its path. With `stream`, `src` is the gateway's URL; if `src` is empty, the
 * gateway is the origin of the script, `home`. A relative `src` is resolved against `page`.
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

/** URL of the gateway's clock for the stream at `base`. */
export function clockUrl(base: URL): URL {
  return new URL("../healthz", base.href.replace(/\/+(?=$|[?#])/, ""));
}

/** Encodes a stream name as one path segment. `@` separates stream and rendition, so it is not escaped. */
export function encodeStream(name: string): string {
  return encodeURIComponent(name).replaceAll("%40", "@");
}

function folder(url: URL): URL {
  const made = new URL(url);
  made.pathname = `${made.pathname.replace(/\/+$/, "")}/`;
  made.search = made.hash = "";
  return made;
}
