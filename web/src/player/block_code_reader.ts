// Reads the test pattern's block code (`media/block_code.ts`) from the frame on the screen.

import { readRow, rowHeight } from "../media/block_code";

/** The two rows of the block code in the displayed frame; null where the frame carries none. */
export interface BlockCode {
  /** Frame number modulo 2^24. */
  readonly number: number | null;
  /** Capture time of the frame in Unix ms, modulo 2^24. */
  readonly clock: number | null;
}

const NO_CODE: BlockCode = { number: null, clock: null };

/** Owns the small canvas that it reads pixels from. */
export class BlockCodeReader {
  /** Target for a copy of the two rows: reading pixels from the source itself would move it off the GPU. */
  #rows: CanvasRenderingContext2D | null = null;

  /** Reads the code from `source`. It copies a sixth of the frame, so it should not run for every frame. */
  read(source: HTMLCanvasElement | HTMLVideoElement): BlockCode {
    const video = source instanceof HTMLVideoElement;
    const width = video ? source.videoWidth : source.width;
    const height = video ? source.videoHeight : source.height;
    const row = rowHeight(height);
    this.#rows ??= document.createElement("canvas").getContext("2d", { alpha: false, willReadFrequently: true });
    if (row === 0 || this.#rows === null) return NO_CODE;
    const rows = this.#rows;
    if (rows.canvas.width !== width || rows.canvas.height !== row * 2) {
      rows.canvas.width = width;
      rows.canvas.height = row * 2;
    }
    rows.drawImage(source, 0, height - row * 2, width, row * 2, 0, 0, width, row * 2);
    const pixels = rows.getImageData(0, 0, width, row * 2);
    return { number: readRow(pixels, row, row), clock: readRow(pixels, 0, row) };
  }
}
