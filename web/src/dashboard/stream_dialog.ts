// Dialog that plays one stream at full rate, with the same player as the stream's own page.

import type { Device } from "../net/api";
import { element } from "../page/dom";
import { Modal } from "../page/modal";
import { remembered, TRANSPORT } from "../page/remember";
import { keepMuted } from "../page/sound";
import { SluicegatePlayer } from "../player/element";
import { Shutter, type Take } from "./shutter";

export class StreamDialog {
  readonly #modal = new Modal("opened");
  readonly #take: Take;
  readonly #changed: (open: boolean) => void;

  /** `changed` is called when the dialog opens and closes. */
  constructor(take: Take, changed: (open: boolean) => void) {
    this.#take = take;
    this.#changed = changed;
  }

  open({ serial, url, watch }: Device): void {
    const transport = remembered(TRANSPORT) ?? "auto";
    const player = new SluicegatePlayer();
    keepMuted(player);
    player.setAttribute("transport", transport);
    player.src = url;
    const shutter = new Shutter(serial, this.#take);
    const link = element("a", { class: "button quiet", href: watch }, "Player page");
    const row = element("div", { class: "row" }, shutter.button, shutter.keep, link);
    this.#modal.open(serial, [player, shutter.problem, row, shutter.status], () => this.#changed(false));
    this.#changed(true);
  }
}
