// Decides what of an `mse` stream goes into the browser's buffer, and what leaves it again. No socket, no MediaSource: those
// are handed in, so that track changes, full buffers and long groups can be tested one message at a time.

import { hasSamples, startsWithSync, videoTrack } from "../media/fmp4";
import type { Span } from "./live_edge";
import type { Ending } from "./transport";
import { TAKES_NONE, TAKES_NOTHING } from "./untaken";

/** A `SourceBuffer`, as the feed needs it. After `append` and `remove` it is busy until the feed is told `done`. */
export interface MediaBuffer {
  spans(): readonly Span[];
  /** Throws a `QuotaExceededError` if it is full. */
  append(bytes: Uint8Array<ArrayBuffer>): void;
  remove(from: number, to: number): void;
  changeType(mime: string): void;
}

/** The world as the feed needs it. */
export interface FeedEnv {
  supports(mime: string): boolean;
  /** Begins an empty media source with one buffer of this type; answered by `ready`. */
  open(mime: string): void;
  /** Where the element plays, in seconds. */
  position(): number;
  /** So many pictures came, and are or will be handed to the browser; of a stream of sound alone, so many fragments. */
  fed(count: number): void;
  /** Media from `from` to `to` (s) can be played now too. */
  grown(from: number, to: number): void;
  sound(there: boolean): void;
  failed(ending: Ending): void;
}

/** Seconds that stay behind the position, and by how much more the buffer grows before it is trimmed. */
const KEPT = 15;
const TRIMMED_EVERY = 5;
/** Positions of keyframes that are remembered: as many as may lie in what stays, at 60 a second. */
const KEYFRAMES = 60 * (KEPT + TRIMMED_EVERY);
/** Bytes that wait to be appended; a browser that is so far behind does not catch up. */
const WAITING_LIMIT = 32 * 1024 * 1024;
/** Bytes appended at once: a backlog needs one step for each otherwise. */
const APPEND_LIMIT = 1024 * 1024;

/** Messages that are appended in one step: an init segment, or fragments. */
interface Piece {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Which track of an init segment has the pictures; null: these are fragments. */
  readonly init: { readonly track: number | null } | null;
  /** It begins with a keyframe. */
  readonly key: boolean;
  /** As they count for `fed`. */
  readonly pictures: number;
}

/** One connection's worth of messages: a MIME type as text, then an init segment, then fragments; the same again at each change of tracks. */
export class MseFeed {
  readonly #env: FeedEnv;
  #waiting: (string | Piece)[] = [];
  #waitingBytes = 0;
  #mime: string | null = null;
  #buffer: MediaBuffer | null = null;
  #busy = false;
  #over = false;
  /** The init segment of the fragments that come; null: it is next. `#track` is of those that are appended. */
  #coming: Piece["init"] = null;
  #track: number | null = null;
  #end: number | null = null;
  #keyframes: number[] = [];
  /** Pictures in the step that is under way, and in all since the media source was opened. */
  #step = 0;
  #appended = 0;

  constructor(env: FeedEnv) {
    this.#env = env;
  }

  /** Takes one message of the WebSocket, in order. */
  message(data: ArrayBuffer | string): void {
    if (this.#over) return;
    if (typeof data === "string") {
      this.#waiting.push(data);
      this.#coming = null;
      this.#go();
      return;
    }
    const piece = this.#read(new Uint8Array(data));
    this.#waiting.push(piece);
    this.#waitingBytes += data.byteLength;
    if (this.#waitingBytes > WAITING_LIMIT) {
      this.#fail({ kind: "lost", reason: "the browser does not take the video as fast as it comes" });
      return;
    }
    this.#go();
    if (piece.pictures > 0) this.#env.fed(piece.pictures);
  }

  /** The first behind a MIME type is an init segment. */
  #read(bytes: Uint8Array<ArrayBuffer>): Piece {
    if (this.#coming === null) {
      this.#coming = { track: videoTrack(bytes) };
      return { bytes, init: this.#coming, key: false, pictures: 0 };
    }
    const { track } = this.#coming;
    const pictures = track === null || hasSamples(bytes, track) ? 1 : 0;
    return { bytes, init: null, key: track !== null && startsWithSync(bytes, track), pictures };
  }

  /** The media source that was asked for is open. */
  ready(buffer: MediaBuffer): void {
    this.#buffer = buffer;
    this.#busy = false;
    this.#go();
  }

  /** The buffer is done with what it was given. */
  done(): void {
    this.#busy = false;
    this.#appended += this.#step;
    this.#step = 0;
    const newest = this.#buffer?.spans().at(-1);
    // With sound too, what is buffered is what both tracks have, so that an empty buffer proves nothing.
    const alone = this.#track !== null && kindsOf(this.#mime ?? "").join() === "video";
    if (alone && newest === undefined && this.#end === null && this.#appended >= TAKES_NONE) {
      this.#fail({ kind: "unsupported", reason: TAKES_NOTHING });
      return;
    }
    if (newest !== undefined && newest.to !== this.#end) {
      const from = this.#end === null ? newest.from : Math.max(this.#end, newest.from);
      this.#end = newest.to;
      if (from < newest.to) this.#env.grown(from, newest.to);
    }
    this.#go();
  }

  /** Nothing is appended or told any more. */
  stop(): void {
    this.#over = true;
    this.#waiting = [];
  }

  #go(): void {
    while (!this.#busy && !this.#over) {
      const next = this.#waiting[0];
      if (next === undefined) return;
      if (typeof next === "string") {
        this.#waiting.shift();
        this.#become(next);
      } else if (this.#buffer === null) {
        this.#fail({ kind: "refused", reason: "the gateway's answer does not say what it is" });
      } else if (!this.#trim(this.#buffer, KEPT)) {
        this.#append(this.#buffer);
      }
    }
  }

