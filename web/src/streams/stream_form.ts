// The form of a stream: to add one, or to change one.

import type { ConfiguredStream } from "../net/streams";
import { element, setText } from "../page/dom";
import { RenditionRows } from "./rendition_rows";
import { renditionRows, rowProblem, settingsOf, tryBody } from "./settings";
import { problemText, Trial } from "./trial";

/** Saves a stream; rejects with what is wrong. */
export type Save = (name: string, settings: Record<string, unknown>) => Promise<void>;

export class StreamForm {
  readonly node = element("form", { class: "form stream-form", autocomplete: "off" });
  readonly #stream: ConfiguredStream | null;
  readonly #save: Save;
  readonly #name = input({ required: "", maxlength: "128", placeholder: "door" });
  readonly #source = input({ inputmode: "url", class: "source-field" });
  readonly #alwaysOn = element("input", { type: "checkbox" });
  readonly #renditions: RenditionRows;
  readonly #trial = new Trial(() => this.#toTry());
  readonly #problem = element("p", { class: "banner", role: "alert", hidden: "" });
  #saving = false;

  /** A form for a new stream, or for `stream`. */
  constructor(stream: ConfiguredStream | null, save: Save) {
    this.#stream = stream;
    this.#save = save;
    this.#renditions = new RenditionRows(renditionRows(stream?.settings ?? {}));
    this.#alwaysOn.checked = stream?.settings["always-on"] === true;
    const hint = element("small", { id: stream === null ? "source-hint" : "changed-source-hint" }, HINT);
    this.#source.setAttribute("aria-describedby", hint.id);
    if (stream === null) {
      this.#source.required = true;
      this.#source.placeholder = "rtsp://USER:PASSWORD@192.168.1.20/stream1";
    } else {
      this.#source.placeholder = `stays as it is: ${stream.source}`;
    }
    const submit = element("button", { type: "submit" }, stream === null ? "Add" : "Save");
    const fields = [
      element("div", { class: "wide" }, element("label", {}, "Source ", this.#source), hint),
      element("label", { class: "check" }, this.#alwaysOn, "Always on, also while nobody watches"),
      this.#renditions.node,
      element("div", { class: "row" }, this.#trial.button, submit),
      this.#trial.node,
      this.#problem,
    ];
    this.node.append(...(stream === null ? [element("label", {}, "Name ", this.#name)] : []), ...fields);
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
  }

  /** Ends what runs. */
  close(): void {
    this.#trial.stop();
  }

  async #submit(): Promise<void> {
    if (this.#saving) return;
    const rows = this.#renditions.values;
    const problem = rowProblem(rows);
    this.#show(problem);
    if (problem !== null) return;
    const values = { source: this.#source.value.trim(), alwaysOn: this.#alwaysOn.checked, renditions: rows };
    this.#saving = true;
    try {
      const name = this.#stream?.name ?? this.#name.value.trim();
      await this.#save(name, settingsOf(values, this.#stream?.settings ?? {}));
      this.#trial.stop();
      if (this.#stream === null) this.#clear();
    } catch (error) {
      this.#show(problemText(error));
    } finally {
      this.#saving = false;
    }
  }

  #toTry(): ReturnType<typeof tryBody> | string {
    const source = this.#source.value.trim();
    if (source !== "") return tryBody(source, this.#stream?.settings ?? {});
    this.#source.focus();
    return this.#stream === null ? "Write the source that is to be tried." : "The source stays as it is. To try another, write it first.";
  }

  #clear(): void {
    this.node.reset();
    this.#renditions.replace([]);
  }

  #show(problem: string | null): void {
    this.#problem.hidden = problem === null;
    setText(this.#problem, problem ?? "");
  }
}

const HINT = "A URL of a camera or server (rtsp, http, rtmp, srt, …), v4l2:/dev/video0, android:SERIAL, annexb:tcp://HOST:PORT or test-pattern";

function input(attributes: Readonly<Record<string, string>>): HTMLInputElement {
  return element("input", { autocomplete: "off", autocapitalize: "none", spellcheck: "false", ...attributes });
}
