// The control channel of a session: reports up, moves down. It comes back by itself; what was said meanwhile is lost, but for
// what plays, what failed, and what was chosen by hand.

import { Backoff } from "./backoff";
import { type Form, place } from "./choice";
import { Connection } from "./connection";
import { list, number, object, text } from "./json";

/** What is told about once a second. Counts are since the report before. */
export interface Report {
  readonly goodput: number | null;
  readonly received: number;
  /** What came had been lying in queues for so long, as far as that is known. */
  readonly queued_ms: number;
  readonly buffered_ms: number | null;
  readonly stalled_ms: number;
  readonly frames_dropped: number;
  readonly frame_rate: number;
  readonly network: string | null;
  readonly visible: boolean;
  /** Whether the sound is turned on. */
  readonly listening: boolean;
}

/** The gateway's word to play another form. */
export interface Move extends Form {
  readonly base: URL;
  readonly reason: string;
  /** So long the first picture may take. */
  readonly timeoutMs: number;
  /** What plays should leave the link to it. */
  readonly makesWay: boolean;
}

/** One form that may be chosen; size in px, `bandwidth` in bits per second. */
export interface Offered extends Form {
  readonly width: number;
  readonly height: number;
  readonly bandwidth: number;
  /** Whether it carries the stream's sound. */
  readonly sound: boolean;
}

/** What may be chosen, and what there is to hear. */
export interface Offer {
  readonly offered: readonly Offered[];
  /** Whether the gateway's config leaves no choice. */
  readonly forced: boolean;
  /** Whether the stream has sound, whatever carries it. */
  readonly sound: boolean;
}

/** What the gateway says over the channel, and its end. */
export interface ControlEvents {
  move(move: Move): void;
  choices(offer: Offer): void;
  refused(reason: string): void;
  /** The session is not known any more: another has to begin. */
  lost(): void;
}

/** Forms that are remembered to have failed until the channel is open. */
const FAILED = 16;
/** Round trips: the newest, and the shortest lately, which is without queues. */
const REMEMBERED = 30;
/** Closed by the gateway for good: another player attends to the session, or this one says nonsense. */
const FINAL = new Set([1000, 1003, 1007, 1008]);
const FIRST_TIMEOUT_MS = 5000;
/** A ping that is not answered for so long (ms): the other end is gone without a word. */
const SILENT_MS = 30_000;

/** Attends to one session, from its making to `close` or `lost`. */
export class Control {
  readonly #url: URL;
  readonly #events: ControlEvents;
  readonly #backoff = new Backoff();
  #connection: Connection | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #pinged: { readonly id: number; readonly at: number } | null = null;
  #trips: number[] = [];
  #pings = 0;
  /** Told again whenever the channel is opened. */
  #playing: Form | null = null;
  /** The newest choice by hand, which likewise is told again: it may not have come through. */
  #pinned: object | null = null;
  /** What failed while it was not open. */
  #failed: Form[] = [];

  constructor(url: URL, events: ControlEvents) {
    this.#url = new URL(url);
    this.#url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.#events = events;
    this.#connect();
  }

  /** Also measures the round trip, which goes with it. */
  report(report: Report): void {
    const newest = this.#trips.at(-1) ?? null;
    const shortest = newest === null ? null : Math.min(...this.#trips);
    // A ping that is not answered yet is late by so much at least.
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
    // What fails at once does so before the channel is open, and the policy would choose it again.
    if (this.#connection?.isOpen) this.#say({ type: "failed", transport, rendition });
    else this.#failed = [...this.#failed.slice(1 - FAILED), { transport, rendition }];
  }

  /** By hand; null leaves it to the policy. */
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
        // What never opened may be a session that is forgotten; asking for a choice tells.
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
