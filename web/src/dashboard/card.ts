// One stream on the dashboard. Built once, then kept up to date in place, so that focus and open details stay.

import type { Device } from "../net/api";
import { addressList } from "../page/addresses";
import { badge, setBadge } from "../page/badge";
import { element, setText } from "../page/dom";
import { bitRate, counted, duration, frameRate, size } from "../page/format";
import { Flow } from "./flow";
import { MuxerTable, type Row } from "./muxers";
import { Preview } from "./preview";
import { Work, workFacts } from "./recent";

let made = 0;

/** A card and what is in it. */
export class Card {
  readonly node: HTMLElement;
  readonly #badge = badge();
  readonly #viewers = element("span", { class: "viewers" });
  readonly #source = element("p", { class: "source" });
  readonly #reason = element("p", { class: "reason" });
  readonly #facts = element("ul", { class: "facts" });
  readonly #in = element("dd");
  readonly #out = element("dd");
  readonly #notes = element("ul", { class: "notes" });
  readonly #flow = new Flow();
  readonly #work = new Work();
  readonly #muxers: MuxerTable;
  readonly #preview: Preview;
  readonly #link: HTMLAnchorElement;
  readonly #watch: HTMLAnchorElement;
  readonly #details: HTMLDetailsElement;
  #url = "";

  constructor(device: Device) {
    this.#link = element("a", {}, device.serial);
    this.#watch = element("a", { class: "button", "aria-label": `Watch ${device.serial}` }, "Watch");
    this.#muxers = new MuxerTable(device.serial);
    this.#preview = new Preview(`preview-${++made}`, device.serial, device.url);
    this.#details = element("details", {}, element("summary", {}, "Addresses"));
    this.node = element(
      "article",
      { class: "card", "data-serial": device.serial },
      element("header", {}, element("h2", {}, this.#link), this.#badge),
      this.#source,
      this.#reason,
      this.#facts,
      element("div", { class: "water" }, this.#flow.node, rates(this.#in, this.#out)),
      this.#muxers.node,
      this.#notes,
      this.#preview.node,
      element("footer", {}, this.#watch, this.#preview.button, this.#viewers),
      this.#details,
    );
  }

  /** The stream is gone. */
  remove(): void {
    this.#preview.close();
    this.node.remove();
  }

  update(device: Device, rows: readonly Row[], now: number): void {
    setBadge(this.#badge, device.state);
    this.node.dataset["state"] = device.state;
    this.#link.href = device.watch;
    this.#watch.href = device.watch;
    setText(this.#source, device.source);
    const since = device.since === null ? "" : `for ${duration(now - device.since)}`;
    const said = device.reason === "" ? [device.state, since].join(" ") : [device.reason, since].join(" · ");
    setText(this.#reason, since === "" ? device.reason : said);
    setItems(this.#facts, [
      size(device.width, device.height),
      codecName(device.codec),
      frameRate(device.frameRate),
      ...workFacts(this.#work.look(device.made, now)),
    ]);
    setText(this.#in, bitRate(device.bitsIn));
    setText(this.#out, bitRate(device.bitsOut));
    setText(this.#viewers, counted(device.viewers, "viewer", "viewers"));
    this.#muxers.update(rows);
    const unwell = rows.flatMap(({ name, muxer }) =>
      muxer === null || muxer.reason === "" ? [] : [`${name} is ${muxer.state.replaceAll("-", " ")}: ${muxer.reason}`],
    );
    setItems(this.#notes, [...device.notes, ...unwell]);
    this.#flow.push(device.bitsIn ?? 0, now);
    if (device.url !== this.#url) {
      this.#url = device.url;
      this.#preview.url = device.url;
      this.#details.replaceChildren(element("summary", {}, "Addresses"), addressList(device.url));
    }
  }
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
