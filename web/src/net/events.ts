// Subscribes to the gateway's events, `GET /api/events`, while the page is visible. When the page becomes visible
// again, it requests the events that it missed.

import { number, object, text } from "./json";
import { Backoff } from "./backoff";
import { gatewayUrl } from "./gateway";

/** An event; `at` in Unix ms, `stream` with its rendition as in URLs. */
export type GatewayEvent =
  | { readonly kind: "stream"; readonly at: number; readonly stream: string; readonly state: string; readonly reason: string }
  | { readonly kind: "group-cut"; readonly at: number; readonly stream: string; readonly reason: string }
  | { readonly kind: "viewer-came" | "viewer-left"; readonly at: number; readonly stream: string; readonly transport: string }
  | {
      readonly kind: "plugin";
      readonly at: number;
      readonly stream: string;
      readonly transport: string;
      readonly plugin: string;
      readonly state: string;
      readonly reason: string;
    }
  /** The component of a transport is exchanged; `component` is the new one, as name@version. */
  | { readonly kind: "swap"; readonly at: number; readonly transport: string; readonly component: string; readonly state: string; readonly reason: string }
  /** A capture was saved at `path`, by any client. */
  | { readonly kind: "capture"; readonly at: number; readonly stream: string; readonly width: number | null; readonly height: number | null; readonly path: string }
  /** First event of a connection; `run` changes with each start of the gateway. */
  | { readonly kind: "hello"; readonly at: number; readonly run: string }
  /** Older events are no longer available; `count` is null if the gateway does not know how many. */
  | { readonly kind: "missed"; readonly at: number; readonly count: number | null };

type Kind = GatewayEvent["kind"];
const KINDS: readonly Kind[] = ["stream", "group-cut", "viewer-came", "viewer-left", "plugin", "swap", "capture", "hello", "missed"];

/** Parses an event; null if it is invalid. */
export function parseEvent(kind: Kind, json: string): GatewayEvent | null {
  const data = object(parse(json));
  if (data === null) return null;
  const at = number(data["at"]) ?? 0;
  const rendition = text(data["rendition"]);
  const stream = (text(data["stream"]) || text(data["serial"])) + (rendition === "" ? "" : `@${rendition}`);
  const [state, reason] = [text(data["state"]), text(data["reason"])];
  switch (kind) {
    case "stream":
      return { kind, at, stream, state, reason };
    case "group-cut":
      return { kind, at, stream, reason };
    case "viewer-came":
    case "viewer-left":
      return { kind, at, stream, transport: text(data["transport"]) };
    case "plugin":
      return { kind, at, stream, transport: text(data["transport"]), plugin: text(data["plugin"]), state, reason };
    case "swap":
      return { kind, at, transport: text(data["transport"]), component: text(data["component"]), state, reason };
    case "capture":
      return { kind, at, stream, width: number(data["width"]), height: number(data["height"]), path: text(data["path"]) };
    case "hello":
      return { kind, at, run: text(data["run"]) };
    case "missed":
      return { kind, at, count: number(data["count"]) };
  }
}

/** Reports events while the page is open and visible. */
export function followEvents(onEvent: (event: GatewayEvent) => void): void {
  const backoff = new Backoff();
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let last = "";

  const close = (): void => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = (): void => {
    close();
    const query = last === "" ? "" : `?last-event-id=${encodeURIComponent(last)}`;
    const opened = new EventSource(gatewayUrl(`api/events${query}`));
    source = opened;
    for (const kind of KINDS) {
      opened.addEventListener(kind, (event) => {
        last = event.lastEventId;
        backoff.reset();
        const parsed = parseEvent(kind, String(event.data));
        if (parsed !== null) onEvent(parsed);
      });
    }
    opened.addEventListener("error", () => {
      // EventSource reconnects by itself, except after a response that is not an event stream.
      if (opened.readyState === EventSource.CLOSED && source === opened) timer = setTimeout(open, backoff.next());
    });
  };
  const follow = (): void => {
    if (document.visibilityState === "visible") open();
    else close();
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}
