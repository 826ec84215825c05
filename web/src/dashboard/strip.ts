// The strip of recent captures at the bottom of the window.

import { element, setText } from "../page/dom";
import { counted, fileSize, size } from "../page/format";
import { Keyed } from "../page/keyed";
import { type Capture, fileName } from "./captures";

const THUMB_HEIGHT = 144;

/** A link that downloads the capture. */
export function downloadLink(capture: Capture): HTMLAnchorElement {
  const attributes = { class: "download", href: capture.url, download: fileName(capture), "aria-label": `Download ${titleOf(capture)}` };
  return element("a", attributes, "Download");
}

/** Title such as "porch, 12:03:04". */
export function titleOf({ serial, at }: Capture): string {
  return `${serial}, ${new Date(at).toLocaleTimeString()}`;
}

export class Strip {
  readonly #section: HTMLElement;
  readonly #title: HTMLElement;
  readonly #list: HTMLElement;
  readonly #entries: Keyed<Capture, { readonly node: Element }>;

  /** `section` is hidden while there are no captures. */
  constructor(section: HTMLElement, parts: { title: HTMLElement; list: HTMLElement; clear: HTMLElement }, actions: { open(capture: Capture): void; clear(): void }) {
    this.#section = section;
    this.#title = parts.title;
    this.#list = parts.list;
    this.#entries = new Keyed(parts.list, (capture) => ({ node: entry(capture, () => actions.open(capture)) }));
    parts.clear.addEventListener("click", () => actions.clear());
  }

  update(captures: readonly Capture[]): void {
    const newest = this.#list.firstElementChild;
    this.#entries.update(captures, ({ key }) => key);
    if (this.#list.firstElementChild !== newest) this.#list.scrollTo({ left: 0 });
    setText(this.#title, counted(captures.length, "capture", "captures"));
    this.#section.hidden = captures.length === 0;
  }
}

function entry(capture: Capture, open: () => void): Element {
  const title = titleOf(capture);
  const button = element("button", { type: "button", class: "thumb", "aria-label": `Show ${title}`, "aria-haspopup": "dialog" }, thumbnail(capture.blob));
  button.addEventListener("click", open);
  const when = element("time", { datetime: new Date(capture.at).toISOString() }, new Date(capture.at).toLocaleTimeString());
  const facts = [size(capture.width, capture.height), fileSize(capture.bytes)].join(" · ");
  const saved = capture.path === null ? [] : [element("span", { class: "kept", title: `Saved on the gateway as ${capture.path}` }, "saved")];
  return element(
    "li",
    { "data-capture": capture.key },
    button,
    element("span", { class: "of", title: capture.serial }, capture.serial),
    element("span", { class: "when" }, when, ...saved),
    element("span", { class: "measures" }, facts),
    downloadLink(capture),
  );
}

/**
 * Draws a thumbnail, which is small in memory too: two dozen full-size captures would take hundreds of megabytes
 * decoded.
 */
function thumbnail(blob: Blob): HTMLElement {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const draw = async (): Promise<void> => {
    const bitmap = await createImageBitmap(blob, { resizeHeight: THUMB_HEIGHT, resizeQuality: "medium" });
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("bitmaprenderer")?.transferFromImageBitmap(bitmap);
  };
  draw().catch(() => canvas.classList.add("broken"));
  return canvas;
}
