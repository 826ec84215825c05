// Renders parsed descriptions as elements. Text is never interpreted as HTML.

import { element } from "../page/dom";
import type { Block, Span } from "./markdown";

export function blockNodes(blocks: readonly Block[]): HTMLElement[] {
  return blocks.map((block) => {
    switch (block.kind) {
      case "paragraph":
        return element("p", {}, ...spanNodes(block.spans));
      case "list":
        return element(block.ordered ? "ol" : "ul", { class: "points" }, ...block.items.map((item) => element("li", {}, ...spanNodes(item))));
      case "code":
        return codeNode(block.text);
    }
  });
}

/** Preformatted text; focusable, so that it can be scrolled by keyboard. */
export function codeNode(text: string): HTMLElement {
  return element("pre", { tabindex: "0" }, element("code", {}, text));
}

function spanNodes(spans: readonly Span[]): (Node | string)[] {
  return spans.map(({ kind, text }) => (kind === "text" ? text : element(kind, {}, text)));
}
