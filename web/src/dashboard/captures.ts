// The last pictures that were taken on this page, newest first. What is dropped is released. Pure.

/** A picture in the strip, and what is known of it. */
export interface Capture {
  /** Counts the pictures of this page. */
  readonly key: string;
  readonly serial: string;
  /** Unix ms. */
  readonly at: number;
  readonly ageMs: number | null;
  readonly width: number | null;
  readonly height: number | null;
  readonly bytes: number;
  /** Where the gateway keeps it; null where it does not. */
  readonly path: string | null;
  readonly blob: Blob;
  /** Its object URL, revoked when it leaves the strip. */
  readonly url: string;
}

const MOST = 24;

export class Captures {
  #list: readonly Capture[] = [];
  #made = 0;
  readonly #most: number;
  readonly #release: (url: string) => void;

  /** `release` is called once for the address of each picture that is dropped. */
  constructor(release: (url: string) => void, most = MOST) {
    this.#release = release;
    this.#most = most;
  }

  get list(): readonly Capture[] {
    return this.#list;
  }

  /** A picture was taken; beyond the bound the oldest goes. */
  add(taken: Omit<Capture, "key">): Capture {
    const capture = { ...taken, key: String(++this.#made) };
    const all = [capture, ...this.#list];
    this.#list = all.slice(0, this.#most);
    for (const { url } of all.slice(this.#most)) this.#release(url);
    return capture;
  }

  clear(): void {
    const all = this.#list;
    this.#list = [];
    for (const { url } of all) this.#release(url);
  }

  /** The one that was taken after (-1) or before (1) this; null at the end, or if it is there no more. */
  beside(key: string, step: -1 | 1): Capture | null {
    const at = this.#list.findIndex((capture) => capture.key === key);
    return at < 0 ? null : (this.#list[at + step] ?? null);
  }
}

/** `192.168.1.7_5555-2026-11-22T03-04-05-678Z.jpg`: a name that every file system takes. */
export function fileName({ serial, at }: Pick<Capture, "serial" | "at">): string {
  const safe = serial.replace(/[^\p{L}\p{N}._-]+/gu, "_").replace(/^[.-]+/, "").slice(0, 100) || "picture";
  return `${safe}-${new Date(at).toISOString().replace(/[:.]/g, "-")}.jpg`;
}
