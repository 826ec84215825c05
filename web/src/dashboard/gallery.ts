// Dialog that shows one capture in full size; the arrow keys move to the others.

import { element, setText } from "../page/dom";
import { fileSize, milliseconds, size } from "../page/format";
import { Modal } from "../page/modal";
import type { Capture, Captures } from "./captures";
import { downloadLink, titleOf } from "./strip";

export class Gallery {
  readonly #modal = new Modal("gallery");
  readonly #captures: Captures;
  #current: Capture | null = null;
  #step: (step: -1 | 1) => void = () => {};

  constructor(captures: Captures) {
    this.#captures = captures;
    this.#modal.node.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft") this.#step(-1);
      if (key === "ArrowRight") this.#step(1);
    });
  }

  open(capture: Capture): void {
    const title = element("p", { class: "caption", role: "status" });
    const image = element("img", { decoding: "async" });
    const newer = element("button", { type: "button", class: "quiet" }, "Newer");
    const older = element("button", { type: "button", class: "quiet" }, "Older");
    let link = downloadLink(capture);
    const show = (next: Capture): void => {
      this.#current = next;
      image.src = next.url;
      image.alt = `Captured picture: ${titleOf(next)}`;
      if (next.width !== null && next.height !== null) {
        image.width = next.width;
        image.height = next.height;
      }
      setText(title, captionOf(next));
      const newLink = downloadLink(next);
      newLink.classList.add("button");
      link.replaceWith(newLink);
      link = newLink;
      for (const [button, step] of [[newer, -1], [older, 1]] as const) {
        button.setAttribute("aria-disabled", String(this.#captures.neighbour(next.key, step) === null));
      }
    };
    this.#step = (step) => {
      const next = this.#current && this.#captures.neighbour(this.#current.key, step);
      if (next !== null) show(next);
    };
    newer.addEventListener("click", () => this.#step(-1));
    older.addEventListener("click", () => this.#step(1));
    const row = element("div", { class: "row" }, newer, older, link);
    this.#modal.open("Capture", [element("div", { class: "large" }, image), title, row], () => {
      this.#current = null;
      this.#step = () => {};
    });
    show(capture);
  }

  /** The list of captures changed: closes the dialog if its capture was dropped, as its URL is no longer valid. */
  update(): void {
    const current = this.#current;
    if (current !== null && !this.#captures.list.includes(current)) this.#modal.close();
  }
}

function captionOf(capture: Capture): string {
  const time = new Date(capture.at).toLocaleString();
  const age = capture.ageMs === null ? "" : `${milliseconds(capture.ageMs)} old when requested`;
  const saved = capture.path === null ? "" : `saved on the gateway as ${capture.path}`;
  return [capture.serial, time, size(capture.width, capture.height), fileSize(capture.bytes), age, saved].filter((text) => text !== "").join(" · ");
}
