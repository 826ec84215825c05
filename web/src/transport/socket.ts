// A WebSocket as a transport needs it: read only, closed for good, and its end put into words.

import type { TransportName } from "./names";
import { refusal } from "./refusal";
import { type Ending, socketUrl, transportUrl } from "./transport";

const GOING_AWAY = 1001;

/** Opens `{base}/{name}`. After `ended`, or after the result was called, nothing more is told. */
export function openSocket(
  base: URL,
  name: TransportName,
  events: { message(data: ArrayBuffer | string): void; ended(ending: Ending): void },
): () => void {
  const socket = new WebSocket(socketUrl(base, name));
  socket.binaryType = "arraybuffer";
  const asking = new AbortController();
  let opened = false;

  const close = (): void => {
    asking.abort();
    socket.onmessage = socket.onclose = null;
    // Closed while it connects, the browser would log an error; so it is let open first.
    socket.onopen = () => socket.close();
    if (socket.readyState !== WebSocket.CONNECTING) socket.close();
  };
  socket.onopen = () => {
    opened = true;
  };
  socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => events.message(event.data);
  socket.onclose = (event) => {
    if (opened) {
      events.ended(closed(event));
      return;
    }
    // A WebSocket does not tell why it could not open; something in between may block the upgrade.
    const { signal } = asking;
    void refusal(transportUrl(base, name), signal, { kind: "refused", reason: "the WebSocket could not be opened" }).then((ending) => {
      if (!signal.aborted) events.ended(ending);
    });
  };
  return close;
}

function closed(event: CloseEvent): Ending {
  if (event.code === GOING_AWAY) return { kind: "draining", reason: event.reason || "the gateway is going away" };
  return { kind: "lost", reason: event.reason || `the connection broke off (${event.code})` };
}
