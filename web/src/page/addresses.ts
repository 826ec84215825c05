// The plain addresses of a stream, for players that are no browser page, each with a button that copies it.

import { element } from "./dom";

/** A list of addresses for the stream whose base path is `url`. */
export function addressList(url: string): HTMLElement {
  const http = new URL(url, location.href);
  const socket = new URL(http);
  socket.protocol = http.protocol === "https:" ? "wss:" : "ws:";
  return element(
    "div",
    { class: "addresses" },
    row("MJPEG", `${http.href}/mjpeg`),
    row("H.264 over WebSocket", `${socket.href}/nal`),
    row("HLS", `${http.href}/hls/index.m3u8`),
    row("MP4 without end", `${http.href}/mse`),
    row("ffplay", `ffplay -fflags nobuffer -f mpjpeg "${http.href}/mjpeg"`),
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
    // No clipboard on plain HTTP: the old way, which needs the selection.
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
