// Decides what of an `mse` stream is appended to the browser's buffer, and what is removed from it. Socket and
// MediaSource are passed in, so that track changes, full buffers and long groups can be tested one message at a time.

import { hasSamples, startsWithSync, videoTrack } from "../media/fmp4";
import type { TimeRange } from "./live_edge";
import type { Ending } from "./transport";
import { REJECTED_AFTER_FRAMES, REJECTED_REASON } from "./mse_rejection";

/**
 * The part of a `SourceBuffer` that the feed uses. After `append` and `remove` it is busy until
 * `MseFeed.updateEnd` is called.
 */
export interface MediaBuffer {
  buffered(): readonly TimeRange[];
  /** Throws a `QuotaExceededError` if it is full. */
  append(bytes: Uint8Array<ArrayBuffer>): void;
  remove(from: number, to: number): void;
  changeType(mime: string): void;
}

/** The feed's environment, replaced in tests. */
export interface FeedEnv {
  supports(mime: string): boolean;
  /** Opens an empty media source with one buffer of this type; answered by `MseFeed.ready`. */
  open(mime: string): void;
  /** The element's playback position in seconds. */
  position(): number;
  /** `count` frames arrived and are or will be passed to the browser; for an audio-only stream, fragments. */
  fed(count: number): void;
  /** Media from `from` to `to` (s) became playable. */
  playable(from: number, to: number): void;
  audio(present: boolean): void;
  failed(ending: Ending): void;
}

/** Seconds kept behind the playback position, and seconds by which the buffer exceeds that before it is trimmed. */
const KEEP_SECONDS = 15;
const TRIM_SECONDS = 5;
/** Number of keyframe positions to remember: the maximum within the kept range, at 60 per second. */
const MAX_KEYFRAMES = 60 * (KEEP_SECONDS + TRIM_SECONDS);
/** Limit for bytes waiting to be appended; a browser this far behind will not catch up. */
const WAITING_LIMIT = 32 * 1024 * 1024;
/** Limit for bytes appended at once; joining fragments lets a backlog finish in few steps. */
const APPEND_LIMIT = 1024 * 1024;

/** Messages that are appended in one step: an init segment, or fragments. */
interface Piece {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** For an init segment, the id of its video track; null for fragments. */
  readonly init: { readonly track: number | null } | null;
  /** Whether it begins with a keyframe. */
  readonly key: boolean;
  /** Number of frames, as counted by `fed`. */
  readonly frames: number;
}

/**
 * Handles the messages of one connection: a MIME type as text, then an init segment, then fragments; the same
 * sequence again at each change of tracks.
 */
export class MseFeed {
  readonly #env: FeedEnv;
  #waiting: (string | Piece)[] = [];
  #waitingBytes = 0;
  #mime: string | null = null;
  #buffer: MediaBuffer | null = null;
  #busy = false;
  #stopped = false;
  /**
   * Init segment of the fragments that are arriving; null if it is the next message. `#track` belongs to those being
   * appended.
   */
  #arrivingInit: Piece["init"] = null;
  #track: number | null = null;
  #bufferedEnd: number | null = null;
  #keyframes: number[] = [];
  /** Frames in the current append, and in all appends since the media source was opened. */
  #appendingFrames = 0;
  #appendedFrames = 0;

  constructor(env: FeedEnv) {
    this.#env = env;
  }

  /** Handles one WebSocket message; call in order. */
  message(data: ArrayBuffer | string): void {
    if (this.#stopped) return;
    if (typeof data === "string") {
      this.#waiting.push(data);
      this.#arrivingInit = null;
      this.#process();
      return;
    }
    const piece = this.#parse(new Uint8Array(data));
    this.#waiting.push(piece);
    this.#waitingBytes += data.byteLength;
    if (this.#waitingBytes > WAITING_LIMIT) {
      this.#fail({ kind: "lost", reason: "the browser cannot keep up with the stream" });
      return;
    }
    this.#process();
    if (piece.frames > 0) this.#env.fed(piece.frames);
  }

  /** The first message after a MIME type is an init segment. */
  #parse(bytes: Uint8Array<ArrayBuffer>): Piece {
    if (this.#arrivingInit === null) {
      this.#arrivingInit = { track: videoTrack(bytes) };
      return { bytes, init: this.#arrivingInit, key: false, frames: 0 };
    }
    const { track } = this.#arrivingInit;
    const frames = track === null || hasSamples(bytes, track) ? 1 : 0;
    return { bytes, init: null, key: track !== null && startsWithSync(bytes, track), frames };
  }

  /** The requested media source is open. */
  ready(buffer: MediaBuffer): void {
    this.#buffer = buffer;
    this.#busy = false;
    this.#process();
  }

  /** The buffer has completed the last operation, as reported by its event `updateend`. */
  updateEnd(): void {
    this.#busy = false;
    this.#appendedFrames += this.#appendingFrames;
    this.#appendingFrames = 0;
    const newest = this.#buffer?.buffered().at(-1);
    // With audio, `buffered` is the intersection of both tracks, so an empty buffer proves nothing.
    const videoOnly = this.#track !== null && trackKinds(this.#mime ?? "").join() === "video";
    if (videoOnly && newest === undefined && this.#bufferedEnd === null && this.#appendedFrames >= REJECTED_AFTER_FRAMES) {
      this.#fail({ kind: "unsupported", reason: REJECTED_REASON });
      return;
    }
    if (newest !== undefined && newest.to !== this.#bufferedEnd) {
      const from = this.#bufferedEnd === null ? newest.from : Math.max(this.#bufferedEnd, newest.from);
      this.#bufferedEnd = newest.to;
      if (from < newest.to) this.#env.playable(from, newest.to);
    }
    this.#process();
  }

  /** Stops appending and reporting. */
  stop(): void {
    this.#stopped = true;
    this.#waiting = [];
  }

  #process(): void {
    while (!this.#busy && !this.#stopped) {
      const next = this.#waiting[0];
      if (next === undefined) return;
      if (typeof next === "string") {
        this.#waiting.shift();
        this.#changeType(next);
      } else if (this.#buffer === null) {
        this.#fail({ kind: "refused", reason: "the gateway sent media without announcing its type" });
      } else if (!this.#trim(this.#buffer, KEEP_SECONDS)) {
        this.#append(this.#buffer);
      }
    }
  }

