// The browser's video decoder, for `nal` and `webcodecs`.

import { displaySize, type Geometry } from "../media/geometry";
import type { DecodedFrame } from "./transport";

/** One access unit for the decoder. */
export interface EncodedUnit {
  readonly key: boolean;
  /** Whether this key unit is a recovery point instead of an IDR picture; not every decoder starts there. */
  readonly recovery: boolean;
  /** In µs: the arrival time on `nal`, strictly increasing; the presentation time on `webcodecs`. */
  readonly timestamp: number;
  readonly data: Uint8Array;
}

/** The part of the decoder that the feed uses. */
export interface Decoder {
  /** Reconfigures the decoder and discards its queue. Annex B has no `description`. */
  configure(codec: string, description?: Uint8Array): void;
  decode(unit: EncodedUnit): void;
  /** Number of units waiting to be decoded. */
  readonly decodeQueueSize: number;
}

/** Outcome of each frame, reported once. */
export interface FeedEvents {
  /** `count` frames were skipped. */
  dropped(count: number): void;
  /** One frame was passed to the decoder. */
  fed(): void;
}

/** Consecutive decoder failures without an output frame after which the transport gives up. */
const MAX_FAILURES = 3;

/** Why this browser cannot decode video for scripts, or null if it can. */
export function webCodecsObstacle(): string | null {
  if (typeof VideoDecoder === "function") return null;
  return globalThis.isSecureContext
    ? "this browser does not support WebCodecs"
    : "browsers allow WebCodecs only over HTTPS or on localhost";
}

/** Display size of a frame, and its rotation. */
export function displayGeometry(frame: VideoFrame, geometry: Geometry | null): Pick<DecodedFrame, "width" | "height" | "orientation"> {
  // The coded size is padded to whole macroblocks; the visible rectangle and the display size are cropped by the SPS.
  if (geometry === null || frame.visibleRect === null) return { width: frame.displayWidth, height: frame.displayHeight };
  const { width, height } = frame.visibleRect;
  return { ...displaySize(geometry, width, height), orientation: geometry.orientation };
}

/** What a decoder reports. */
export interface DecoderEvents {
  frame(frame: VideoFrame): void;
  /** It lost its state; the next unit must be a keyframe, after `configure`. */
  failed(): void;
  unsupported(reason: string): void;
}

/** A decoder that is created anew at every `configure`; right after a failure one in software. */
export class WebCodecsDecoder implements Decoder {
  readonly #events: DecoderEvents;
  #decoder: VideoDecoder | null = null;
  #failures = 0;
  #closed = false;

  constructor(events: DecoderEvents) {
    this.#events = events;
  }

  get decodeQueueSize(): number {
    return this.#decoder?.decodeQueueSize ?? 0;
  }

  configure(codec: string, description?: Uint8Array): void {
    if (this.#closed) return;
    this.#release();
    const decoder = new VideoDecoder({
      output: (frame) => {
        if (this.#decoder !== decoder) {
          frame.close();
          return;
        }
        this.#failures = 0;
        this.#events.frame(frame);
      },
      error: (error) => {
        if (this.#decoder === decoder) this.#failed(error);
      },
    });
    this.#decoder = decoder;
    try {
      decoder.configure({
        codec,
        optimizeForLatency: true,
        ...(description !== undefined && { description }),
        ...(this.#failures > 0 && { hardwareAcceleration: "prefer-software" }),
      });
    } catch (error) {
      this.#failed(error);
    }
  }

  decode(unit: EncodedUnit): void {
    if (this.#decoder === null) return;
    try {
      const { key, timestamp, data } = unit;
      this.#decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp, data }));
    } catch (error) {
      if (unit.recovery) {
        // Chromium starts decoding only at an IDR picture, and this stream may never send one.
        this.#events.unsupported("this browser cannot start playing a stream with intra refresh");
      } else {
        this.#failed(error);
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#release();
  }

  #failed(error: unknown): void {
    this.#release();
    this.#failures++;
    const name = error instanceof DOMException ? error.name : "";
    const detail = error instanceof Error ? error.message : String(error);
    if (name === "NotSupportedError" || this.#failures >= MAX_FAILURES) {
      this.#events.unsupported(`this browser cannot decode the stream (${detail})`);
    } else {
      this.#events.failed();
    }
  }

  #release(): void {
    const decoder = this.#decoder;
    this.#decoder = null;
    if (decoder !== null && decoder.state !== "closed") decoder.close();
  }
}
