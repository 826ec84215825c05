// The table of viewers, updated in place.

import type { Viewer } from "../net/api";
import { byId, element, setText } from "../page/dom";
import { counted, duration } from "../page/format";
import { Keyed } from "../page/keyed";

const MAX_ROWS = 100;

export class ViewersTable {
  readonly #section = byId("viewers");
  readonly #title = byId("viewers-title");
  readonly #rows = new Keyed<readonly [string, Viewer], { node: HTMLElement; cells: HTMLElement[] }>(byId("viewers-rows"), () => {
    const cells = ["stream", "transport", "for", "reason"].map(() => element("td"));
    return { node: element("tr", {}, ...cells), cells };
  });

  update(viewers: readonly Viewer[], now: number): void {
    const visible = viewers.slice(0, MAX_ROWS).map((viewer, at) => [viewer.id || `#${at}`, viewer] as const);
    this.#rows.update(
      visible,
      ([key]) => key,
      ({ cells }, [, viewer]) => {
        const stream = viewer.rendition === "" ? viewer.stream : `${viewer.stream}@${viewer.rendition}`;
        const since = viewer.since === null ? "–" : duration(now - viewer.since);
        const texts = [stream, viewer.transport, since, viewer.reason];
        cells.forEach((cell, at) => setText(cell, texts[at] || "–"));
      },
    );
    setText(this.#title, counted(viewers.length, "viewer", "viewers"));
    this.#section.hidden = viewers.length === 0;
  }
}
