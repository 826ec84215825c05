// MJPEG, read by fetch instead of an <img>: this way bytes are counted, the end of the stream is noticed, and only
// the newest frame is decoded.

import { Lateness } from "../net/lateness";
import { isJpeg, withEnd } from "../media/jpeg";
import { boundaryOf, MultipartError, MultipartReader } from "../media/multipart";
import { errorText } from "../net/errors";
import { unreachable } from "./refusal";
import { type Ending, type Sink, type Transport, transportUrl } from "./transport";

/** Frame rate requested while another transport needs the link; a lower one would look like a stall. */
const THROTTLED_FPS = "2";

/** Plays `{base}/mjpeg`, with frames for the canvas. */
export function openMjpeg(base: URL, sink: Sink): Transport {
  const decoder = new JpegDecoder(sink);
  const lateness = new Lateness();
  let abort = new AbortController();
  const start = (throttled: boolean): void => {
    const { signal } = (abort = new AbortController());
    const url = transportUrl(base, "mjpeg");
    if (throttled) url.searchParams.set("fps", THROTTLED_FPS);
    void read(url, signal, sink, decoder, lateness).then((ending) => {
      if (signal.aborted) return;
      decoder.stop();
      sink.ended(ending);
    });
  };
  start(false);
  return {
    stop: () => {
      abort.abort();
      decoder.stop();
    },
    // On a new connection: data queued on the old one is discarded with it.
    throttle: (throttled) => {
      abort.abort();
      start(throttled);
    },
  };
}

async function read(url: URL, signal: AbortSignal, sink: Sink, decoder: JpegDecoder, lateness: Lateness): Promise<Ending> {
  let response: Response;
  try {
    response = await fetch(url, { signal, cache: "no-store" });
  } catch {
    return unreachable(url);
  }
  if (!response.ok) return { kind: "refused", reason: await errorText(response) };
  const boundary = boundaryOf(response.headers.get("content-type"));
  if (boundary === null || response.body === null) {
    return { kind: "refused", reason: "the gateway's response is not a multipart stream" };
  }
  const parts = new MultipartReader(boundary);
  const body = response.body.getReader();
  // A frame that arrives in several pieces allows a bandwidth estimate. Gaps between frames are no evidence of a slow
  // link.
  let began = 0;
  let received = 0;
  try {
    for (;;) {
      const { done, value } = await body.read();
      if (done) return { kind: "draining", reason: "the gateway ended the stream" };
      const now = performance.now();
      sink.bytes(value.length);
      const wasInsidePart = parts.insidePart;
      if (wasInsidePart) received += value.length;
      const finished = parts.push(value);
      if (wasInsidePart && finished.length > 0) sink.bandwidthSample(received, now - began);
      if (parts.insidePart && (!wasInsidePart || finished.length > 0)) [began, received] = [now, 0];
      for (const part of finished) {
        const queued = part.capturedAt === null ? null : lateness.arrived(part.capturedAt, now);
        if (queued !== null) sink.queueingDelay(queued);
        if (isJpeg(part.type)) decoder.offer(withEnd(part.body));
      }
      if (parts.ended) return { kind: "draining", reason: "the gateway ended the stream" };
    }
  } catch (error) {
    const reason = error instanceof MultipartError ? error.message : "the connection was lost";
    return { kind: "lost", reason };
  } finally {
    void body.cancel().catch(() => undefined);
  }
}

/** Decodes one JPEG at a time; of those that arrive meanwhile, only the newest is kept. */
class JpegDecoder {
  readonly #sink: Sink;
  #pending: { jpeg: Uint8Array<ArrayBuffer>; arrivedAt: number } | null = null;
  #busy = false;
  #stopped = false;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  offer(jpeg: Uint8Array<ArrayBuffer>): void {
    if (this.#pending !== null) this.#sink.dropped(1);
    this.#pending = { jpeg, arrivedAt: performance.now() };
    if (!this.#busy) void this.#decode();
  }

  stop(): void {
    this.#stopped = true;
    this.#pending = null;
  }

  async #decode(): Promise<void> {
    this.#busy = true;
    for (let next = this.#pending; next !== null && !this.#stopped; next = this.#pending) {
      this.#pending = null;
      this.#sink.fed(1);
      if (this.#stopped) break;
      try {
        const bitmap = await createImageBitmap(new Blob([next.jpeg], { type: "image/jpeg" }));
        if (this.#stopped) {
          bitmap.close();
        } else {
          this.#sink.frame({
            image: bitmap,
            width: bitmap.width,
            height: bitmap.height,
            arrivedAt: next.arrivedAt,
            close: () => bitmap.close(),
          });
        }
      } catch {
        // A damaged frame; the next one replaces it.
        if (!this.#stopped) this.#sink.dropped(1);
      }
    }
    this.#busy = false;
  }
}
