// The contract between the player and the half of a transport that runs in the browser: an ES module of a component. Types
// only; docs/guide/plugins.md has them for authors.

import type { EndKind } from "../transport/transport";

/** A frame, or several, that the half has displayed since its last report. */
export interface HalfFrame {
  /** Size of the upright picture in pixels, from 1 to 65,535. The player takes its shape from it. */
  readonly width: number;
  readonly height: number;
  /** Frames displayed since the last report, by default 1. */
  readonly count?: number;
  /** Time in ms from the arrival of the newest of them to its display, if known. */
  readonly delay?: number;
}

/** What a half gets from the player. After `ended` and `stop`, its functions do nothing. */
export interface HalfContext {
  /** The element to display in. It has the size of the player's picture, which may change at any time. */
  readonly root: HTMLElement;
  /** Whether sound is off now; see `setMuted`. */
  readonly muted: boolean;
  /** Address of the transport, or of `path` below it, for `fetch`. It contains a ticket that expires: ask each time. */
  url(path?: string): URL;
  /** The same for a WebSocket. Throws if the transport does not have the carrier "websocket". */
  socketUrl(path?: string): URL;
  /** `count` bytes of media arrived. */
  bytes(count: number): void;
  /** `count` frames arrived that are to be displayed. A transport that displays none of them is given up. */
  received(count: number): void;
  displayed(frame: HalfFrame): void;
  /** `count` frames that arrived will not be displayed. */
  dropped(count: number): void;
  /** Whether the half plays sound; false until reported. */
  audio(present: boolean): void;
  /** `bytes` arrived within `ms` in which only the link limited them. */
  link(bytes: number, ms: number): void;
  /** Estimated time in ms that the latest data spent in queues. */
  queued(ms: number): void;
  /** The half has ended, for this reason; the player decides when to start it again. */
  ended(kind: EndKind, reason: string): void;
}

/** A half that plays, from its construction until `stop`. */
export interface Half {
  /** Closes connections and decoders. */
  stop(): void;
  /** Turns sound off or on. */
  setMuted?(muted: boolean): void;
}

/** The default export of the module. */
export interface HalfClass {
  new (context: HalfContext): Half;
  /** Whether this browser can play it; a text says why not. Without this function it can. */
  canPlay?(): boolean | string | Promise<boolean | string>;
}

/** What the player asks the frame to do, in the one message that comes with the port. */
export interface FrameTask {
  readonly task: "can-play" | "play";
  readonly module: string;
  readonly url: string;
  readonly carriers: readonly string[];
  readonly muted: boolean;
}

/** Later messages from the player to the frame. */
export type FrameOrder = { readonly muted: boolean } | { readonly url: string };
