// Names and labels of the transports that this player implements.

/** In order of preference: `auto` tries them in this order. */
export const TRANSPORTS = ["nal", "mse", "hls", "mjpeg"] as const;

/** Name of a transport in URLs and in the gateway's messages. */
export type TransportName = (typeof TRANSPORTS)[number];

/** Labels for the pages. */
export const LABELS: Readonly<Record<TransportName, string>> = { nal: "WebCodecs", mse: "MSE", hls: "HLS", mjpeg: "MJPEG" };

/** Transports whose URLs are the same for all viewers, so that caches can keep what is behind them. */
export const CACHEABLE: ReadonlySet<TransportName> = new Set<TransportName>(["hls"]);

/** The transport with this name; `auto` for anything else. */
export function transportNamed(name: string | null): TransportName | "auto" {
  return TRANSPORTS.find((known) => known === name) ?? "auto";
}
