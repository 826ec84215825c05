// Derives the URLs of a stream and of the gateway's clock from the attributes of the player element. Pure.

/** Value of the attribute `rendition` that selects the stream itself rather than one of its renditions. */
export const NO_RENDITION = "-";

/**
 * Returns the stream's base URL, such as `https://gateway/live/demo`, or null if there is nothing to play.
 *
 * `src` without `stream` is that URL, or its path. With `stream`, `src` is the gateway's URL; if `src` is empty, the
 * gateway is the gateway that served the script, `scriptGateway`. A relative `src` is resolved against `page`.
 */
export function streamBase(src: string, stream: string, scriptGateway: string, page: string): URL | null {
  if (src === "" && stream === "") return null;
  try {
    const resolved = src === "" ? new URL(scriptGateway) : new URL(src, page);
    return stream === "" ? resolved : new URL(`live/${encodeStream(stream)}`, withTrailingSlash(resolved));
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

function withTrailingSlash(url: URL): URL {
  const result = new URL(url);
  result.pathname = `${result.pathname.replace(/\/+$/, "")}/`;
  result.search = result.hash = "";
  return result;
}
