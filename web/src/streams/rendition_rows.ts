// The renditions of a stream as rows of a form.

import { element } from "../page/dom";
import type { RenditionRow } from "./settings";

interface Row {
  readonly node: HTMLElement;
  readonly values: () => RenditionRow;
}

/** A group of fields with a row for each rendition, and a button that adds one. */
export class RenditionRows {
  readonly node: HTMLFieldSetElement;
  readonly #list = element("div", { class: "rendition-rows" });
  readonly #add = element("button", { type: "button", class: "quiet" }, "Add rendition");
  #rows: Row[] = [];

  constructor(rows: readonly RenditionRow[]) {
    const about = element("p", { class: "source" }, "The same stream in smaller forms, for slow links and small screens. Empty fields are as the stream.");
    this.node = element("fieldset", {}, element("legend", {}, "Renditions"), about, this.#list, this.#add);
    this.#add.addEventListener("click", () => this.#append({ name: "", width: "", frameRate: "", bitrate: "", before: "" }).focus());
    this.replace(rows);
  }

  get values(): RenditionRow[] {
    return this.#rows.map((row) => row.values());
  }

  /** Shows these rows instead. */
  replace(rows: readonly RenditionRow[]): void {
    this.#rows = [];
    this.#list.replaceChildren();
    for (const row of rows) this.#append(row);
  }

  /** Adds a row; returns its first field. */
  #append(row: RenditionRow): HTMLInputElement {
    const name = field(row.name, { placeholder: "mobile", required: "", maxlength: "128" });
    const width = field(row.width, { placeholder: "640", inputmode: "numeric" });
    const frameRate = field(row.frameRate, { placeholder: "15", inputmode: "numeric" });
    const bitrate = field(row.bitrate, { placeholder: "500k" });
    const remove = element("button", { type: "button", class: "quiet", "aria-label": "Remove rendition" }, "Remove");
    const node = element(
      "div",
      { class: "rendition-row", role: "group", "aria-label": row.name === "" ? "New rendition" : `Rendition ${row.name}` },
      element("label", {}, "Name ", name),
      element("label", {}, "Width ", width),
      element("label", {}, "Frame rate ", frameRate),
      element("label", {}, "Bit rate ", bitrate),
      remove,
    );
    const added: Row = {
      node,
      values: () => ({ name: name.value.trim(), width: width.value, frameRate: frameRate.value, bitrate: bitrate.value, before: row.before }),
    };
    remove.addEventListener("click", () => {
      this.#rows = this.#rows.filter((other) => other !== added);
      node.remove();
      this.#add.focus();
    });
    this.#rows.push(added);
    this.#list.append(node);
    return name;
  }
}

function field(value: string, attributes: Readonly<Record<string, string>>): HTMLInputElement {
  return element("input", { autocomplete: "off", autocapitalize: "none", spellcheck: "false", value, ...attributes });
}
