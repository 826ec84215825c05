// The capture button of a stream, the option to save a copy on the gateway, and the error message, which stays until
// it is dismissed or a capture succeeds.

import { CaptureError } from "../net/capture";
import { element, setText } from "../page/dom";
import { fileSize, size } from "../page/format";
import { saveSetting, loadSetting } from "../page/settings";
import type { Capture } from "./captures";

/** Requests a capture; `save` makes the gateway keep a copy. Rejects with a `CaptureError`. */
export type RequestCapture = (serial: string, save: boolean) => Promise<Capture>;

export class CaptureControls {
  // Placed separately by the owner: button, option, error, and result.
  readonly button: HTMLButtonElement;
  readonly saveOption: HTMLElement;
  readonly error: HTMLElement;
  readonly status = element("p", { class: "capture-status", role: "status" });
  readonly #message = element("span");
  readonly #save = element("input", { type: "checkbox" });
  readonly #serial: string;
  readonly #capture: RequestCapture;
  #busy = false;

  constructor(serial: string, capture: RequestCapture) {
    this.#serial = serial;
    this.#capture = capture;
    const settingKey = `sluicegate-save/${serial}`;
    this.#save.checked = loadSetting(settingKey) === "yes";
    this.#save.setAttribute("aria-label", `Save captures of ${serial} on the gateway`);
    this.#save.addEventListener("change", () => saveSetting(settingKey, this.#save.checked ? "yes" : null));
    this.button = element("button", { type: "button", class: "capture", "aria-label": `Capture ${serial}` }, "Capture");
    this.button.addEventListener("click", () => void this.#press());
    const dismiss = element("button", { type: "button", class: "quiet", "aria-label": "Dismiss" }, "×");
    dismiss.addEventListener("click", () => {
      this.#clear();
      this.button.focus();
    });
    const alert = element("p", { role: "alert" }, this.#message);
    this.error = element("div", { class: "problem", hidden: "" }, alert, dismiss);
    this.saveOption = element("label", { class: "keep", title: "Also saves a copy in the gateway's capture folder" }, this.#save, "Save on gateway");
  }

  async #press(): Promise<void> {
    if (this.#busy) return;
    this.#setBusy(true);
    try {
      const capture = await this.#capture(this.#serial, this.#save.checked);
      this.#clear();
      const saved = capture.path === null ? "" : `, saved as ${capture.path}`;
      setText(this.status, `Image captured: ${size(capture.width, capture.height)}, ${fileSize(capture.bytes)}${saved}`);
    } catch (error) {
      const code = error instanceof CaptureError ? error.code : "FAILED";
      setText(this.status, "");
      this.error.hidden = false;
      setText(this.#message, `${code}: ${error instanceof Error ? error.message : String(error)}`);
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
    this.error.hidden = true;
    setText(this.#message, "");
  }
}
