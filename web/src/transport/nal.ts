// H.264 access units over WebSocket into WebCodecs. It connects the socket, `NalFeed` (what to decode) and the
// decoder. Annex B needs no `description`: parameter sets travel in the stream.

import { displaySize, type Geometry, readGeometry } from "../media/geometry";
import { type Decoder, NalFeed, type EncodedUnit } from "./nal_feed";
import { openSocket } from "./socket";
import type { Ending, DecodedFrame, Sink, Transport } from "./transport";

/** Consecutive decoder failures without an output frame after which the transport gives up. */
const MAX_FAILURES = 3;

/** Why this browser cannot play `nal` at all, or null if it can. */
export function nalObstacle(): string | null {
  if (typeof VideoDecoder === "function") return null;
  return globalThis.isSecureContext
    ? "this browser does not support WebCodecs"
    : "browsers allow WebCodecs only over HTTPS or on localhost";
}

/** Plays `{base}/nal`, with frames for the canvas. */
export function openNal(base: URL, sink: Sink): Transport {
  let stopped = false;
  let geometry: Geometry | null = null;
  const stop = (): void => {
    stopped = true;
    closeSocket();
    decoder.close();
  };
  const end = (ending: Ending): void => {
    if (stopped) return;
    stop();
    sink.ended(ending);
  };
  const decoder = new WebCodecsDecoder({
    frame: (frame) => {
      feed.frameDecoded();
      sink.frame({
        image: frame,
        ...displayGeometry(frame, geometry),
        arrivedAt: frame.timestamp / 1000,
        close: () => frame.close(),
      });
    },
    failed: () => feed.decoderFailed(),
    unsupported: (reason) => end({ kind: "unsupported", reason }),
  });
  const feed = new NalFeed(decoder, { dropped: (count) => sink.dropped(count), fed: () => sink.fed(1) });
  const closeSocket = openSocket(base, "nal", {
    message: (data) => {
      if (typeof data === "string") {
        geometry = readGeometry(data) ?? geometry;
        return;
      }
      sink.bytes(data.byteLength);
      const header = feed.message(new Uint8Array(data), performance.now() * 1000);
      // A new track begins; its geometry follows in a text message if frames are not displayed as coded.
      if (header) geometry = null;
    },
    ended: end,
  });
  return { stop };
}

/** Display size of a frame, and its rotation. */
function displayGeometry(frame: VideoFrame, geometry: Geometry | null): Pick<DecodedFrame, "width" | "height" | "orientation"> {
  // The coded size is padded to whole macroblocks; the visible rectangle and the display size are cropped by the SPS.
  if (geometry === null || frame.visibleRect === null) return { width: frame.displayWidth, height: frame.displayHeight };
  const { width, height } = frame.visibleRect;
  return { ...displaySize(geometry, width, height), orientation: geometry.orientation };
}

interface DecoderEvents {
  frame(frame: VideoFrame): void;
  failed(): void;
  unsupported(reason: string): void;
}

class WebCodecsDecoder implements Decoder {
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

  configure(codec: string): void {
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
      decoder.configure({ codec, optimizeForLatency: true });
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
