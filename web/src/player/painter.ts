// Draws frames on the canvas, at most one per screen refresh; a newer frame replaces one that was not drawn yet.

import { isSideways, type Orientation } from "../media/geometry";
import type { DecodedFrame, DisplayedFrame } from "../transport/transport";

/** Outcome of each offered frame. */
export interface PainterEvents {
  displayed(frame: DisplayedFrame): void;
  /** A frame was replaced by a newer one before it was drawn. */
  dropped(): void;
}

/** Sole owner of the canvas: draws on it and sets its size. */
export class Painter {
  readonly #canvas: HTMLCanvasElement | OffscreenCanvas;
  readonly #context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D | null;
  readonly #events: PainterEvents;
  #next: DecodedFrame | null = null;
  #request = 0;

  constructor(canvas: HTMLCanvasElement | OffscreenCanvas, events: PainterEvents) {
    this.#canvas = canvas;
    this.#context = (canvas as OffscreenCanvas).getContext("2d", { alpha: false });
    this.#events = events;
  }

  /** Draws this frame at the next refresh, replacing one that is still waiting. */
  offer(frame: DecodedFrame): void {
    if (this.#next !== null) {
      this.#next.close();
      this.#events.dropped();
    }
    this.#next = frame;
    if (this.#request === 0) this.#request = requestAnimationFrame(() => this.#paint());
  }

  /** Discards the waiting frame; what is on the canvas stays. */
  stop(): void {
    cancelAnimationFrame(this.#request);
    this.#request = 0;
    this.#next?.close();
    this.#next = null;
  }

  /** Clears the canvas, for example before another stream. */
  clear(): void {
    this.stop();
    this.#context?.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
  }

  /** Clears the canvas and gives it this size in pixels. */
  blank(width: number, height: number): void {
    this.clear();
    this.#canvas.width = width;
    this.#canvas.height = height;
  }

  /** Copies the current frame of an element that is about to lose it. */
  copyFrom(element: HTMLVideoElement | HTMLCanvasElement): void {
    this.stop();
    const isVideo = element instanceof HTMLVideoElement;
    this.#draw(element, isVideo ? element.videoWidth : element.width, isVideo ? element.videoHeight : element.height);
  }

  #paint(): void {
    this.#request = 0;
    const frame = this.#next;
    this.#next = null;
    if (frame === null || this.#context === null) return;
    const { width, height, arrivedAt } = frame;
    this.#draw(frame.image, width, height, frame.orientation);
    frame.close();
    const at = performance.now();
    this.#events.displayed({ width, height, at, count: 1, delay: { ms: at - arrivedAt, kind: "decode" } });
  }

  #draw(image: CanvasImageSource, width: number, height: number, orientation: Orientation = { rotation: 0, mirrored: false }): void {
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    const context = this.#context;
    if (context === null) return;
    const [across, down] = isSideways(orientation) ? [height, width] : [width, height];
    // Rotation about the centre keeps the centre fixed.
    context.setTransform(1, 0, 0, 1, width / 2, height / 2);
    context.rotate((orientation.rotation * Math.PI) / 180);
    if (orientation.mirrored) context.scale(-1, 1);
    context.drawImage(image, -across / 2, -down / 2, across, down);
    context.resetTransform();
  }
}