  /** Takes what comes from here on as of this type. */
  #become(mime: string): void {
    if (!this.#env.supports(mime)) {
      this.#fail({ kind: "unsupported", reason: `this browser cannot play ${mime}` });
      return;
    }
    const kinds = kindsOf(mime);
    const alike = this.#mime !== null && kindsOf(this.#mime).join() === kinds.join();
    const changed = mime !== this.#mime;
    this.#mime = mime;
    this.#env.sound(kinds.includes("audio"));
    if (alike && this.#buffer !== null) {
      if (changed) this.#buffer.changeType(mime);
      return;
    }
    // A buffer holds the same kinds of tracks for ever.
    this.#buffer = null;
    this.#busy = true;
    this.#end = null;
    this.#keyframes = [];
    this.#appended = 0;
    this.#env.open(mime);
  }

  #append(buffer: MediaBuffer): void {
    const piece = this.#next();
    this.#busy = true;
    try {
      buffer.append(piece.bytes);
      this.#step = piece.pictures;
    } catch (error) {
      this.#busy = false;
      const full = error instanceof DOMException && error.name === "QuotaExceededError";
      if (full && this.#trim(buffer, 1)) {
        this.#waiting.unshift(piece);
        this.#waitingBytes += piece.bytes.length;
      } else {
        const reason = full ? "the browser's buffer is full" : "the browser does not take the video";
        this.#fail({ kind: "lost", reason });
      }
    }
  }

  /** What is to be appended next: one init segment, or a run of fragments. */
  #next(): Piece {
    const run: Piece[] = [];
    let size = 0;
    for (let next = this.#waiting[0]; next !== undefined && typeof next !== "string"; next = this.#waiting[0]) {
      // So that it is known where a keyframe lies.
      if (run.length > 0 && (next.key || size + next.bytes.length > APPEND_LIMIT)) break;
      this.#waiting.shift();
      run.push(next);
      size += next.bytes.length;
      if (next.init !== null) {
        this.#track = next.init.track;
        break;
      }
      if (next.key && this.#end !== null) this.#keyframes = [...this.#keyframes.slice(1 - KEYFRAMES), this.#end];
    }
    this.#waitingBytes -= size;
    const [first] = run;
    if (run.length === 1 && first !== undefined) return first;
    const pictures = run.reduce((sum, piece) => sum + piece.pictures, 0);
    return { bytes: joined(run, size), init: null, key: first?.key ?? false, pictures };
  }

  /**
   * Removes what lies more than `kept` seconds behind the position, up to a keyframe: what is removed takes all with it
   * that cannot be decoded without it, so another keyframe must lie between there and the position. True if it began.
   */
  #trim(buffer: MediaBuffer, kept: number): boolean {
    const first = buffer.spans()[0];
    const position = this.#env.position();
    if (first === undefined || (kept === KEPT && first.from > position - KEPT - TRIMMED_EVERY)) return false;
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

/** Which kinds of tracks a MIME type names (RFC 6381). */
export function kindsOf(mime: string): ("audio" | "video")[] {
  const codecs = /codecs="?([^";]*)/i.exec(mime)?.[1] ?? "";
  const kinds = codecs.split(",").map((codec) => (/^\s*(mp4a|opus|flac|[ae]c-[34])/i.test(codec) ? "audio" : "video"));
  return [...new Set(kinds)].sort();
}

function joined(pieces: readonly Piece[], size: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const { bytes } of pieces) {
    whole.set(bytes, at);
    at += bytes.length;
  }
  return whole;
}
