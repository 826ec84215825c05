// A WebSocket for a transport: not reopened, with its end translated to an `Ending`.

import { Connection } from "../net/connection";
import type { TransportName } from "./names";
import { refusal } from "./refusal";
import { type Ending, socketUrl, transportUrl } from "./transport";

const GOING_AWAY = 1001;

/** A socket on its way to being open, or open. */
export interface OpenSocket {
  /** Sends a message; dropped if it is not open. */
  send(data: Uint8Array<ArrayBuffer>): void;
  /** No event follows. */
  close(): void;
}

/** Opens `{base}/{name}`. No event follows `ended`. */
export function openSocket(
  base: URL,
  name: TransportName,
  events: { message(data: ArrayBuffer | string): void; ended(ending: Ending): void },
): OpenSocket {
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
  return {
    send: (data) => connection.send(data),
    close: () => {
      controller.abort();
      connection.close();
    },
  };
}

/** The ending that a close code of the gateway announces. */
export function endingOf({ code, reason }: { readonly code: number; readonly reason: string }): Ending {
  if (code === GOING_AWAY) return { kind: "draining", reason: reason || "the gateway is shutting down" };
  return { kind: "lost", reason: reason || `the connection was lost (${code})` };
}
