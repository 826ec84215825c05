// Whether a browser shows nothing of what it is given. Some decoders refuse a stream without an error: Chromium's drop everything
// up to an IDR picture, and a stream with intra refresh never sends one. Pure.

/** Fewer pictures prove nothing: a decoder may hold back 16 to put them in order (H.264 A.3.1, `max_dec_frame_buffering`). */
const PICTURES = 20;
/** How long (ms) pictures go in and none comes out: before the first, and after one was shown. */
const FIRST_MS = 8000;
const LATER_MS = 15_000;
/** A page that was suspended for longer than this (ms) starts counting anew. */
const SUSPENDED_MS = 30_000;

/** Of one connection; a new one begins anew. Times are ms on one rising clock. */
export class Absence {
  #shown = false;
  #pictures = 0;
  #since = 0;
  #fedAt = -Infinity;

  /** So many pictures came, as `Sink.fed` says. True once it is proven that the browser shows none of them. */
  fed(count: number, now: number): boolean {
    if (this.#pictures === 0 || now - this.#fedAt > SUSPENDED_MS) {
      this.#pictures = 0;
      this.#since = now;
    }
    this.#pictures += count;
    this.#fedAt = now;
    return this.#pictures >= PICTURES && now - this.#since >= (this.#shown ? LATER_MS : FIRST_MS);
  }

  /** Something was seen or heard. */
  shown(): void {
    this.#shown = true;
    this.#pictures = 0;
  }

  /** Nothing could be shown so far: the viewer has to tap first. */
  excuse(): void {
    this.#pictures = 0;
  }
}
