// Dialog that plays one stream at full rate, with the same player as the stream's own page.

import type { Device } from "../net/api";
import { element } from "../page/dom";
import { Modal } from "../page/modal";
import { loadSetting, TRANSPORT } from "../page/settings";
import { persistMuted } from "../page/muted";
import { SluicegatePlayer } from "../player/element";
import { CaptureControls, type RequestCapture } from "./capture_controls";

export class StreamDialog {
  readonly #modal = new Modal("opened");
  readonly #capture: RequestCapture;
  readonly #changed: (open: boolean) => void;

  /** `changed` is called when the dialog opens and closes. */
  constructor(capture: RequestCapture, changed: (open: boolean) => void) {
    this.#capture = capture;
    this.#changed = changed;
  }

  open({ serial, url, watch }: Device): void {
    const transport = loadSetting(TRANSPORT) ?? "auto";
    const player = new SluicegatePlayer();
    persistMuted(player);
    player.setAttribute("transport", transport);
    player.src = url;
    const controls = new CaptureControls(serial, this.#capture);
    const link = element("a", { class: "button quiet", href: watch }, "Player page");
    const row = element("div", { class: "row" }, controls.button, controls.saveOption, link);
    this.#modal.open(serial, [player, controls.error, row, controls.status], () => this.#changed(false));
    this.#changed(true);
  }
}
