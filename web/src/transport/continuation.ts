// Continues on one carrier what ended on another: of the frames that the new one begins with, those that are known
// already are left out. Both carry the same frames of a track in the same order. Pure.

import type { CodedFrame, MediaTrack } from "../media/records";

/** Remembers where each track is. */
export class Continuation {
  readonly #last = new Map<MediaTrack["kind"], CodedFrame>();

  /** This frame was used. */
  given(frame: CodedFrame): void {
    this.#last.set(frame.track.kind, frame);
  }

  /** Starts to look at the frames of another carrier. */
  resume(): Resumption {
    return new Resumption(new Map(this.#last));
  }
}

/** Tells which frames of the other carrier are new. */
export class Resumption {
  /** The last known frame of each track that has not been passed yet. */
  readonly #last: Map<MediaTrack["kind"], CodedFrame>;

  constructor(last: Map<MediaTrack["kind"], CodedFrame>) {
    this.#last = last;
  }

  /** Null for a frame that is known already. `gap`: frames before it are missing. */
  place(frame: CodedFrame): { readonly gap: boolean } | null {
    const { kind } = frame.track;
    const last = this.#last.get(kind);
    if (last === undefined) return { gap: false };
    const sameRun = frame.catalogue.startedAt === last.catalogue.startedAt;
    if (sameRun && frame.group < last.group) return null;
    const sameGroup = sameRun && frame.group === last.group;
    if (sameGroup && frame.time === last.time) {
      this.#last.delete(kind);
      return null;
    }
    // It may begin in the middle of the group, behind the last known frame.
    if (sameGroup && !(frame.independent && frame.time > last.time)) return null;
    this.#last.delete(kind);
    return { gap: true };
  }
}
