// The picture of one tile: as large before the first one as with it, so that nothing moves when pictures come.

import type { Frame } from "../net/frame";
import { element, setText } from "../page/dom";
import { oldness, type Showing } from "./showing";

/** What a click on a picture asks for. */
export interface ScreenActions {
  open(): void;
  /** Pictures are wanted here, or not. */
  choose(follow: boolean): void;
}

export class Screen {
  readonly node: HTMLElement;
  /** Opens the stream. */
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
    this.#canvas = element("canvas", { role: "img", "aria-label": `Picture of ${serial}`, hidden: "" });
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

  /** Shows a picture, unless it is the one that is shown. */
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
    setText(this.#age, oldness(ageMs));
    this.#say();
  }

  /** No picture came, for this reason. */
  fail(reason: string): void {
    this.#problem = reason;
    this.#say();
  }

  #say(): void {
    const { follow, words } = this.#showing;
    const waiting = follow && this.#canvas.hidden ? "Waiting for a picture…" : "";
    setText(this.#words, words || this.#problem || waiting);
    // A picture from before is no picture of now.
    this.node.dataset["current"] = String(follow && !this.#canvas.hidden && this.#words.textContent === "");
    if (!follow) setText(this.#age, "");
  }
}
