// The capture button of a stream, the option to save a copy on the gateway, and the error message, which stays until
// it is dismissed or a capture succeeds.

import { CaptureError } from "../net/capture";
import { element, setText } from "../page/dom";
import { fileSize, size } from "../page/format";
import { remember, remembered } from "../page/remember";
import type { Capture } from "./captures";

/** Requests a capture; `save` makes the gateway keep a copy. Rejects with a `CaptureError`. */
export type Take = (serial: string, save: boolean) => Promise<Capture>;

export class Shutter {
  // Placed separately by the owner: button, option, error, and result.
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
    this.#save.setAttribute("aria-label", `Save captures of ${serial} on the gateway`);
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
    this.keep = element("label", { class: "keep", title: "Also saves a copy in the gateway's capture folder" }, this.#save, "Save on gateway");
  }

  async #press(): Promise<void> {
    if (this.#busy) return;
    this.#setBusy(true);
    try {
      const taken = await this.#take(this.#serial, this.#save.checked);
      this.#clear();
      const kept = taken.path === null ? "" : `, saved as ${taken.path}`;
      setText(this.status, `Image captured: ${size(taken.width, taken.height)}, ${fileSize(taken.bytes)}${kept}`);
    } catch (error) {
      const code = error instanceof CaptureError ? error.code : "FAILED";
      setText(this.status, "");
      this.problem.hidden = false;
      setText(this.#words, `${code}: ${error instanceof Error ? error.message : String(error)}`);
    }
    this.#setBusy(false);
  }

  /** Uses `aria-disabled` instead of `disabled`, so that the button keeps the focus. */
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
