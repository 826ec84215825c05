// The button that takes a picture, whether the gateway keeps a copy, and what went wrong: that stays until it is dismissed
// or a picture comes.

import { CaptureError } from "../net/capture";
import { element, setText } from "../page/dom";
import { fileSize, size } from "../page/format";
import { remember, remembered } from "../page/remember";
import type { Capture } from "./captures";

/** Takes a picture; `save` has the gateway keep it. Fails with a `CaptureError`. */
export type Take = (serial: string, save: boolean) => Promise<Capture>;

export class Shutter {
  // Each for wherever there is room: the button, the choice, what went wrong, and what was taken.
  readonly button: HTMLButtonElement;
  readonly keep: HTMLElement;
  readonly problem: HTMLElement;
  readonly status = element("p", { class: "taken", role: "status" });
  readonly #words = element("span");
  readonly #save = element("input", { type: "checkbox" });
  readonly #serial: string;
  readonly #take: Take;
  #busy = false;

  constructor(serial: string, take: Take) {
    this.#serial = serial;
    this.#take = take;
    const kept = `sluicegate-save/${serial}`;
    this.#save.checked = remembered(kept) === "yes";
    this.#save.setAttribute("aria-label", `Keep captures of ${serial} on the gateway`);
    this.#save.addEventListener("change", () => remember(kept, this.#save.checked ? "yes" : null));
    this.button = element("button", { type: "button", class: "capture", "aria-label": `Capture ${serial}` }, "Capture");
    this.button.addEventListener("click", () => void this.#press());
    const dismiss = element("button", { type: "button", class: "quiet", "aria-label": "Dismiss" }, "×");
    dismiss.addEventListener("click", () => {
      this.#clear();
      this.button.focus();
    });
    const words = element("p", { role: "alert" }, this.#words);
    this.problem = element("div", { class: "problem", hidden: "" }, words, dismiss);
    this.keep = element("label", { class: "keep", title: "The gateway keeps a copy in its folder of captures" }, this.#save, "Keep on gateway");
  }

  async #press(): Promise<void> {
    if (this.#busy) return;
    this.#setBusy(true);
    try {
      const taken = await this.#take(this.#serial, this.#save.checked);
      this.#clear();
      const kept = taken.path === null ? "" : `, kept as ${taken.path}`;
      setText(this.status, `Picture taken: ${size(taken.width, taken.height)}, ${fileSize(taken.bytes)}${kept}`);
    } catch (error) {
      const code = error instanceof CaptureError ? error.code : "FAILED";
      setText(this.status, "");
      this.problem.hidden = false;
      setText(this.#words, `${code}: ${error instanceof Error ? error.message : String(error)}`);
    }
    this.#setBusy(false);
  }

  /** It stays where it is, and keeps the focus: a disabled button would lose it. */
  #setBusy(busy: boolean): void {
    this.#busy = busy;
    setText(this.button, busy ? "Capturing…" : "Capture");
    this.button.setAttribute("aria-disabled", String(busy));
    this.button.setAttribute("aria-busy", String(busy));
  }

  #clear(): void {
    this.problem.hidden = true;
    setText(this.#words, "");
  }
}
