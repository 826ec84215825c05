// Client of a session's control channel: reports to the gateway, moves from it. It reconnects by itself. Messages
// sent meanwhile are dropped, except what plays, what failed, and the viewer's selection, which are sent again.

import { Backoff } from "./backoff";
import { type PlaybackTarget, resolvePath } from "./choice";
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
  /** Size in device pixels at which the video is shown. */
  readonly view_width: number;
  readonly view_height: number;
}

/** The gateway's instruction to play another target. */
export interface Move extends PlaybackTarget {
  readonly base: URL;
  readonly reason: string;
  /** Timeout for the first frame. */
  readonly timeoutMs: number;
  /** Whether the current transport should yield the link to the new one. */
  readonly makesWay: boolean;
}

/** A target that may be selected; size in pixels, `bandwidth` in bits per second. */
export interface Candidate extends PlaybackTarget {
  readonly width: number;
  readonly height: number;
  readonly bandwidth: number;
  /** Whether it carries the stream's audio. */
  readonly hasAudio: boolean;
}

/** The available targets, and whether there is audio. */
export interface Offer {
  readonly candidates: readonly Candidate[];
  /** Whether the gateway's config allows only one transport. */
  readonly forced: boolean;
  /** Whether the stream has audio, on any transport. */
  readonly hasAudio: boolean;
}

/** Messages of the gateway, and the end of the session. */
export interface ControlEvents {
  move(move: Move): void;
  choices(offer: Offer): void;
  refused(reason: string): void;
  /** The gateway no longer knows the session: a new one has to be requested. */
  lost(): void;
}

/** Maximum number of failed targets to queue until the channel is open. */
const MAX_FAILED = 16;
/** Number of round-trip times to remember, to find the shortest, which is without queueing. */
const MAX_ROUND_TRIPS = 30;
/**
 * Close codes that are final: another player took over the session, this one sent an invalid message, or the viewer was
 * signed out.
 */
const FINAL_CLOSE_CODES = new Set([1000, 1003, 1007, 1008, 4401]);
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
  #playing: PlaybackTarget | null = null;
  /** The viewer's latest selection; sent again likewise, as it may have been lost. */
  #pinned: object | null = null;
  /** Targets that failed while the channel was not open. */
  #failedTargets: PlaybackTarget[] = [];

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
    const roundTrip = newest === null ? null : Math.max(newest, waiting);
    const queueing = roundTrip === null || shortest === null ? 0 : roundTrip - shortest;
    this.#send({ type: "report", ...report, round_trip_ms: roundTrip, queued_ms: Math.max(queueing, report.queued_ms) });
    if (this.#pendingPing === null && this.#connection?.isOpen) {
      this.#pendingPing = { id: ++this.#pings, at: performance.now() };
      this.#send({ type: "ping", id: this.#pings });
    }
  }

  playing(target: PlaybackTarget): void {
    this.#playing = target;
    this.#sendPlaying();
  }

  failed({ transport, rendition }: PlaybackTarget): void {
    // An immediate failure precedes the opening of the channel; without the queue, the policy would choose the same
    // target again.
    if (this.#connection?.isOpen) this.#send({ type: "failed", transport, rendition });
    else this.#failedTargets = [...this.#failedTargets.slice(1 - MAX_FAILED), { transport, rendition }];
  }

  /** Sends the viewer's selection; null returns the choice to the policy. */
  pin(target: Partial<PlaybackTarget> | null): void {
    this.#pinned = target === null ? { type: "auto" } : { type: "pin", ...target };
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
        for (const target of this.#failedTargets.splice(0)) this.failed(target);
        this.#sendPlaying();
        if (this.#pinned !== null) this.#send(this.#pinned);
      },
      message: (data) => {
        if (typeof data === "string") this.#receive(data);
      },
      ended: (close) => {
        // If it never opened, the session may have expired; requesting a new choice will show.
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

  #send(message: object): void {
    this.#connection?.send(JSON.stringify(message));
  }

  #receive(json: string): void {
    const message = parse(json);
    if (message === null) return;
    const target = { transport: text(message["transport"]), rendition: text(message["rendition"]) };
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
        if (base !== null) this.#events.move({ ...target, base, reason: text(message["reason"]), timeoutMs, makesWay });
        return;
      }
      case "choices": {
        const candidates = list(message["choices"]).map((choice) => ({
          transport: text(choice["transport"]),
          rendition: text(choice["rendition"]),
          width: number(choice["width"]) ?? 0,
          height: number(choice["height"]) ?? 0,
          bandwidth: number(choice["bandwidth"]) ?? 0,
          hasAudio: choice["sound"] === true,
        }));
        this.#events.choices({ candidates, forced: message["forced"] === true, hasAudio: message["sound"] === true });
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
