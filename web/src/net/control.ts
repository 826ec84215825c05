// Client of a session's control channel: reports to the gateway, moves from it. It reconnects by itself. Messages
// sent meanwhile are dropped, except what plays, what failed, and the viewer's selection, which are sent again.

import { Backoff } from "./backoff";
import { type Form, resolvePath } from "./choice";
import { Connection } from "./connection";
import { list, number, object, text } from "./json";

/** The periodic report, about once a second. Counters cover the time since the previous report. */
export interface Report {
  readonly goodput: number | null;
  readonly received: number;
  /** Estimated time that received data had spent in queues, if known. */
  readonly queued_ms: number;
  readonly buffered_ms: number | null;
  readonly stalled_ms: number;
  readonly frames_dropped: number;
  readonly frame_rate: number;
  readonly network: string | null;
  readonly visible: boolean;
  /** Whether the viewer has turned audio on. */
  readonly listening: boolean;
}

/** The gateway's instruction to play another form. */
export interface Move extends Form {
  readonly base: URL;
  readonly reason: string;
  /** Timeout for the first frame. */
  readonly timeoutMs: number;
  /** Whether the current transport should yield the link to the new one. */
  readonly makesWay: boolean;
}

/** One form that may be selected; size in pixels, `bandwidth` in bits per second. */
export interface Offered extends Form {
  readonly width: number;
  readonly height: number;
  readonly bandwidth: number;
  /** Whether it carries the stream's audio. */
  readonly sound: boolean;
}

/** The available forms, and whether there is audio. */
export interface Offer {
  readonly offered: readonly Offered[];
  /** Whether the gateway's config allows only one transport. */
  readonly forced: boolean;
  /** Whether the stream has audio, on any transport. */
  readonly sound: boolean;
}

/** Messages of the gateway, and the end of the session. */
export interface ControlEvents {
  move(move: Move): void;
  choices(offer: Offer): void;
  refused(reason: string): void;
  /** The gateway no longer knows the session: a new one has to be requested. */
  lost(): void;
}

/** Maximum number of failed forms to queue until the channel is open. */
const MAX_FAILED = 16;
/** Number of round-trip times to remember, to find the shortest, which is without queueing. */
const MAX_ROUND_TRIPS = 30;
/** Close codes that are final: another player took over the session, or this one sent an invalid message. */
const FINAL_CLOSE_CODES = new Set([1000, 1003, 1007, 1008]);
const DEFAULT_TIMEOUT_MS = 5000;
/** Timeout (ms) for a pong: after it, the peer is assumed to be gone without notice. */
const PONG_TIMEOUT_MS = 30_000;

/** Control channel of one session, from construction until `close` or `lost`. */
export class Control {
  readonly #url: URL;
  readonly #events: ControlEvents;
  readonly #backoff = new Backoff();
  #connection: Connection | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #pendingPing: { readonly id: number; readonly at: number } | null = null;
  #roundTrips: number[] = [];
  #pings = 0;
  /** Sent again whenever the channel is reopened. */
  #playing: Form | null = null;
  /** The viewer's latest selection; sent again likewise, as it may have been lost. */
  #pinned: object | null = null;
  /** Forms that failed while the channel was not open. */
  #failedForms: Form[] = [];

  constructor(url: URL, events: ControlEvents) {
    this.#url = new URL(url);
    this.#url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.#events = events;
    this.#connect();
  }

