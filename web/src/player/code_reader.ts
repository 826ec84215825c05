// Reads the block code from what is on the screen.

import { readRow, rowHeight } from "../media/block_code";

/** The two rows of the block code in the picture shown; null where the picture carries none. */
export interface BlockCode {
  /** Frame number modulo 2^24. */
  readonly number: number | null;
  /** Unix ms modulo 2^24 when the picture was made. */
  readonly clock: number | null;
}

const NO_CODE: BlockCode = { number: null, clock: null };

/** Keeps the small canvas that it reads from. */
export class CodeReader {
  /** The two rows are copied here: reading from the picture itself would take it off the GPU. */
  #rows: CanvasRenderingContext2D | null = null;

  /** Costs a copy of a sixth of the picture: not for every picture. */
  read(picture: HTMLCanvasElement | HTMLVideoElement): BlockCode {
    const video = picture instanceof HTMLVideoElement;
    const width = video ? picture.videoWidth : picture.width;
    const height = video ? picture.videoHeight : picture.height;
    const row = rowHeight(height);
    this.#rows ??= document.createElement("canvas").getContext("2d", { alpha: false, willReadFrequently: true });
    if (row === 0 || this.#rows === null) return NO_CODE;
    const rows = this.#rows;
    if (rows.canvas.width !== width || rows.canvas.height !== row * 2) {
      rows.canvas.width = width;
      rows.canvas.height = row * 2;
    }
    rows.drawImage(picture, 0, height - row * 2, width, row * 2, 0, 0, width, row * 2);
    const pixels = rows.getImageData(0, 0, width, row * 2);
    return { number: readRow(pixels, row, row), clock: readRow(pixels, 0, row) };
  }
}
