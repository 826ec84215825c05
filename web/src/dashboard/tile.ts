// The tile of one stream. It is built once and then updated in place, so that focus and open details are preserved.

import type { Device } from "../net/api";
import { type Frame } from "../net/frame";
import { badge, setBadge } from "../page/badge";
import { element, setText } from "../page/dom";
import { counted, frameRate, size } from "../page/format";
import { Details } from "./details";
import type { Row } from "./muxers";
import { Screen, type ScreenActions } from "./screen";
import { type Choice, type Showing, showing } from "./showing";
import { Shutter, type Take } from "./shutter";

export class Tile {
  readonly node: HTMLElement;
  readonly serial: string;
  /** Whether the tile is within the viewport, as last reported by the IntersectionObserver. */
  isVisible = false;
  #device: Device;
  #showing: Showing;
  readonly #badge = badge();
  readonly #viewers = element("span", { class: "viewers" });
  readonly #facts = element("p", { class: "line" });
  readonly #watch: HTMLAnchorElement;
  readonly #details: Details;
  readonly #screen: Screen;

  constructor(device: Device, take: Take, actions: { open(device: Device): void; choose: ScreenActions["choose"] }) {
    const { serial } = device;
    this.serial = serial;
    this.#device = device;
    this.#showing = showing(device, null);
    this.#watch = element("a", { class: "button quiet", "aria-label": `Watch ${serial}` }, "Watch");
    this.#details = new Details(serial);
    this.#screen = new Screen(serial, { open: () => actions.open(this.#device), choose: actions.choose });
    const shutter = new Shutter(serial, take);
    this.#screen.node.append(shutter.problem);
    shutter.status.classList.add("unseen");
    this.node = element(
      "article",
      { class: "tile", "data-serial": serial, "aria-label": serial },
      this.#screen.node,
      element("header", {}, element("h2", { title: serial }, serial), this.#badge),
      element("div", { class: "lines" }, this.#facts, this.#viewers),
      element("footer", {}, shutter.button, this.#watch),
      shutter.status,
      element("div", { class: "more" }, this.#details.node, shutter.keep),
    );
  }

  get device(): Device {
    return this.#device;
  }

  /** Whether it should request previews now. */
  get wantsPreviews(): boolean {
    return this.isVisible && this.#showing.follow;
  }

  update(device: Device, choice: Choice, rows: readonly Row[], now: number): void {
    this.#device = device;
    setBadge(this.#badge, device.state);
    this.node.dataset["state"] = device.state;
    if (this.#watch.getAttribute("href") !== device.watch) this.#watch.href = device.watch;
    const facts = [device.model, size(device.width, device.height), frameRate(device.frameRate)].filter((text) => text !== "" && text !== "–");
    setText(this.#facts, facts.join(" · ") || device.source);
    setText(this.#viewers, counted(device.viewers, "viewer", "viewers"));
    this.#details.update(device, rows, now);
    this.choose(choice);
  }

  choose(choice: Choice): void {
    this.#showing = showing(this.#device, choice);
    this.#screen.update(this.#showing);
  }

  paint(frame: Frame, signal: AbortSignal): Promise<void> {
    return this.#screen.paint(frame, signal);
  }

  fail(reason: string): void {
    this.#screen.fail(reason);
  }
}
