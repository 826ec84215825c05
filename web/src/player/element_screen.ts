// Where a transport displays by an element of its own, a half or the canvas of `webcodecs`: an element of the player's
// stage. It is empty while no such transport plays.

/** The place for one transport at a time. */
export class ElementScreen {
  readonly #element: HTMLElement;
  readonly #onFrameLoss: (content: HTMLElement) => void;
  #muted = true;
  #onMuted: ((muted: boolean) => void) | null = null;

  /** `onFrameLoss` is called before the displayed frame disappears with the content. */
  constructor(element: HTMLElement, onFrameLoss: (content: HTMLElement) => void) {
    this.#element = element;
    this.#onFrameLoss = onFrameLoss;
  }

  get muted(): boolean {
    return this.#muted;
  }

  set muted(muted: boolean) {
    if (muted === this.#muted) return;
    this.#muted = muted;
    this.#onMuted?.(muted);
  }

  /** Puts the transport's element here; `onMuted` is called at every change. Returns what removes it again. */
  attach(content: HTMLElement, onMuted: (muted: boolean) => void): () => void {
    this.#element.replaceChildren(content);
    this.#onMuted = onMuted;
    return () => {
      if (content.parentElement !== this.#element) return;
      this.#onFrameLoss(content);
      this.#onMuted = null;
      this.#element.replaceChildren();
    };
  }

  /** Gives the place the shape of the picture. */
  shape(width: number, height: number): void {
    this.#element.style.aspectRatio = `${width} / ${height}`;
  }

  /** Runs a frame that is not displayed, until the returned function is called. */
  runHidden(frame: HTMLElement): () => void {
    frame.hidden = true;
    this.#element.after(frame);
    return () => frame.remove();
  }
}
