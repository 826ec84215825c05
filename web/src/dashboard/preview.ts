// A small live picture of a stream: only after somebody asked for it, and only while it is on the screen. Nothing of it
// is there before, so a page full of streams starts no source.

import "../player/element";
import { element } from "../page/dom";

/** A button and the picture that it shows and hides. */
export class Preview {
  readonly button: HTMLButtonElement;
  readonly node = element("div", { class: "preview", hidden: "" });
  #url: string;
  #watching: IntersectionObserver | null = null;

  /** `id` is unique in the page. */
  constructor(id: string, serial: string, url: string) {
    this.#url = url;
    this.node.id = id;
    const label = `Preview ${serial}`;
    this.button = element("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": id, "aria-label": label });
    this.button.textContent = "Preview";
    this.button.addEventListener("click", () => (this.#watching === null ? this.#show() : this.close()));
  }

  /** The stream's base path is now this. */
  set url(url: string) {
    if (url === this.#url) return;
    this.#url = url;
    this.node.firstElementChild?.setAttribute("src", url);
  }

  close(): void {
    this.#watching?.disconnect();
    this.#watching = null;
    this.node.replaceChildren();
    this.node.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
  }

  #show(): void {
    const player = element("sluicegate-player" as "div");
    this.node.append(player);
    this.node.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    this.#watching = new IntersectionObserver((entries) => {
      // The newest entry is how it is now.
      if (entries.at(-1)?.isIntersecting === true) player.setAttribute("src", this.#url);
      else player.removeAttribute("src");
    });
    this.#watching.observe(this.node);
  }
}
