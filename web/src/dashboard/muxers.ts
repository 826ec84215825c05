// The transports of one stream: who watches by which, and, where the page may know it, how their components do.

import type { Device, Muxer } from "../net/api";
import { element, setText } from "../page/dom";
import { microsBetween } from "./recent";

/** One transport in the table. */
export interface Row {
  readonly transport: string;
  readonly viewers: number;
  /** Null where nothing runs or the page may not know. */
  readonly muxer: Muxer | null;
}

/** The transports that are in use, by name. */
export function rowsOf(device: Device, muxers: readonly Muxer[]): Row[] {
  const own = new Map(muxers.filter(({ stream }) => stream === device.serial).map((muxer) => [muxer.transport, muxer]));
  const names = [...new Set([...device.viewersByTransport.keys(), ...own.keys()])].sort();
  return names.map((transport) => ({
    transport,
    viewers: device.viewersByTransport.get(transport) ?? 0,
    muxer: own.get(transport) ?? null,
  }));
}

/** A table that is kept up to date in place. */
export class MuxerTable {
  readonly node: HTMLElement;
  readonly #body = element("tbody");
  readonly #rows = new Map<string, { row: HTMLElement; cells: HTMLElement[]; last: Muxer | undefined }>();

  constructor(serial: string) {
    const heads = ["Transport", "Viewers", "µs a call", "State"].map((text) => element("th", { scope: "col" }, text));
    this.node = element(
      "table",
      { class: "muxers", "aria-label": `Transports of ${serial}`, hidden: "" },
      element("thead", {}, element("tr", {}, ...heads)),
      this.#body,
    );
  }

  update(rows: readonly Row[]): void {
    const gone = new Set(this.#rows.keys());
    for (const { transport, viewers, muxer } of rows) {
      gone.delete(transport);
      let kept = this.#rows.get(transport);
      if (kept === undefined) {
        const cells = [element("td"), element("td"), element("td")];
        kept = { row: element("tr", {}, element("th", { scope: "row" }, transport), ...cells), cells, last: undefined };
        this.#rows.set(transport, kept);
      }
      const micros = muxer === null ? "–" : microsBetween(kept.last, muxer).toFixed(1);
      [String(viewers), micros, muxer?.state ?? "–"].forEach((text, at) => {
        const cell = kept.cells[at];
        if (cell !== undefined) setText(cell, text);
      });
      kept.row.dataset["state"] = muxer?.state ?? "";
      kept.row.title = muxer === null ? "" : [muxer.component, muxer.reason].filter((text) => text !== "").join(": ");
      kept.last = muxer ?? undefined;
    }
    for (const transport of gone) {
      this.#rows.get(transport)?.row.remove();
      this.#rows.delete(transport);
    }
    rows.forEach(({ transport }, at) => {
      const row = this.#rows.get(transport)?.row;
      const place = this.#body.children[at];
      if (row !== undefined && row !== place) this.#body.insertBefore(row, place ?? null);
    });
    this.node.hidden = rows.length === 0;
  }
}
