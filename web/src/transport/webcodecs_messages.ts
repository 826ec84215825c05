// Messages between the page and the worker of `webcodecs`. Types only. Times of `performance` differ between the two,
// so they are sent with the time origin added.

import type { DecodedFrame, DisplayedFrame } from "./transport";
import type { Source } from "./webcodecs_carrier";
import type { ReceiverEvents, SoundClock } from "./webcodecs_receiver";

/** To the worker; `open` is the first and comes once. */
export type WorkerOrder =
  /** Frames are drawn on the canvas, or sent to the page if there is none. */
  | { readonly open: Source; readonly canvas: OffscreenCanvas | null }
  | { readonly sound: MessagePort | null }
  | { readonly clock: SoundClock };

/** What the worker reports. */
export interface WorkerEvents extends Omit<ReceiverEvents, "frame"> {
  /** A frame for the page to draw and close. */
  frame(frame: Omit<DecodedFrame, "close"> & { readonly image: VideoFrame }): void;
  /** A frame was drawn. */
  displayed(frame: DisplayedFrame): void;
}

/** A message from the worker: name and arguments of an event. */
export type WorkerReport = { [Name in keyof WorkerEvents]: [Name, ...Parameters<WorkerEvents[Name]>] }[keyof WorkerEvents];
