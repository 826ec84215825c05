// The URLs of a stream for other players, each with a copy button.

import { isBuiltIn } from "../transport/names";
import { element } from "./dom";

/** A list of URLs for the stream with base path `url`, also of those of its transports that are not built in. */
export function addressList(url: string, transports: readonly string[]): HTMLElement {
  const http = new URL(url, location.href);
  const socket = new URL(http);
  socket.protocol = http.protocol === "https:" ? "wss:" : "ws:";
  return element(
    "div",
    { class: "addresses" },
    row("MJPEG", `${http.href}/mjpeg`),
    row("H.264 over WebSocket", `${socket.href}/nal`),
    row("HLS", `${http.href}/hls/index.m3u8`),
    row("Continuous MP4", `${http.href}/mse`),
    row("ffplay", `ffplay -fflags nobuffer -f mpjpeg "${http.href}/mjpeg"`),
    ...transports.filter((name) => !isBuiltIn(name)).map((name) => row(name, `${http.href}/${name}`)),
  );
}

function row(label: string, value: string): HTMLElement {
  const field = element("input", { type: "text", readonly: "", value, spellcheck: "false", "aria-label": label });
  const button = element("button", { type: "button", class: "quiet", "aria-label": `Copy ${label}` }, "Copy");
  field.addEventListener("focus", () => field.select());
  button.addEventListener("click", () => void copy(field, button));
  return element("div", { class: "address" }, element("span", { class: "label" }, label), field, button);
}

async function copy(field: HTMLInputElement, button: HTMLButtonElement): Promise<void> {
  let copied = false;
  try {
    await navigator.clipboard.writeText(field.value);
    copied = true;
  } catch {
    // The clipboard API needs a secure context; the older command works on the selection.
    field.focus();
    field.select();
    copied = document.execCommand("copy");
    button.focus();
  }
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  if (!copied) field.focus();
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}
