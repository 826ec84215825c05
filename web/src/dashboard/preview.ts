// The preview of one tile. It has the same size before and after the first image, so that the layout does not shift.

import type { PreviewImage } from "../net/preview_image";
import { element, setText } from "../page/dom";
import { ageText, type PreviewState } from "./preview_state";

/** Actions of the viewer on a preview. */
export interface PreviewActions {
  open(): void;
  /** Shows or hides the preview. */
  choose(active: boolean): void;
}

export class Preview {
  readonly node: HTMLElement;
  /** Opens the stream in the dialog. */
  readonly button: HTMLButtonElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #context: ImageBitmapRenderingContext | null;
  readonly #message = element("p", { class: "words" });
  readonly #age = element("span", { class: "age" });
  readonly #toggle: HTMLButtonElement;
  readonly #serial: string;
  #state: PreviewState = { active: false, selectable: false, message: "" };
  #capturedAt = "";
  #error = "";

  constructor(serial: string, actions: PreviewActions) {
    this.#serial = serial;
    this.#canvas = element("canvas", { role: "img", "aria-label": `Preview of ${serial}`, hidden: "" });
    this.#context = this.#canvas.getContext("bitmaprenderer");
    this.button = element("button", { type: "button", class: "open", "aria-label": `Open ${serial}`, "aria-haspopup": "dialog" });
    this.#toggle = element("button", { type: "button", class: "quiet show" });
    this.button.addEventListener("click", () => actions.open());
    this.#toggle.addEventListener("click", () => actions.choose(!this.#state.active));
    this.node = element("div", { class: "screen" }, this.#canvas, this.#message, this.button, this.#age, this.#toggle);
  }

  update(state: PreviewState): void {
    this.#state = state;
    if (!state.active) this.#error = "";
    this.node.dataset["follow"] = String(state.active);
    this.#toggle.hidden = !state.selectable;
    setText(this.#toggle, state.active ? "Hide" : "Show");
    this.#toggle.setAttribute("aria-label", `${state.active ? "Hide" : "Show"} ${this.#serial}`);
    this.#showMessage();
  }

  /** Displays an image, unless it is the one already displayed. */
  async paint({ blob, capturedAt, ageMs }: PreviewImage, signal: AbortSignal): Promise<void> {
    if (capturedAt === "" || capturedAt !== this.#capturedAt) {
      const bitmap = await createImageBitmap(blob);
      if (signal.aborted) {
        bitmap.close();
        return;
      }
      if (this.#canvas.width !== bitmap.width) this.#canvas.width = bitmap.width;
      if (this.#canvas.height !== bitmap.height) this.#canvas.height = bitmap.height;
      this.#context?.transferFromImageBitmap(bitmap);
      this.#capturedAt = capturedAt;
      this.#canvas.hidden = false;
    }
    this.#error = "";
    setText(this.#age, ageText(ageMs));
    this.#showMessage();
  }

  /** The request failed for this reason. */
  fail(reason: string): void {
    this.#error = reason;
    this.#showMessage();
  }

  #showMessage(): void {
    const { active, message } = this.#state;
    const waiting = active && this.#canvas.hidden ? "Waiting for video…" : "";
    setText(this.#message, message || this.#error || waiting);
    // An image with a message over it is not current.
    this.node.dataset["current"] = String(active && !this.#canvas.hidden && this.#message.textContent === "");
    if (!active) setText(this.#age, "");
  }
}
