// Dialog that shows one capture in full size; the arrow keys move to the others.

import { element, setText } from "../page/dom";
import { fileSize, milliseconds, size } from "../page/format";
import { Modal } from "../page/modal";
import type { Capture, Captures } from "./captures";
import { downloadLink, titleOf } from "./strip";

export class Gallery {
  readonly #modal = new Modal("gallery");
  readonly #captures: Captures;
  #shown: Capture | null = null;
  #turn: (step: -1 | 1) => void = () => {};

  constructor(captures: Captures) {
    this.#captures = captures;
    this.#modal.node.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft") this.#turn(-1);
      if (key === "ArrowRight") this.#turn(1);
    });
  }

  open(capture: Capture): void {
    const title = element("p", { class: "caption", role: "status" });
    const picture = element("img", { decoding: "async" });
    const newer = element("button", { type: "button", class: "quiet" }, "Newer");
    const older = element("button", { type: "button", class: "quiet" }, "Older");
    let link = downloadLink(capture);
    const show = (next: Capture): void => {
      this.#shown = next;
      picture.src = next.url;
      picture.alt = `Captured picture: ${titleOf(next)}`;
      if (next.width !== null && next.height !== null) {
        picture.width = next.width;
        picture.height = next.height;
      }
      setText(title, captionOf(next));
      const made = downloadLink(next);
      made.classList.add("button");
      link.replaceWith(made);
      link = made;
      for (const [button, step] of [[newer, -1], [older, 1]] as const) {
        button.setAttribute("aria-disabled", String(this.#captures.beside(next.key, step) === null));
      }
    };
    this.#turn = (step) => {
      const next = this.#shown && this.#captures.beside(this.#shown.key, step);
      if (next !== null) show(next);
    };
    newer.addEventListener("click", () => this.#turn(-1));
    older.addEventListener("click", () => this.#turn(1));
    const row = element("div", { class: "row" }, newer, older, link);
    this.#modal.open("Capture", [element("div", { class: "large" }, picture), title, row], () => {
      this.#shown = null;
      this.#turn = () => {};
    });
    show(capture);
  }

  /** The list of captures changed: closes the dialog if its capture was dropped, as its URL is no longer valid. */
  update(): void {
    const shown = this.#shown;
    if (shown !== null && !this.#captures.list.includes(shown)) this.#modal.close();
  }
}

function captionOf(capture: Capture): string {
  const taken = new Date(capture.at).toLocaleString();
  const age = capture.ageMs === null ? "" : `${milliseconds(capture.ageMs)} old when requested`;
  const kept = capture.path === null ? "" : `saved on the gateway as ${capture.path}`;
  return [capture.serial, taken, size(capture.width, capture.height), fileSize(capture.bytes), age, kept].filter((text) => text !== "").join(" · ");
}
