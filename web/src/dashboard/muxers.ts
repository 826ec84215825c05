// Table of a stream's transports: number of viewers and, if the page may see it, the state of the muxers.

import type { Device, Muxer } from "../net/api";
import { element, setText } from "../page/dom";
import { microsBetween } from "./rates";

/** One row: a transport on the stream or one of its renditions. */
export interface Row {
  readonly name: string;
  readonly viewers: number;
  /**
   * The muxer in the worst state, as there are several for JPEGs of several sizes; null if none runs or the page may
   * not see it.
   */
  readonly muxer: Muxer | null;
}

const WORST_FIRST = ["broken", "backing-off"];

/** The transports in use, sorted by name. */
export function rowsOf(device: Device, muxers: readonly Muxer[]): Row[] {
  const rows = new Map<string, { name: string; viewers: number; muxer: Muxer | null }>();
  const row = ({ rendition, transport }: Pick<Muxer, "rendition" | "transport">) => {
    const name = rendition === "" ? transport : `${transport} @${rendition}`;
    const found = rows.get(name) ?? { name, viewers: 0, muxer: null };
    rows.set(name, found);
    return found;
  };
  for (const watching of device.watching) row(watching).viewers += watching.viewers;
  for (const muxer of muxers) {
    if (muxer.stream !== device.serial) continue;
    const own = row(muxer);
    if (own.muxer === null || severity(muxer) > severity(own.muxer)) own.muxer = muxer;
  }
  return [...rows.values()].sort((one, two) => (one.name < two.name ? -1 : 1));
}

function severity(muxer: Muxer): number {
  const place = WORST_FIRST.indexOf(muxer.state);
  return place < 0 ? 0 : WORST_FIRST.length - place;
}

/** The table, updated in place. */
export class MuxerTable {
  readonly node: HTMLElement;
  readonly #body = element("tbody");
  readonly #rows = new Map<string, { row: HTMLElement; cells: HTMLElement[]; last: Muxer | undefined }>();

  constructor(serial: string) {
    const heads = ["Transport", "Viewers", "µs/call", "State"].map((text) => element("th", { scope: "col" }, text));
    this.node = element(
      "table",
      { class: "muxers", "aria-label": `Transports of ${serial}`, hidden: "" },
      element("thead", {}, element("tr", {}, ...heads)),
      this.#body,
    );
  }

  update(rows: readonly Row[]): void {
    const removed = new Set(this.#rows.keys());
    for (const { name, viewers, muxer } of rows) {
      removed.delete(name);
      let entry = this.#rows.get(name);
      if (entry === undefined) {
        const cells = [element("td"), element("td"), element("td")];
        entry = { row: element("tr", {}, element("th", { scope: "row" }, name), ...cells), cells, last: undefined };
        this.#rows.set(name, entry);
      }
      const micros = muxer === null ? "–" : microsBetween(entry.last, muxer).toFixed(1);
      [String(viewers), micros, muxer?.state ?? "–"].forEach((text, at) => {
        const cell = entry.cells[at];
        if (cell !== undefined) setText(cell, text);
      });
      entry.row.dataset["state"] = muxer?.state ?? "";
      entry.row.title = muxer === null ? "" : [muxer.component, muxer.reason].filter((text) => text !== "").join(": ");
      entry.last = muxer ?? undefined;
    }
    for (const name of removed) {
      this.#rows.get(name)?.row.remove();
      this.#rows.delete(name);
    }
    rows.forEach(({ name }, at) => {
      const row = this.#rows.get(name)?.row;
      const place = this.#body.children[at];
      if (row !== undefined && row !== place) this.#body.insertBefore(row, place ?? null);
    });
    this.node.hidden = rows.length === 0;
  }
}
