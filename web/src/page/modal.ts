// Modal dialog based on <dialog>: Escape, the button and a click outside close it, the rest of the page is inert, and
// focus returns afterwards.

import { element } from "./dom";

/** A reusable dialog; its content is replaced when it opens and removed when it closes. */
export class Modal {
  readonly node: HTMLDialogElement;
  readonly #body = element("div", { class: "modal-body" });
  readonly #title = element("h2");
  #closed: (() => void) | null = null;

  /** `name` is its CSS class. */
  constructor(name: string) {
    const close = element("button", { type: "button", class: "quiet close" }, "Close");
    const title = `${name}-title`;
    this.#title.id = title;
    this.node = element("dialog", { class: `modal ${name}`, "aria-labelledby": title }, element("header", {}, this.#title, close), this.#body);
    close.addEventListener("click", () => this.node.close());
    // Only a click on the backdrop has the dialog itself as its target.
    this.node.addEventListener("click", ({ target }) => {
      if (target === this.node) this.node.close();
    });
    // The event is asynchronous; the dialog may have been opened again meanwhile.
    this.node.addEventListener("close", () => {
      if (!this.node.open) this.#finish();
    });
    document.body.append(this.node);
  }

  get isOpen(): boolean {
    return this.node.open;
  }

  /** Opens the dialog with this content; `closed` is called once, when it closes. */
  open(title: string, content: readonly Node[], closed: () => void): void {
    this.#finish();
    this.#title.textContent = title;
    this.#body.replaceChildren(...content);
    this.#closed = closed;
    if (!this.node.open) this.node.showModal();
  }

  close(): void {
    if (this.node.open) this.node.close();
  }

  #finish(): void {
    const closed = this.#closed;
    this.#closed = null;
    this.#body.replaceChildren();
    closed?.();
  }
}
