// Common interface of all transports, independent of their wire format. Some deliver decoded frames, which are drawn
// on the canvas; others feed the player's video element and report what it displays.

import type { Orientation } from "../media/geometry";
import type { TransportName } from "./names";

/** A decoded frame on its way to the canvas. The last owner closes it. */
export interface DecodedFrame {
  readonly image: CanvasImageSource;
  /** Display size, after rotation, in pixels. */
  readonly width: number;
  readonly height: number;
  /** Rotation to apply; absent if the frame is upright. */
  readonly orientation?: Orientation;
  /** Arrival time of its last byte, in ms of `performance.now()`. */
  readonly arrivedAt: number;
  close(): void;
}

/** Age of a frame when it was displayed, as far as it can be determined without reading its content. */
export interface Delay {
  readonly ms: number;
  /** `decode`: since its bytes arrived. `live`: distance to the newest frame that the player knows of. */
  readonly kind: "decode" | "live";
}

/** A frame that was displayed, with its size in pixels. */
export interface DisplayedFrame {
  readonly width: number;
  readonly height: number;
  /** Time of display, in ms of `performance.now()`. */
  readonly at: number;
  /** Frames displayed since the last event, including this one. */
  readonly count: number;
  readonly delay: Delay | null;
}

/**
 * Why a transport ended.
 * - `unreachable`: no response.
 * - `refused`: the gateway responded, but not with this stream.
 * - `lost`: the connection was interrupted after it had started.
 * - `draining`: the gateway announced the end: it is shutting down, or the transport was replaced.
 * - `unsupported`: this browser cannot play it, and retrying will not help.
 * - `unready`: the gateway waited for data to send over this transport, and there was none; another transport may
 *   have some.
 */
export type EndKind = "unreachable" | "refused" | "lost" | "draining" | "unsupported" | "unready";

/** The end of a transport, with a reason for the viewer. */
export interface Ending {
  readonly kind: EndKind;
  readonly reason: string;
}

/** A protocol that carries media. */
export type CarrierName = "WebTransport" | "WebSocket";

/** Receiver of a transport's events. `ended` is called at most once, and nothing after it. */
export interface Sink {
  /** A frame for the canvas; the sink takes ownership. */
  frame(frame: DecodedFrame): void;
  /** The video element displays a new frame. */
  displayed(frame: DisplayedFrame): void;
  /** The video element plays audio of a stream without video. */
  audioPlayed(): void;
  /**
   * `count` frames arrived for the browser (an estimate for HLS, which has no frame counts); for audio-only streams,
   * fragments. A transport that displays none of them is given up, see `DisplayWatchdog`.
   */
  fed(count: number): void;
  /** The browser blocks playback, or playback was paused, until the viewer acts. */
  blocked(): void;
  /** Whether the stream has audio. Assumed false until reported. */
  audio(present: boolean): void;
  /** The protocol over which media arrives, where a transport has several; for people. May change while it plays. */
  carrier(name: CarrierName): void;
  /** `count` bytes of media arrived; hls.js reports them per segment or part. */
  bytes(count: number): void;
  /** Bandwidth sample: `bytes` arrived within `ms` in which only the link limited them. */
  bandwidthSample(bytes: number, ms: number): void;
  /** Estimated time (ms) that the latest data spent in queues. */
  queueingDelay(ms: number): void;
  /** Frames that were not displayed because they arrived too fast or could not be decoded. */
  dropped(count: number): void;
  ended(ending: Ending): void;
}

/** An open transport, until `stop` or its sink's `ended`. */
export interface Transport {
  /** Closes sockets, decoders and frames in flight; no event follows. */
  stop(): void;
  /** Reduces its load as far as possible, or restores it, so that another transport gets the link meanwhile. */
  throttle?(throttled: boolean): void;
}

/**
 * Opens a transport of the stream at `base`, such as `http://host/live/demo`. `only`: without adaptive rendition
 * switching.
 */
export type Opener = (base: URL, sink: Sink, singleRendition: boolean) => Transport;

/** URL of a transport below the stream's base URL. */
export function transportUrl(base: URL, name: TransportName, file = ""): URL {
  const url = new URL(base);
  url.pathname = [url.pathname.replace(/\/+$/, ""), name, ...(file === "" ? [] : [file])].join("/");
  return url;
}

/** The same for a WebSocket: `ws:`, or `wss:` for `https:`. */
export function socketUrl(base: URL, name: TransportName): URL {
  const url = transportUrl(base, name);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}
