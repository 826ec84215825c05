// Decides when decoded media is played, so that sound and picture are together: all media of one presentation time at
// the same moment, by a common delay that leaves enough time for both. Pure; times are ms on one monotonic clock.

/** Kinds of media, each of which takes its own time to arrive and to be decoded. */
export type MediaKind = "video" | "audio";

/** How long (ms) a delay is remembered; between one and two times this. */
const WINDOW_MS = 1000;
/** Delays that are this much (ms) above the newest belong to a burst or a hiccup that is over, and do not count. */
const SPREAD_MS = 300;
/** A delay that has to grow by more than this (ms) grows at once, by a pause, otherwise gradually. */
const MAX_SHORT_MS = 40;
/** A delay that can shrink by more than this (ms) shrinks at once, by leaving sound out, otherwise gradually. */
const MAX_LONG_MS = 100;
/** How fast the delay changes gradually, as a fraction of time. It must be less than the sound can be stretched. */
const SLEW = 0.008;
/** Spare time (ms) for sound on its way to the device. */
const SOUND_MARGIN_MS = 30;

/** The highest of the recent delays. */
class RecentMaximum {
  #since = -Infinity;
  #before = -Infinity;
  #now = -Infinity;

  add(delay: number, now: number): void {
    if (now - this.#since > WINDOW_MS) {
      this.#before = now - this.#since > 2 * WINDOW_MS ? -Infinity : this.#now;
      this.#now = -Infinity;
      this.#since = now;
    }
    if (this.value - delay > SPREAD_MS) this.#before = this.#now = -Infinity;
    this.#now = Math.max(this.#now, delay);
  }

  get value(): number {
    return Math.max(this.#before, this.#now);
  }
}

/** State of one run of a stream. */
export class Playout {
  readonly #recent = { video: new RecentMaximum(), audio: new RecentMaximum() };
  #delay: number | null = null;
  #movedAt = 0;

  /** Media with this presentation time has been decoded now. */
  decoded(kind: MediaKind, time: number, now: number): void {
    this.#recent[kind].add(now - time, now);
  }

  /**
   * When media with this presentation time is to be seen and heard, while sound is on. `outputLatency`: time that sound
   * takes from the page to the ear.
   */
  dueAt(time: number, outputLatency: number, now: number): number {
    const { video, audio } = this.#recent;
    const wanted = Math.max(video.value, audio.value + SOUND_MARGIN_MS + outputLatency);
    const slewed = (now - this.#movedAt) * SLEW;
    this.#movedAt = now;
    if (this.#delay === null || wanted - this.#delay > MAX_SHORT_MS || this.#delay - wanted > MAX_LONG_MS) {
      this.#delay = wanted;
    } else {
      this.#delay += Math.min(Math.max(wanted - this.#delay, -slewed), slewed);
    }
    return time + this.#delay;
  }
}
