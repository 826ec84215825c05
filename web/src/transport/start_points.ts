// Decides at which frames of an H.264 stream decoding can start. Pure.

/**
 * In a stream with IDR pictures, decoding starts at those. A stream without any, or with a single one at its beginning
 * (intra refresh), is started at recovery points.
 */
export class StartPoints {
  #sawIdr = false;
  #recoveries = 0;

  /** Whether decoding can start at the next frame: `idr` if it has an IDR slice, `recovery` if it is a recovery point. */
  includes(idr: boolean, recovery: boolean): boolean {
    if (idr) {
      this.#sawIdr = true;
      this.#recoveries = 0;
    } else if (recovery) {
      this.#recoveries++;
    }
    return idr || (recovery && (!this.#sawIdr || this.#recoveries > 1));
  }
}
