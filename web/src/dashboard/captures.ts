// The captures taken on this page, newest first, up to a maximum. Object URLs of dropped captures are released. Pure.

/** A capture with its metadata. */
export interface Capture {
  /** Serial number on this page. */
  readonly key: string;
  readonly serial: string;
  /** Capture time in Unix ms. */
  readonly at: number;
  readonly ageMs: number | null;
  readonly width: number | null;
  readonly height: number | null;
  readonly bytes: number;
  /** Path of the copy saved on the gateway; null if none was saved. */
  readonly path: string | null;
  readonly blob: Blob;
  /** Object URL, revoked when the capture leaves the strip. */
  readonly url: string;
}

const MAX_CAPTURES = 24;

export class Captures {
  #list: readonly Capture[] = [];
  #lastKey = 0;
  readonly #limit: number;
  readonly #release: (url: string) => void;

  /** `release` is called once for the URL of each dropped capture. */
  constructor(release: (url: string) => void, limit = MAX_CAPTURES) {
    this.#release = release;
    this.#limit = limit;
  }

  get list(): readonly Capture[] {
    return this.#list;
  }

  /** Adds a capture; beyond the maximum, the oldest is dropped. */
  add(image: Omit<Capture, "key">): Capture {
    const capture = { ...image, key: String(++this.#lastKey) };
    const all = [capture, ...this.#list];
    this.#list = all.slice(0, this.#limit);
    for (const { url } of all.slice(this.#limit)) this.#release(url);
    return capture;
  }

  clear(): void {
    const all = this.#list;
    this.#list = [];
    for (const { url } of all) this.#release(url);
  }

  /** The next newer (-1) or older (1) capture; null at the end, or if `key` was dropped. */
  neighbour(key: string, step: -1 | 1): Capture | null {
    const at = this.#list.findIndex((capture) => capture.key === key);
    return at < 0 ? null : (this.#list[at + step] ?? null);
  }
}

/** `192.168.1.7_5555-2026-11-22T03-04-05-678Z.jpg`: a file name that is valid on every file system. */
export function fileName({ serial, at }: Pick<Capture, "serial" | "at">): string {
  const safe = serial.replace(/[^\p{L}\p{N}._-]+/gu, "_").replace(/^[.-]+/, "").slice(0, 100) || "picture";
  return `${safe}-${new Date(at).toISOString().replace(/[:.]/g, "-")}.jpg`;
}
