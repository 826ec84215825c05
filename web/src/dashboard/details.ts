// The details of a stream below its tile: source, statistics, transports and URLs. The DOM is updated only while they
// are open.

import type { Device } from "../net/api";
import { addressList } from "../page/addresses";
import { element, setText } from "../page/dom";
import { bitRate, counted, duration, frameRate, size } from "../page/format";
import { BitRateChart } from "./bit_rate_chart";
import { MuxerTable, type Row } from "./muxers";
import { ProcessingRates, processingTexts } from "./rates";

export class Details {
  readonly node: HTMLDetailsElement;
  /** Number of notices, visible also while the details are closed. */
  readonly #noteCount = element("span", { class: "note-count" });
  readonly #source = element("p", { class: "source" });
  readonly #reason = element("p", { class: "reason" });
  readonly #facts = element("ul", { class: "facts" });
  readonly #in = element("dd");
  readonly #out = element("dd");
  readonly #notes = element("ul", { class: "notes" });
  readonly #addresses = element("div");
  readonly #bitRateChart = new BitRateChart();
  readonly #processing = new ProcessingRates();
  readonly #muxers: MuxerTable;
  #addressed = "";
  #render: (() => void) | null = null;

  constructor(serial: string) {
    this.#muxers = new MuxerTable(serial);
    this.node = element(
      "details",
      { class: "details" },
      element("summary", {}, "Details", element("span", { class: "visually-hidden" }, ` of ${serial}`), this.#noteCount),
      this.#source,
      this.#reason,
      this.#facts,
      element("div", { class: "water" }, this.#bitRateChart.node, rates(this.#in, this.#out)),
      this.#muxers.node,
      this.#notes,
      this.#addresses,
    );
    this.node.addEventListener("toggle", () => this.#draw());
  }

  update(device: Device, rows: readonly Row[], now: number): void {
    this.#bitRateChart.push(device.bitsIn ?? 0, now);
    const processing = this.#processing.update(device.frameCounts, now);
    const notes = [...device.notes, ...failureNotes(rows)];
    setText(this.#noteCount, notes.length === 0 ? "" : ` · ${counted(notes.length, "note", "notes")}`);
    this.#render = () => {
      setText(this.#source, device.source);
      const since = device.since === null ? "" : `for ${duration(now - device.since)}`;
      const status = device.reason === "" ? [device.state, since].join(" ") : [device.reason, since].join(" · ");
      setText(this.#reason, since === "" ? device.reason : status);
      setItems(this.#facts, [device.model, size(device.width, device.height), codecName(device.codec), frameRate(device.frameRate), ...processingTexts(processing)]);
      setText(this.#in, bitRate(device.bitsIn));
      setText(this.#out, bitRate(device.bitsOut));
      this.#muxers.update(rows);
      setItems(this.#notes, notes);
      this.#bitRateChart.draw();
      const addresses = [device.url, ...device.transports].join();
      if (addresses === this.#addressed) return;
      this.#addressed = addresses;
      this.#addresses.replaceChildren(addressList(device.url, device.transports));
    };
    this.#draw();
  }

  #draw(): void {
    if (this.node.open) this.#render?.();
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
  const visible = texts.filter((text) => text !== "" && text !== "–");
  while (list.children.length > visible.length) list.lastElementChild?.remove();
  visible.forEach((text, at) => {
    const item = list.children[at];
    if (item instanceof HTMLElement) {
      setText(item, text);
    } else {
      list.append(element("li", {}, text));
    }
  });
  list.hidden = visible.length === 0;
}

function codecName(codec: string): string {
  const names: Readonly<Record<string, string>> = { h264: "H.264", hevc: "H.265", h265: "H.265", mjpeg: "MJPEG", jpeg: "JPEG" };
  return names[codec.toLowerCase()] ?? codec;
}