  /** Switches to a new MIME type for the messages that follow. */
  #changeType(mime: string): void {
    if (!this.#env.supports(mime)) {
      this.#fail({ kind: "unsupported", reason: `this browser cannot play ${mime}` });
      return;
    }
    const kinds = trackKinds(mime);
    const sameKinds = this.#mime !== null && trackKinds(this.#mime).join() === kinds.join();
    const changed = mime !== this.#mime;
    this.#mime = mime;
    this.#env.audio(kinds.includes("audio"));
    if (sameKinds && this.#buffer !== null) {
      if (changed) this.#buffer.changeType(mime);
      return;
    }
    // A SourceBuffer cannot change its set of track kinds, so a new one is needed.
    this.#buffer = null;
    this.#busy = true;
    this.#bufferedEnd = null;
    this.#keyframes = [];
    this.#appendedFrames = 0;
    this.#env.open(mime);
  }

  #append(buffer: MediaBuffer): void {
    const piece = this.#next();
    this.#busy = true;
    try {
      buffer.append(piece.bytes);
      this.#appendingFrames = piece.frames;
    } catch (error) {
      this.#busy = false;
      const full = error instanceof DOMException && error.name === "QuotaExceededError";
      if (full && this.#trim(buffer, 1)) {
        this.#waiting.unshift(piece);
        this.#waitingBytes += piece.bytes.length;
      } else {
        const reason = full ? "the browser's buffer is full" : "the browser rejected the video";
        this.#fail({ kind: "lost", reason });
      }
    }
  }

  /** Takes the next piece to append: one init segment, or a run of fragments. */
  #next(): Piece {
    const run: Piece[] = [];
    let size = 0;
    for (let next = this.#waiting[0]; next !== undefined && typeof next !== "string"; next = this.#waiting[0]) {
      // A keyframe starts a new append, so that its position in the buffer is known.
      if (run.length > 0 && (next.key || size + next.bytes.length > APPEND_LIMIT)) break;
      this.#waiting.shift();
      run.push(next);
      size += next.bytes.length;
      if (next.init !== null) {
        this.#track = next.init.track;
        break;
      }
      if (next.key && this.#bufferedEnd !== null) this.#keyframes = [...this.#keyframes.slice(1 - MAX_KEYFRAMES), this.#bufferedEnd];
    }
    this.#waitingBytes -= size;
    const [first] = run;
    if (run.length === 1 && first !== undefined) return first;
    const frames = run.reduce((sum, piece) => sum + piece.frames, 0);
    return { bytes: concatPieces(run, size), init: null, key: first?.key ?? false, frames };
  }

  /**
   * Removes media more than `kept` seconds behind the playback position, up to a keyframe. Removing also drops
   * everything that depends on the removed frames, so another keyframe must lie between the cut and the position.
   * Returns true if a removal was started.
   */
  #trim(buffer: MediaBuffer, kept: number): boolean {
    const first = buffer.buffered()[0];
    const position = this.#env.position();
    if (first === undefined || (kept === KEEP_SECONDS && first.from > position - KEEP_SECONDS - TRIM_SECONDS)) return false;
    const passed = this.#keyframes.filter((keyframe) => keyframe <= position);
    const until = this.#track === null ? position - kept : passed.slice(0, -1).findLast((keyframe) => keyframe <= position - kept);
    if (until === undefined || until <= first.from) return false;
    this.#keyframes = this.#keyframes.filter((keyframe) => keyframe >= until);
    this.#busy = true;
    buffer.remove(0, until);
    return true;
  }

  #fail(ending: Ending): void {
    this.stop();
    this.#env.failed(ending);
  }
}

/** Kinds of tracks that a MIME type names (RFC 6381). */
export function trackKinds(mime: string): ("audio" | "video")[] {
  const codecs = /codecs="?([^";]*)/i.exec(mime)?.[1] ?? "";
  const kinds = codecs.split(",").map((codec) => (/^\s*(mp4a|opus|flac|[ae]c-[34])/i.test(codec) ? "audio" : "video"));
  return [...new Set(kinds)].sort();
}

function concatPieces(pieces: readonly Piece[], size: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const { bytes } of pieces) {
    whole.set(bytes, at);
    at += bytes.length;
  }
  return whole;
}
