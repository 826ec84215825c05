// Reads a multipart/x-mixed-replace body as it arrives: bytes in, finished parts out. No I/O.
// The gateway sends `--frame CRLF headers CRLF CRLF body CRLF`, always with Content-Length (wire contract, mjpeg).

/** One part that came whole. */
export interface Part {
  /** The part's Content-Type, lower case, without parameters; empty if it had none. */
  readonly type: string;
  /** When it was taken, by its X-Timestamp, Unix ms; null if it has none. */
  readonly taken: number | null;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** What a peer may make us hold, in bytes. */
export interface Limits {
  readonly head: number;
  readonly body: number;
}

/** The body broke the format or a limit; nothing after this byte can be read. */
export class MultipartError extends Error {}

const LIMITS: Limits = { head: 8 * 1024, body: 16 * 1024 * 1024 };

const CR = 13;
const LF = 10;

/** Splits one response body. After a `MultipartError` the reader must not be used again. */
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

  /** True once the closing delimiter was seen; what follows it is ignored. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True while a part has begun to come and is not complete. */
  get within(): boolean {
    return this.#part !== null;
  }

  /** Takes the next bytes, however they were cut, and gives the parts they finish. */
  push(bytes: Uint8Array): Part[] {
    const parts: Part[] = [];
    let at = 0;
    while (at < bytes.length && !this.#ended) {
      const part = this.#part;
      if (part === null) {
        at = this.#readHead(bytes, at);
      } else {
        const taken = Math.min(part.body.length - part.filled, bytes.length - at);
        part.body.set(bytes.subarray(at, at + taken), part.filled);
        part.filled += taken;
        at += taken;
      }
      if (this.#part !== null && this.#part.filled === this.#part.body.length) {
        const { type, taken, body } = this.#part;
        parts.push({ type, taken, body });
        this.#part = null;
      }
    }
    return parts;
  }

  #readHead(bytes: Uint8Array, from: number): number {
    for (let at = from; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0;
      // The line break that belongs to the delimiter, left over from the part before.
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
    let taken: number | null = null;
    let length: number | null = null;
    for (const line of lines) {
      const colon = line.indexOf(":");
      if (colon < 0) continue;
      const name = line.slice(0, colon).trim().toLowerCase();
      const value = line.slice(colon + 1).trim();
      if (name === "content-type") type = (value.split(";")[0] ?? "").trim().toLowerCase();
      if (name === "x-timestamp" && /^\d{1,10}\.\d{1,9}$/.test(value)) taken = Number(value) * 1000;
      if (name === "content-length" && /^\d{1,10}$/.test(value)) length = Number(value);
    }
    if (length === null) throw new MultipartError("a part has no valid Content-Length");
    if (length > this.#limits.body) {
      throw new MultipartError(`a part of ${length} bytes is larger than the limit of ${this.#limits.body}`);
    }
    return { type, taken, body: new Uint8Array(length), filled: 0 };
  }
}

/** The boundary a Content-Type names, or null if it is no multipart type or names none (RFC 2046 §5.1.1). */
export function boundaryOf(contentType: string | null): string | null {
  if (contentType === null || !/^\s*multipart\//i.test(contentType)) return null;
  const match = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType);
  return match?.[1] ?? match?.[2] ?? null;
}
