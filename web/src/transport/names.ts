// Names and labels of the transports that this player implements. Components may bring players for others (`half/`).

/** In order of preference: `auto` tries them in this order. */
export const TRANSPORTS = ["webcodecs", "nal", "mse", "hls", "mjpeg"] as const;

/** Name of a transport that this player implements. */
export type BuiltInName = (typeof TRANSPORTS)[number];

/** Name of a transport in URLs and in the gateway's messages. */
export type TransportName = string;

/** Labels for the pages. */
export const LABELS: Readonly<Record<BuiltInName, string>> = { webcodecs: "WebCodecs", nal: "H.264", mse: "MSE", hls: "HLS", mjpeg: "MJPEG" };

/** Transports whose URLs are the same for all viewers, so that caches can keep what is behind them. */
export const CACHEABLE: ReadonlySet<TransportName> = new Set<BuiltInName>(["hls"]);

/** Whether this player implements the transport. */
export function isBuiltIn(name: TransportName): name is BuiltInName {
  return TRANSPORTS.some((known) => known === name);
}
