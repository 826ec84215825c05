// Client of a session's control channel: reports to the gateway, moves from it. It reconnects by itself. Messages
// sent meanwhile are dropped, except what plays, what failed, and the viewer's selection, which are sent again.

import { Backoff } from "./backoff";
import { type Form, place } from "./choice";
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
const FAILED = 16;
/** Number of round-trip times to remember, to find the shortest, which is without queueing. */
const REMEMBERED = 30;
/** Close codes that are final: another player took over the session, or this one sent an invalid message. */
const FINAL = new Set([1000, 1003, 1007, 1008]);
const FIRST_TIMEOUT_MS = 5000;
/** Timeout (ms) for a pong: after it, the peer is assumed to be gone without notice. */
const SILENT_MS = 30_000;

/** Control channel of one session, from construction until `close` or `lost`. */
export class Control {
  readonly #url: URL;
  readonly #events: ControlEvents;
  readonly #backoff = new Backoff();
  #connection: Connection | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #pinged: { readonly id: number; readonly at: number } | null = null;
  #trips: number[] = [];
  #pings = 0;
  /** Sent again whenever the channel is reopened. */
  #playing: Form | null = null;
  /** The viewer's latest selection; sent again likewise, as it may have been lost. */
  #pinned: object | null = null;
  /** Forms that failed while the channel was not open. */
  #failed: Form[] = [];

  constructor(url: URL, events: ControlEvents) {
    this.#url = new URL(url);
    this.#url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.#events = events;
    this.#connect();
  }

  /** Sends a report, with the round-trip time, and measures that again. */
  report(report: Report): void {
    const newest = this.#trips.at(-1) ?? null;
    const shortest = newest === null ? null : Math.min(...this.#trips);
    // An unanswered ping is late by at least this much.
    const waiting = this.#pinged === null ? 0 : performance.now() - this.#pinged.at;
    if (waiting >= SILENT_MS) {
      this.#connection?.close();
      this.#again();
      return;
    }
    const trip = newest === null ? null : Math.max(newest, waiting);
    const waits = trip === null || shortest === null ? 0 : trip - shortest;
    this.#say({ type: "report", ...report, round_trip_ms: trip, queued_ms: Math.max(waits, report.queued_ms) });
    if (this.#pinged === null && this.#connection?.isOpen) {
      this.#pinged = { id: ++this.#pings, at: performance.now() };
      this.#say({ type: "ping", id: this.#pings });
    }
  }

  playing(form: Form): void {
    this.#playing = form;
    this.#sayPlaying();
  }

  failed({ transport, rendition }: Form): void {
    // An immediate failure precedes the opening of the channel; without the queue, the policy would choose the same
    // form again.
    if (this.#connection?.isOpen) this.#say({ type: "failed", transport, rendition });
    else this.#failed = [...this.#failed.slice(1 - FAILED), { transport, rendition }];
  }

  /** Sends the viewer's selection; null returns the choice to the policy. */
  pin(form: Partial<Form> | null): void {
    this.#pinned = form === null ? { type: "auto" } : { type: "pin", ...form };
    this.#say(this.#pinned);
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#connection?.close();
  }

  #connect(): void {
    this.#connection = new Connection(this.#url, {
      opened: () => {
        this.#backoff.reset();
        for (const form of this.#failed.splice(0)) this.failed(form);
        this.#sayPlaying();
        if (this.#pinned !== null) this.#say(this.#pinned);
      },
      message: (data) => {
        if (typeof data === "string") this.#heard(data);
      },
      ended: (close) => {
        // If it never opened, the session may have expired; requesting a new choice will tell.
        if (close === null || FINAL.has(close.code)) {
          this.#events.lost();
        } else {
          this.#again();
        }
      },
    });
  }

  #again(): void {
    this.#connection = null;
    this.#pinged = null;
    this.#timer = setTimeout(() => this.#connect(), this.#backoff.next());
  }

  #sayPlaying(): void {
    if (this.#playing === null) return;
    const { transport, rendition } = this.#playing;
    this.#say({ type: "playing", transport, rendition });
  }

  #say(what: object): void {
    this.#connection?.send(JSON.stringify(what));
  }

  #heard(json: string): void {
    const said = parse(json);
    if (said === null) return;
    const form = { transport: text(said["transport"]), rendition: text(said["rendition"]) };
    switch (said["type"]) {
      case "pong":
        if (this.#pinged !== null && number(said["id"]) === this.#pinged.id) {
          this.#trips = [...this.#trips.slice(1 - REMEMBERED), performance.now() - this.#pinged.at];
          this.#pinged = null;
        }
        return;
      case "move": {
        const http = new URL(this.#url);
        http.protocol = this.#url.protocol === "wss:" ? "https:" : "http:";
        const base = place(text(said["base"]), http);
        const timeoutMs = number(said["timeout_ms"]) ?? FIRST_TIMEOUT_MS;
        const makesWay = said["makes_way"] === true;
        if (base !== null) this.#events.move({ ...form, base, reason: text(said["reason"]), timeoutMs, makesWay });
        return;
      }
      case "choices": {
        const offered = list(said["choices"]).map((choice) => ({
          transport: text(choice["transport"]),
          rendition: text(choice["rendition"]),
          width: number(choice["width"]) ?? 0,
          height: number(choice["height"]) ?? 0,
          bandwidth: number(choice["bandwidth"]) ?? 0,
          sound: choice["sound"] === true,
        }));
        this.#events.choices({ offered, forced: said["forced"] === true, sound: said["sound"] === true });
        return;
      }
      case "refused":
        this.#events.refused(text(said["reason"]));
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
