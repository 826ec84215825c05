// A window over the page, as the browser makes it: Escape and its button close it, the rest of the page waits meanwhile,
// and the focus goes back to where it was.

import { element } from "./dom";

/** An empty window; what it holds is made when it opens and let go of when it closes. */
export class Modal {
  readonly node: HTMLDialogElement;
  readonly #body = element("div", { class: "modal-body" });
  readonly #title = element("h2");
  #closed: (() => void) | null = null;

  /** `name` is its class. */
  constructor(name: string) {
    const close = element("button", { type: "button", class: "quiet close" }, "Close");
    const title = `${name}-title`;
    this.#title.id = title;
    this.node = element("dialog", { class: `modal ${name}`, "aria-labelledby": title }, element("header", {}, this.#title, close), this.#body);
    close.addEventListener("click", () => this.node.close());
    // Only what is beside the window is the dialog itself: everything in it lies on its children.
    this.node.addEventListener("click", ({ target }) => {
      if (target === this.node) this.node.close();
    });
    // The event comes a while after the window closed; it may have been opened again meanwhile.
    this.node.addEventListener("close", () => {
      if (!this.node.open) this.#over();
    });
    document.body.append(this.node);
  }

  get isOpen(): boolean {
    return this.node.open;
  }

  /** Shows this; `closed` is called once, when it is over. */
  open(title: string, content: readonly Node[], closed: () => void): void {
    this.#over();
    this.#title.textContent = title;
    this.#body.replaceChildren(...content);
    this.#closed = closed;
    if (!this.node.open) this.node.showModal();
  }

  close(): void {
    if (this.node.open) this.node.close();
  }

  #over(): void {
    const closed = this.#closed;
    this.#closed = null;
    this.#body.replaceChildren();
    closed?.();
  }
}
