// Incremental parser for a multipart/x-mixed-replace body: bytes in, complete parts out. No I/O. The gateway sends
// `--frame CRLF headers CRLF CRLF body CRLF`, always with Content-Length.

/** One complete part. */
export interface Part {
  /** The part's Content-Type, lower case, without parameters; empty if it has none. */
  readonly type: string;
  /** Capture time from X-Timestamp, in Unix ms; null if it has none. */
  readonly capturedAt: number | null;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Limits in bytes for what a peer can make us buffer. */
export interface Limits {
  readonly head: number;
  readonly body: number;
}

/** The body violates the format or a limit; the rest cannot be parsed. */
export class MultipartError extends Error {}

const LIMITS: Limits = { head: 8 * 1024, body: 16 * 1024 * 1024 };

const CR = 13;
const LF = 10;

/** Parses one response body. After a `MultipartError` the reader must not be used again. */
export class MultipartReader {
  readonly #delimiter: string;
  readonly #limits: Limits;
  readonly #head: Uint8Array;
  #headLength = 0;
  #part: (Part & { filled: number }) | null = null;
  #ended = false;

  constructor(boundary: string, limits: Limits = LIMITS) {
    this.#delimiter = `--${boundary}`;
    this.#limits = limits;
    this.#head = new Uint8Array(limits.head);
  }

  /** Whether the closing delimiter was read; everything after it is ignored. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether the reader is inside an incomplete part. */
  get insidePart(): boolean {
    return this.#part !== null;
  }

  /** Parses the next bytes, split anywhere, and returns the parts that they complete. */
  push(bytes: Uint8Array): Part[] {
    const parts: Part[] = [];
    let at = 0;
    while (at < bytes.length && !this.#ended) {
      const part = this.#part;
      if (part === null) {
        at = this.#readHead(bytes, at);
      } else {
        const count = Math.min(part.body.length - part.filled, bytes.length - at);
        part.body.set(bytes.subarray(at, at + count), part.filled);
        part.filled += count;
        at += count;
      }
      if (this.#part !== null && this.#part.filled === this.#part.body.length) {
        const { type, capturedAt, body } = this.#part;
        parts.push({ type, capturedAt, body });
        this.#part = null;
      }
    }
    return parts;
  }

  #readHead(bytes: Uint8Array, from: number): number {
    for (let at = from; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0;
      // The line break of the delimiter, left over from the previous part.
      if (this.#headLength === 0 && (byte === CR || byte === LF)) continue;
      if (this.#headLength === this.#limits.head) {
        throw new MultipartError(`part headers are longer than ${this.#limits.head} bytes`);
      }
      this.#head[this.#headLength++] = byte;
      if (this.#headLength === this.#delimiter.length + 2 && this.#text() === `${this.#delimiter}--`) {
        this.#ended = true;
        return bytes.length;
      }
      if (byte === LF && this.#endsWithBlankLine()) {
        this.#part = this.#open(this.#text());
        this.#headLength = 0;
        return at + 1;
      }
    }
    return bytes.length;
  }

  #endsWithBlankLine(): boolean {
    const end = this.#headLength;
    return end >= 4 && this.#head[end - 2] === CR && this.#head[end - 3] === LF && this.#head[end - 4] === CR;
  }

  #text(): string {
    let text = "";
    for (let at = 0; at < this.#headLength; at++) text += String.fromCharCode(this.#head[at] ?? 0);
    return text;
  }

  #open(head: string): Part & { filled: number } {
    const [first = "", ...lines] = head.split("\r\n");
    if (first.trimEnd() !== this.#delimiter) {
      throw new MultipartError(`expected the delimiter ${this.#delimiter}, found "${first.slice(0, 40)}"`);
    }
    let type = "";
    let capturedAt: number | null = null;
    let length: number | null = null;
    for (const line of lines) {
      const colon = line.indexOf(":");
      if (colon < 0) continue;
      const name = line.slice(0, colon).trim().toLowerCase();
      const value = line.slice(colon + 1).trim();
      if (name === "content-type") type = (value.split(";")[0] ?? "").trim().toLowerCase();
      if (name === "x-timestamp" && /^\d{1,10}\.\d{1,9}$/.test(value)) capturedAt = Number(value) * 1000;
      if (name === "content-length" && /^\d{1,10}$/.test(value)) length = Number(value);
    }
    if (length === null) throw new MultipartError("a part has no valid Content-Length");
    if (length > this.#limits.body) {
      throw new MultipartError(`a part of ${length} bytes is larger than the limit of ${this.#limits.body}`);
    }
    return { type, capturedAt, body: new Uint8Array(length), filled: 0 };
  }
}

/** The boundary parameter of a Content-Type; null if it is not a multipart type or has none (RFC 2046 §5.1.1). */
export function boundaryOf(contentType: string | null): string | null {
  if (contentType === null || !/^\s*multipart\//i.test(contentType)) return null;
  const match = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType);
  return match?.[1] ?? match?.[2] ?? null;
}