  /** Sends a report, with the round-trip time, and measures that again. */
  report(report: Report): void {
    const newest = this.#roundTrips.at(-1) ?? null;
    const shortest = newest === null ? null : Math.min(...this.#roundTrips);
    // An unanswered ping is late by at least this much.
    const waiting = this.#pendingPing === null ? 0 : performance.now() - this.#pendingPing.at;
    if (waiting >= PONG_TIMEOUT_MS) {
      this.#connection?.close();
      this.#reconnect();
      return;
    }
    const trip = newest === null ? null : Math.max(newest, waiting);
    const waits = trip === null || shortest === null ? 0 : trip - shortest;
    this.#send({ type: "report", ...report, round_trip_ms: trip, queued_ms: Math.max(waits, report.queued_ms) });
    if (this.#pendingPing === null && this.#connection?.isOpen) {
      this.#pendingPing = { id: ++this.#pings, at: performance.now() };
      this.#send({ type: "ping", id: this.#pings });
    }
  }

  playing(form: Form): void {
    this.#playing = form;
    this.#sendPlaying();
  }

  failed({ transport, rendition }: Form): void {
    // An immediate failure precedes the opening of the channel; without the queue, the policy would choose the same
    // form again.
    if (this.#connection?.isOpen) this.#send({ type: "failed", transport, rendition });
    else this.#failedForms = [...this.#failedForms.slice(1 - MAX_FAILED), { transport, rendition }];
  }

  /** Sends the viewer's selection; null returns the choice to the policy. */
  pin(form: Partial<Form> | null): void {
    this.#pinned = form === null ? { type: "auto" } : { type: "pin", ...form };
    this.#send(this.#pinned);
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#connection?.close();
  }

  #connect(): void {
    this.#connection = new Connection(this.#url, {
      opened: () => {
        this.#backoff.reset();
        for (const form of this.#failedForms.splice(0)) this.failed(form);
        this.#sendPlaying();
        if (this.#pinned !== null) this.#send(this.#pinned);
      },
      message: (data) => {
        if (typeof data === "string") this.#receive(data);
      },
      ended: (close) => {
        // If it never opened, the session may have expired; requesting a new choice will tell.
        if (close === null || FINAL_CLOSE_CODES.has(close.code)) {
          this.#events.lost();
        } else {
          this.#reconnect();
        }
      },
    });
  }

  #reconnect(): void {
    this.#connection = null;
    this.#pendingPing = null;
    this.#timer = setTimeout(() => this.#connect(), this.#backoff.next());
  }

  #sendPlaying(): void {
    if (this.#playing === null) return;
    const { transport, rendition } = this.#playing;
    this.#send({ type: "playing", transport, rendition });
  }

  #send(what: object): void {
    this.#connection?.send(JSON.stringify(what));
  }

  #receive(json: string): void {
    const message = parse(json);
    if (message === null) return;
    const form = { transport: text(message["transport"]), rendition: text(message["rendition"]) };
    switch (message["type"]) {
      case "pong":
        if (this.#pendingPing !== null && number(message["id"]) === this.#pendingPing.id) {
          this.#roundTrips = [...this.#roundTrips.slice(1 - MAX_ROUND_TRIPS), performance.now() - this.#pendingPing.at];
          this.#pendingPing = null;
        }
        return;
      case "move": {
        const http = new URL(this.#url);
        http.protocol = this.#url.protocol === "wss:" ? "https:" : "http:";
        const base = resolvePath(text(message["base"]), http);
        const timeoutMs = number(message["timeout_ms"]) ?? DEFAULT_TIMEOUT_MS;
        const makesWay = message["makes_way"] === true;
        if (base !== null) this.#events.move({ ...form, base, reason: text(message["reason"]), timeoutMs, makesWay });
        return;
      }
      case "choices": {
        const offered = list(message["choices"]).map((choice) => ({
          transport: text(choice["transport"]),
          rendition: text(choice["rendition"]),
          width: number(choice["width"]) ?? 0,
          height: number(choice["height"]) ?? 0,
          bandwidth: number(choice["bandwidth"]) ?? 0,
          sound: choice["sound"] === true,
        }));
        this.#events.choices({ offered, forced: message["forced"] === true, sound: message["sound"] === true });
        return;
      }
      case "refused":
        this.#events.refused(text(message["reason"]));
        return;
    }
  }
}

function parse(json: string): Record<string, unknown> | null {
  try {
    return object(JSON.parse(json));
  } catch {
    return null;
  }
}
