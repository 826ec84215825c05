// The list of recent events, newest first. It is the only record on the page of errors that are over.

import type { GatewayEvent } from "../net/events";
import { element } from "../page/dom";
import { size } from "../page/format";

const MAX_LINES = 50;

/** A line of the list, and its tone, which sets the colour. */
export interface EventLine {
  readonly text: string;
  readonly tone: "good" | "bad" | "plain";
}

/** Keeps the `MOST` newest lines. */
export class EventList {
  readonly #section: HTMLElement;
  readonly #list: HTMLElement;

  /** `section` contains `list` and is hidden until there is an event. */
  constructor(section: HTMLElement, list: HTMLElement) {
    this.#section = section;
    this.#list = list;
  }

  add(event: GatewayEvent): void {
    const line = eventLine(event);
    if (line !== null) this.addLine(event.at, line);
  }

  /** Adds a line for something that happened on this page; `time` in Unix ms. */
  addLine(time: number, line: EventLine): void {
    const at = new Date(time);
    const when = element("time", { datetime: at.toISOString() }, at.toLocaleTimeString());
    this.#list.prepend(element("li", { "data-tone": line.tone }, when, line.text));
    while (this.#list.children.length > MAX_LINES) this.#list.lastElementChild?.remove();
    this.#section.hidden = false;
  }
}

/** Text and tone of an event; null for events that are not displayed. */
export function eventLine(event: GatewayEvent): EventLine | null {
  switch (event.kind) {
    case "stream": {
      const { stream, state, reason } = event;
      const tone = state === "live" ? "good" : ["retrying", "failed", "silent", "offline", "unauthorized"].includes(state) ? "bad" : "plain";
      return { text: `${stream} is ${state.replaceAll("-", " ")}${reason === "" ? "" : `: ${reason}`}`, tone };
    }
    case "group-cut":
      return { text: `${event.stream}: ${event.reason}`, tone: "bad" };
    case "viewer-came":
      return { text: `${event.stream}: viewer connected (${event.transport})`, tone: "plain" };
    case "viewer-left":
      return { text: `${event.stream}: viewer disconnected (${event.transport})`, tone: "plain" };
    case "plugin": {
      const what = `${event.stream}: ${event.transport}`;
      if (event.state === "running") return { text: `${what} recovered`, tone: "good" };
      const state = event.state === "broken" ? "stopped after repeated failures" : "failed";
      return { text: `${what} ${state}: ${event.reason}`, tone: "bad" };
    }
    case "swap":
      return swapLine(event);
    case "capture": {
      const dimensions = size(event.width, event.height);
      const saved = event.path === "" ? "" : `, saved as ${event.path}`;
      return { text: `${event.stream}: image captured${dimensions === "–" ? "" : `, ${dimensions}`}${saved}`, tone: "plain" };
    }
    case "missed": {
      const count = event.count === null ? "some earlier events" : `${event.count} earlier events`;
      return { text: `${count} were missed`, tone: "plain" };
    }
    case "hello":
      return null;
  }
}

/** Line of an exchange; null for states without one, such as `switching`, which `switched` follows. */
function swapLine({ transport, component, state, reason }: Extract<GatewayEvent, { kind: "swap" }>): EventLine | null {
  switch (state) {
    case "switched":
      return { text: `${transport} uses ${component} now`, tone: "good" };
    case "refused":
      return { text: `${transport} does not use ${component}: ${reason}`, tone: "bad" };
    case "rolled-back":
      return { text: `${transport} uses the component before ${component} again: ${reason}`, tone: "bad" };
    case "comparing":
      return { text: `${transport} compares ${component} with the component in use`, tone: "plain" };
    default:
      return null;
  }
}
