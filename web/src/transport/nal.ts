// H.264 access units over WebSocket into WebCodecs. Annex B needs no `description`: parameter sets travel in the stream.

import { type Decoder, NalFeed, type Unit } from "./nal_feed";
import { errorText } from "../net/errors";
import { type Ending, type Sink, type Transport, transportUrl } from "./transport";

/** Failures of the decoder in a row, without one picture between them, before the transport gives up. */
const FAILURES = 3;

const GOING_AWAY = 1001;

/** Why this browser cannot play `nal` at all, or null if it can. */
export function nalObstacle(): string | null {
  if (typeof VideoDecoder === "function") return null;
  return globalThis.isSecureContext
    ? "this browser has no WebCodecs"
    : "browsers allow WebCodecs only over HTTPS or on localhost";
}

/** Plays `{base}/nal`. */
export function openNal(base: URL, sink: Sink): Transport {
  const url = transportUrl(base, "nal");
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  const asking = new AbortController();
  let opened = false;
  let over = false;

  const stop = (): void => {
    over = true;
    asking.abort();
    decoder.close();
    socket.onmessage = socket.onclose = null;
    // Closed while it connects, the browser would log an error; so it is let open first.
    socket.onopen = () => socket.close();
    if (socket.readyState !== WebSocket.CONNECTING) socket.close();
  };
  const end = (ending: Ending): void => {
    if (over) return;
    stop();
    sink.ended(ending);
  };

  const decoder = new WebCodecsDecoder({
    frame: (frame) => {
      feed.shown();
      sink.picture({
        image: frame,
        // The coded size is padded to whole macroblocks; this one is the size to show.
        width: frame.displayWidth,
        height: frame.displayHeight,
        arrived: frame.timestamp / 1000,
        close: () => frame.close(),
      });
    },
    failed: () => feed.decoderFailed(),
    gaveUp: (reason) => end({ kind: "unsupported", reason }),
  });
  const feed = new NalFeed(decoder, (count) => sink.dropped(count));

  socket.onopen = () => {
    opened = true;
  };
  socket.onmessage = (event: MessageEvent<unknown>) => {
    if (!(event.data instanceof ArrayBuffer)) return;
    sink.bytes(event.data.byteLength);
    feed.message(new Uint8Array(event.data), performance.now() * 1000);
  };
  socket.onclose = (event) => {
    if (opened) {
      end(closed(event));
    } else {
      void refusal(base, asking.signal).then(end);
    }
  };
  return { stop };
}

function closed(event: CloseEvent): Ending {
  if (event.code === GOING_AWAY) return { kind: "draining", reason: event.reason || "the gateway is going away" };
  return { kind: "lost", reason: event.reason || `the connection broke off (${event.code})` };
}

/** A WebSocket does not tell why it could not open; the gateway tells it to a plain request. */
async function refusal(base: URL, signal: AbortSignal): Promise<Ending> {
  try {
    const response = await fetch(transportUrlOverHttp(base), { signal, cache: "no-store" });
    // 400 and 426 are what a healthy WebSocket address answers to a plain GET: something in between blocks the upgrade.
    if (response.ok || response.status === 400 || response.status === 426) {
      await response.body?.cancel();
      return { kind: "refused", reason: "the WebSocket could not be opened" };
    }
    return { kind: "refused", reason: await errorText(response) };
  } catch {
    return { kind: "unreachable", reason: "the gateway does not answer" };
  }
}

function transportUrlOverHttp(base: URL): URL {
  const url = transportUrl(base, "nal");
  url.protocol = base.protocol;
  return url;
}

interface DecoderEvents {
  frame(frame: VideoFrame): void;
  failed(): void;
  gaveUp(reason: string): void;
}

class WebCodecsDecoder implements Decoder {
  readonly #events: DecoderEvents;
  #decoder: VideoDecoder | null = null;
  #failures = 0;
  #closed = false;

  constructor(events: DecoderEvents) {
    this.#events = events;
  }

  get queued(): number {
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

  decode(unit: Unit): void {
    if (this.#decoder === null) return;
    try {
      const { key, timestamp, data } = unit;
      this.#decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp, data }));
    } catch (error) {
      if (unit.recovery) {
        // Chromium takes nothing but an IDR picture to begin with, and this stream may never send one.
        this.#events.gaveUp("this browser cannot join a stream with intra refresh");
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
    if (name === "NotSupportedError" || this.#failures >= FAILURES) {
      this.#events.gaveUp(`this browser cannot decode the stream (${detail})`);
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
