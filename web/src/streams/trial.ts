// The button that tries a source, and its result: a sentence, a frame and notes, or what is wrong.

import { ApiError } from "../net/api";
import { type Settings, trySource, type TryResult } from "../net/streams";
import { element, setText } from "../page/dom";
import { bitRate } from "../page/format";

/** One try at a time; while one runs, the button cancels it. */
export class Trial {
  readonly button = element("button", { type: "button", class: "quiet" }, "Try");
  /** Where the result is displayed. */
  readonly node = element("div", { class: "trial" });
  readonly #status = element("p", { role: "status" });
  readonly #problem = element("p", { class: "banner", role: "alert", hidden: "" });
  readonly #details = element("div", { class: "trial-details" });
  readonly #body: () => Settings | string;
  #running: AbortController | null = null;

  /** `body` returns what is to be tried, or why nothing can be. */
  constructor(body: () => Settings | string) {
    this.#body = body;
    this.node.append(this.#status, this.#problem, this.#details);
    this.button.addEventListener("click", () => void (this.#running === null ? this.#run() : this.stop()));
  }

  /** Ends a try that runs, and removes a result. */
  stop(): void {
    this.#running?.abort();
    this.#running = null;
    this.#show("", null);
    setText(this.button, "Try");
  }

  async #run(): Promise<void> {
    const body = this.#body();
    if (typeof body === "string") {
      this.#show("", body);
      return;
    }
    const running = new AbortController();
    this.#running = running;
    setText(this.button, "Cancel");
    this.#show("Trying the source; this takes up to 15 seconds…", null);
    try {
      const result = await trySource(body, running.signal);
      if (this.#running === running) this.#showResult(result);
    } catch (error) {
      if (this.#running === running) this.#show("", problemText(error));
    }
    if (this.#running !== running) return;
    this.#running = null;
    setText(this.button, "Try");
  }

  #showResult({ text, notes, bitsPerSecond, preview }: TryResult): void {
    const rate = bitsPerSecond === null || bitsPerSecond === 0 ? "" : `, ${bitRate(bitsPerSecond)}`;
    this.#show(`${text.charAt(0).toUpperCase()}${text.slice(1)}${rate}.`, null);
    if (preview !== null) this.#details.append(element("img", { src: preview, alt: "A frame of the source", class: "trial-preview" }));
    if (notes.length > 0) this.#details.append(element("ul", { class: "notes", "aria-label": "Notes" }, ...notes.map((note) => element("li", {}, note))));
  }

  #show(status: string, problem: string | null): void {
    this.#details.replaceChildren();
    setText(this.#status, status);
    this.#problem.hidden = problem === null;
    setText(this.#problem, problem ?? "");
  }
}

/** What went wrong, for people. */
export function problemText(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  return "The gateway is not responding. Check that it runs, and try again.";
}
