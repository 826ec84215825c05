// Puts pictures on the canvas, at most one per screen refresh, and reads the block code back from what is painted.

import { readRow, rowHeight } from "../media/block_code";
import type { Picture } from "../transport/transport";

/** What was just painted. */
export interface Painted {
  readonly width: number;
  readonly height: number;
  /** When the picture's bytes arrived and when it was painted, on the clock of `performance.now()`. */
  readonly arrived: number;
  readonly at: number;
}

/** What a painter tells. */
export interface PainterEvents {
  painted(painted: Painted): void;
  /** A picture gave way to a newer one before it was painted. */
  dropped(): void;
}

/** The two rows of the block code in the painted picture; null where the picture carries none. */
export interface BlockCode {
  /** Frame number modulo 2^24. */
  readonly number: number | null;
  /** Unix ms modulo 2^24 when the picture was made. */
  readonly clock: number | null;
}

const NO_CODE: BlockCode = { number: null, clock: null };

/** Owns the canvas' contents. */
export class Painter {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D | null;
  readonly #events: PainterEvents;
  /** The two rows are copied here to be read: reading from the canvas itself would take it off the GPU. */
  #rows: CanvasRenderingContext2D | null = null;
  #next: Picture | null = null;
  #request = 0;
  #blank = true;

  constructor(canvas: HTMLCanvasElement, events: PainterEvents) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#events = events;
  }

  /** Paints this one next. One that still waits gives way to it. */
  offer(picture: Picture): void {
    if (this.#next !== null) {
      this.#next.close();
      this.#events.dropped();
    }
    this.#next = picture;
    if (this.#request === 0) this.#request = requestAnimationFrame(() => this.#paint());
  }

  /** Lets go of what waits; what is painted stays. */
  stop(): void {
    cancelAnimationFrame(this.#request);
    this.#request = 0;
    this.#next?.close();
    this.#next = null;
  }

  /** Empties the canvas, as when another stream is going to be shown. */
  clear(): void {
    this.stop();
    this.#blank = true;
    this.#context?.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
  }

  /** Reads the painted picture's block code. Costs a copy of a sixth of the picture: not for every picture. */
  readBlockCode(): BlockCode {
    const { width, height } = this.#canvas;
    const row = rowHeight(height);
    if (this.#blank || row === 0) return NO_CODE;
    this.#rows ??= document.createElement("canvas").getContext("2d", { alpha: false, willReadFrequently: true });
    if (this.#rows === null) return NO_CODE;
    const rows = this.#rows;
    if (rows.canvas.width !== width || rows.canvas.height !== row * 2) {
      rows.canvas.width = width;
      rows.canvas.height = row * 2;
    }
    rows.drawImage(this.#canvas, 0, height - row * 2, width, row * 2, 0, 0, width, row * 2);
    const pixels = rows.getImageData(0, 0, width, row * 2);
    return { number: readRow(pixels, row, row), clock: readRow(pixels, 0, row) };
  }

  #paint(): void {
    this.#request = 0;
    const picture = this.#next;
    this.#next = null;
    if (picture === null || this.#context === null) return;
    const { width, height, arrived } = picture;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    this.#context.drawImage(picture.image, 0, 0, width, height);
    picture.close();
    this.#blank = false;
    this.#events.painted({ width, height, arrived, at: performance.now() });
  }
}
