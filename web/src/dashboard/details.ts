// The details of a stream below its tile: source, statistics, transports and URLs. The DOM is updated only while they
// are open.

import type { Device } from "../net/api";
import { addressList } from "../page/addresses";
import { element, setText } from "../page/dom";
import { bitRate, counted, duration, frameRate, size } from "../page/format";
import { Flow } from "./flow";
import { MuxerTable, type Row } from "./muxers";
import { Work, workFacts } from "./recent";

export class Details {
  readonly node: HTMLDetailsElement;
  /** Number of notices, visible also while the details are closed. */
  readonly #concerns = element("span", { class: "concerns" });
  readonly #source = element("p", { class: "source" });
  readonly #reason = element("p", { class: "reason" });
  readonly #facts = element("ul", { class: "facts" });
  readonly #in = element("dd");
  readonly #out = element("dd");
  readonly #notes = element("ul", { class: "notes" });
  readonly #addresses = element("div");
  readonly #flow = new Flow();
  readonly #work = new Work();
  readonly #muxers: MuxerTable;
  #url = "";
  #last: (() => void) | null = null;

  constructor(serial: string) {
    this.#muxers = new MuxerTable(serial);
    this.node = element(
      "details",
      { class: "details" },
      element("summary", {}, "Details", element("span", { class: "unseen" }, ` of ${serial}`), this.#concerns),
      this.#source,
      this.#reason,
      this.#facts,
      element("div", { class: "water" }, this.#flow.node, rates(this.#in, this.#out)),
      this.#muxers.node,
      this.#notes,
      this.#addresses,
    );
    this.node.addEventListener("toggle", () => this.#draw());
  }

  update(device: Device, rows: readonly Row[], now: number): void {
    this.#flow.push(device.bitsIn ?? 0, now);
    const work = this.#work.look(device.made, now);
    const notes = [...device.notes, ...failureNotes(rows)];
    setText(this.#concerns, notes.length === 0 ? "" : ` · ${counted(notes.length, "note", "notes")}`);
    this.#last = () => {
      setText(this.#source, device.source);
      const since = device.since === null ? "" : `for ${duration(now - device.since)}`;
      const said = device.reason === "" ? [device.state, since].join(" ") : [device.reason, since].join(" · ");
      setText(this.#reason, since === "" ? device.reason : said);
      setItems(this.#facts, [device.model, size(device.width, device.height), codecName(device.codec), frameRate(device.frameRate), ...workFacts(work)]);
      setText(this.#in, bitRate(device.bitsIn));
      setText(this.#out, bitRate(device.bitsOut));
      this.#muxers.update(rows);
      setItems(this.#notes, notes);
      this.#flow.draw();
      if (device.url === this.#url) return;
      this.#url = device.url;
      this.#addresses.replaceChildren(addressList(device.url));
    };
    this.#draw();
  }

  #draw(): void {
    if (this.node.open) this.#last?.();
  }
}

function failureNotes(rows: readonly Row[]): string[] {
  return rows.flatMap(({ name, muxer }) =>
    muxer === null || muxer.reason === "" ? [] : [`${name} is ${muxer.state.replaceAll("-", " ")}: ${muxer.reason}`],
  );
}

function rates(into: HTMLElement, out: HTMLElement): HTMLElement {
  return element(
    "dl",
    { class: "rates" },
    element("div", {}, element("dt", {}, "in"), into),
    element("div", {}, element("dt", {}, "out"), out),
  );
}

function setItems(list: HTMLElement, texts: readonly string[]): void {
  const shown = texts.filter((text) => text !== "" && text !== "–");
  while (list.children.length > shown.length) list.lastElementChild?.remove();
  shown.forEach((text, at) => {
    const item = list.children[at];
    if (item instanceof HTMLElement) {
      setText(item, text);
    } else {
      list.append(element("li", {}, text));
    }
  });
  list.hidden = shown.length === 0;
}

function codecName(codec: string): string {
  const names: Readonly<Record<string, string>> = { h264: "H.264", hevc: "H.265", h265: "H.265", mjpeg: "MJPEG", jpeg: "JPEG" };
  return names[codec.toLowerCase()] ?? codec;
}
