// The preview of one tile. It has the same size before and after the first frame, so that the layout does not shift.

import type { Frame } from "../net/frame";
import { element, setText } from "../page/dom";
import { ageText, type Showing } from "./showing";

/** Actions of the viewer on a preview. */
export interface ScreenActions {
  open(): void;
  /** Shows or hides the preview. */
  choose(follow: boolean): void;
}

export class Screen {
  readonly node: HTMLElement;
  /** Opens the stream in the dialog. */
  readonly button: HTMLButtonElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #context: ImageBitmapRenderingContext | null;
  readonly #words = element("p", { class: "words" });
  readonly #age = element("span", { class: "age" });
  readonly #show: HTMLButtonElement;
  readonly #serial: string;
  #showing: Showing = { follow: false, startable: false, words: "" };
  #takenAt = "";
  #problem = "";

  constructor(serial: string, actions: ScreenActions) {
    this.#serial = serial;
    this.#canvas = element("canvas", { role: "img", "aria-label": `Preview of ${serial}`, hidden: "" });
    this.#context = this.#canvas.getContext("bitmaprenderer");
    this.button = element("button", { type: "button", class: "open", "aria-label": `Open ${serial}`, "aria-haspopup": "dialog" });
    this.#show = element("button", { type: "button", class: "quiet show" });
    this.button.addEventListener("click", () => actions.open());
    this.#show.addEventListener("click", () => actions.choose(!this.#showing.follow));
    this.node = element("div", { class: "screen" }, this.#canvas, this.#words, this.button, this.#age, this.#show);
  }

  update(showing: Showing): void {
    this.#showing = showing;
    if (!showing.follow) this.#problem = "";
    this.node.dataset["follow"] = String(showing.follow);
    this.#show.hidden = !showing.startable;
    setText(this.#show, showing.follow ? "Hide" : "Show");
    this.#show.setAttribute("aria-label", `${showing.follow ? "Hide" : "Show"} ${this.#serial}`);
    this.#say();
  }

  /** Displays a frame, unless it is the one already displayed. */
  async paint({ blob, takenAt, ageMs }: Frame, signal: AbortSignal): Promise<void> {
    if (takenAt === "" || takenAt !== this.#takenAt) {
      const picture = await createImageBitmap(blob);
      if (signal.aborted) {
        picture.close();
        return;
      }
      if (this.#canvas.width !== picture.width) this.#canvas.width = picture.width;
      if (this.#canvas.height !== picture.height) this.#canvas.height = picture.height;
      this.#context?.transferFromImageBitmap(picture);
      this.#takenAt = takenAt;
      this.#canvas.hidden = false;
    }
    this.#problem = "";
    setText(this.#age, ageText(ageMs));
    this.#say();
  }

  /** The request failed for this reason. */
  fail(reason: string): void {
    this.#problem = reason;
    this.#say();
  }

  #say(): void {
    const { follow, words } = this.#showing;
    const waiting = follow && this.#canvas.hidden ? "Waiting for video…" : "";
    setText(this.#words, words || this.#problem || waiting);
    // A frame with a message over it is not current.
    this.node.dataset["current"] = String(follow && !this.#canvas.hidden && this.#words.textContent === "");
    if (!follow) setText(this.#age, "");
  }
}
