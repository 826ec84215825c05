// A stream in the list, with what can be done with it.

import { gatewayUrl } from "../net/gateway";
import type { ConfiguredStream } from "../net/streams";
import { element, setText } from "../page/dom";
import { describe } from "./settings";

/** What the buttons of a stream do. */
export interface StreamActions {
  readonly change: (stream: ConfiguredStream) => void;
  readonly remove: (stream: ConfiguredStream) => void;
}

/** Address of the page that plays a stream. */
export function watchUrl(name: string): string {
  return gatewayUrl(`watch/${encodeURIComponent(name)}`).pathname;
}

export class StreamItem {
  readonly node = element("li");
  readonly #source = element("small");
  readonly #about = element("small");
  readonly #buttons = element("span", { class: "row" });
  #stream: ConfiguredStream;

  constructor(stream: ConfiguredStream, actions: StreamActions) {
    this.#stream = stream;
    const { name } = stream;
    const watch = element("a", { class: "button quiet", href: watchUrl(name), "aria-label": `Watch ${name}` }, "Watch");
    const change = button("Change", name, () => actions.change(this.#stream));
    const remove = button("Remove", name, () => actions.remove(this.#stream));
    this.#buttons.append(watch, change, remove);
    this.node.append(element("div", {}, element("strong", {}, name), this.#source, this.#about), this.#buttons);
    this.update(stream);
  }

  update(stream: ConfiguredStream): void {
    this.#stream = stream;
    setText(this.#source, stream.source);
    setText(this.#about, describe(stream));
    for (const one of this.#buttons.querySelectorAll("button")) one.hidden = stream.kept !== "state";
  }
}

function button(label: string, name: string, action: () => void): HTMLButtonElement {
  const node = element("button", { type: "button", class: "quiet", "aria-label": `${label} ${name}` }, label);
  node.addEventListener("click", action);
  return node;
}
