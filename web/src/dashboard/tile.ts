// The tile of one stream. It is built once and then updated in place, so that focus and open details are preserved.

import type { Device } from "../net/api";
import { type PreviewImage } from "../net/preview_image";
import { badge, setBadge } from "../page/badge";
import { element, setText } from "../page/dom";
import { counted, frameRate, size } from "../page/format";
import { Details } from "./details";
import type { Row } from "./muxers";
import { Preview, type PreviewActions } from "./preview";
import { type PreviewChoice, type PreviewState, previewState } from "./preview_state";
import { CaptureControls, type RequestCapture } from "./capture_controls";

export class Tile {
  readonly node: HTMLElement;
  readonly serial: string;
  /** Whether the tile is within the viewport, as last reported by the IntersectionObserver. */
  isVisible = false;
  #device: Device;
  #previewState: PreviewState;
  readonly #badge = badge();
  readonly #viewers = element("span", { class: "viewers" });
  readonly #facts = element("p", { class: "line" });
  readonly #watch: HTMLAnchorElement;
  readonly #details: Details;
  readonly #preview: Preview;

  constructor(device: Device, capture: RequestCapture, actions: { open(device: Device): void; choose: PreviewActions["choose"] }) {
    const { serial } = device;
    this.serial = serial;
    this.#device = device;
    this.#previewState = previewState(device, null);
    this.#watch = element("a", { class: "button quiet", "aria-label": `Watch ${serial}` }, "Watch");
    this.#details = new Details(serial);
    this.#preview = new Preview(serial, { open: () => actions.open(this.#device), choose: actions.choose });
    const controls = new CaptureControls(serial, capture);
    this.#preview.node.append(controls.error);
    controls.status.classList.add("visually-hidden");
    this.node = element(
      "article",
      { class: "tile", "data-serial": serial, "aria-label": serial },
      this.#preview.node,
      element("header", {}, element("h2", { title: serial }, serial), this.#badge),
      element("div", { class: "lines" }, this.#facts, this.#viewers),
      element("footer", {}, controls.button, this.#watch),
      controls.status,
      element("div", { class: "more" }, this.#details.node, controls.saveOption),
    );
  }

  get device(): Device {
    return this.#device;
  }

  /** Whether it should request previews now. */
  get wantsPreviews(): boolean {
    return this.isVisible && this.#previewState.active;
  }

  update(device: Device, choice: PreviewChoice, rows: readonly Row[], now: number): void {
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

  choose(choice: PreviewChoice): void {
    this.#previewState = previewState(this.#device, choice);
    this.#preview.update(this.#previewState);
  }

  paint(image: PreviewImage, signal: AbortSignal): Promise<void> {
    return this.#preview.paint(image, signal);
  }

  fail(reason: string): void {
    this.#preview.fail(reason);
  }
}
