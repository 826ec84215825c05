// A WebSocket for a transport: receive only, not reopened, with its end translated to an `Ending`.

import { Connection } from "../net/connection";
import type { TransportName } from "./names";
import { refusal } from "./refusal";
import { type Ending, socketUrl, transportUrl } from "./transport";

const GOING_AWAY = 1001;

/** Opens `{base}/{name}`. No event follows `ended` or a call of the returned function, which closes the socket. */
export function openSocket(
  base: URL,
  name: TransportName,
  events: { message(data: ArrayBuffer | string): void; ended(ending: Ending): void },
): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  const connection = new Connection(socketUrl(base, name), {
    message: (data) => events.message(data),
    ended: (close) => {
      if (close !== null) {
        events.ended(endingOf(close));
        return;
      }
      // A proxy may block the upgrade.
      void refusal(transportUrl(base, name), signal, { kind: "refused", reason: "the WebSocket could not be opened" }).then((ending) => {
        if (!signal.aborted) events.ended(ending);
      });
    },
  });
  return () => {
    controller.abort();
    connection.close();
  };
}

/** The ending that a close code of the gateway announces. */
export function endingOf({ code, reason }: { readonly code: number; readonly reason: string }): Ending {
  if (code === GOING_AWAY) return { kind: "draining", reason: reason || "the gateway is shutting down" };
  return { kind: "lost", reason: reason || `the connection was lost (${code})` };
}
