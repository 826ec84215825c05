// The transports the element's `transport` attribute names.

/** Best first: the order in which `auto` tries them. */
export const TRANSPORTS = ["nal", "mse", "hls", "mjpeg"] as const;

/** A transport, as addresses and the gateway name it. */
export type TransportName = (typeof TRANSPORTS)[number];

/** As the pages write them. */
export const LABELS: Readonly<Record<TransportName, string>> = { nal: "WebCodecs", mse: "MSE", hls: "HLS", mjpeg: "MJPEG" };

/** The transport of this name; anything else is `auto`. */
export function transportNamed(name: string | null): TransportName | "auto" {
  return TRANSPORTS.find((known) => known === name) ?? "auto";
}
