// What every transport gives the player, whatever it speaks on the wire. Some hand over decoded pictures, which are painted
// on the canvas; others feed the player's video element, and tell what it shows.

import type { Orientation } from "../media/geometry";
import type { TransportName } from "./names";

/** A decoded picture on its way to the canvas. Whoever holds it last closes it. */
export interface Picture {
  readonly image: CanvasImageSource;
  /** Size to show, upright, in pixels. */
  readonly width: number;
  readonly height: number;
  /** How the image has to be turned for that; not told: it is upright. */
  readonly orientation?: Orientation;
  /** When its bytes had arrived, on the clock of `performance.now()`. */
  readonly arrived: number;
  close(): void;
}

/** How old a picture was when it was shown, as far as that can be told without looking into it. */
export interface Delay {
  readonly ms: number;
  /** `decode`: since its bytes arrived. `live`: behind the newest picture that the player knows of. */
  readonly kind: "decode" | "live";
}

/** A picture that came onto the screen, and its size (px). */
export interface Shown {
  readonly width: number;
  readonly height: number;
  /** When, on the clock of `performance.now()`. */
  readonly at: number;
  /** Pictures shown since this was last told, this one included. */
  readonly count: number;
  readonly delay: Delay | null;
}

/**
 * Why a transport is over.
 * - `unreachable`: nobody answered.
 * - `refused`: the gateway answered, but not with this stream.
 * - `lost`: it had begun and broke off.
 * - `draining`: the gateway said it is going away.
 * - `unsupported`: this browser cannot play it, and trying again will not help.
 * - `unready`: the gateway waited for something to send by this transport, and there was nothing; another may have some.
 */
export type EndKind = "unreachable" | "refused" | "lost" | "draining" | "unsupported" | "unready";

/** The end of a transport, in words for the viewer. */
export interface Ending {
  readonly kind: EndKind;
  readonly reason: string;
}

/** Where a transport delivers. `ended` is called at most once, and nothing after it. */
export interface Sink {
  /** Takes the picture over, for the canvas. */
  picture(picture: Picture): void;
  /** The video element shows something new. */
  shown(shown: Shown): void;
  /** The video element plays sound; there are no pictures. */
  heard(): void;
  /**
   * So many pictures came for the browser, or as many as is likely where HLS does not tell; of sound alone, so many pieces.
   * Whoever is given some and shows none is given up (`Absence`).
   */
  fed(count: number): void;
  /** The video element may not play, or was paused, until the viewer says so. */
  blocked(): void;
  /** Whether the stream has sound. Not told means no. */
  sound(there: boolean): void;
  /** So many bytes of media arrived; hls.js tells them by the segment or part. */
  bytes(count: number): void;
  /** So many bytes came within so many ms in which nothing else held them up: what the link carries. */
  carried(bytes: number, ms: number): void;
  /** What came just now had been lying in queues for so long (ms). */
  queued(ms: number): void;
  /** Pictures that were not shown because they came too fast or could not be decoded. */
  dropped(count: number): void;
  ended(ending: Ending): void;
}

/** A transport that was opened, up to `stop` or its sink's `ended`. */
export interface Transport {
  /** Closes sockets, decoders and pictures in flight; the sink hears nothing more. */
  stop(): void;
  /** Loads as little as can be, or as much as it likes again: so that something else gets the link meanwhile. */
  rest?(rests: boolean): void;
}

/** Starts a transport on a stream's base address, such as `http://host/live/demo`. `only`: in this rendition and no other. */
export type Opener = (base: URL, sink: Sink, only: boolean) => Transport;

/** The address of a transport below a stream's base address. */
export function transportUrl(base: URL, name: TransportName, file = ""): URL {
  const url = new URL(base);
  url.pathname = [url.pathname.replace(/\/+$/, ""), name, ...(file === "" ? [] : [file])].join("/");
  return url;
}

/** The same as a WebSocket's: `ws:`, or `wss:` below `https:`. */
export function socketUrl(base: URL, name: TransportName): URL {
  const url = transportUrl(base, name);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}
