// A WebSocket as a transport needs it: read only, closed for good, and its end put into words.

import { Connection } from "../net/connection";
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
  const asking = new AbortController();
  const { signal } = asking;
  const connection = new Connection(socketUrl(base, name), {
    message: (data) => events.message(data),
    ended: (close) => {
      if (close !== null) {
        events.ended(closed(close));
        return;
      }
      // Something in between may block the upgrade.
      void refusal(transportUrl(base, name), signal, { kind: "refused", reason: "the WebSocket could not be opened" }).then((ending) => {
        if (!signal.aborted) events.ended(ending);
      });
    },
  });
  return () => {
    asking.abort();
    connection.close();
  };
}

function closed({ code, reason }: { readonly code: number; readonly reason: string }): Ending {
  if (code === GOING_AWAY) return { kind: "draining", reason: reason || "the gateway is going away" };
  return { kind: "lost", reason: reason || `the connection broke off (${code})` };
}
