// Which transport plays, and what happens when it ends: state and decisions, no DOM. The element shows what stands here.

import { Backoff } from "../net/backoff";
import type { Ending, Opener, Sink, Transport, TransportName } from "../transport/transport";

/**
 * - `idle`: there is nothing to play.
 * - `paused`: the page is hidden; the connection is given back.
 * - `connecting`: asked, no picture yet.
 * - `playing`: pictures come.
 * - `silent`: connected, but nothing has come for a while. That is no fault where the source may be still.
 * - `waiting`: the connection ended; the next attempt comes by itself.
 */
export type Phase = "idle" | "paused" | "connecting" | "playing" | "silent" | "waiting";

/** What the viewer is told. */
export interface SessionState {
  readonly phase: Phase;
  /** The transport in use or tried next. */
  readonly transport: TransportName | null;
  /** Why the phase is what it is; empty where that needs no words. */
  readonly reason: string;
  /** Why another transport plays than the one wanted; empty if none. */
  readonly fallback: string;
  /** Connections opened beyond the first, hidden times not counted. */
  readonly reconnects: number;
}

/** What is to be played. */
export interface Wanted {
  /** The stream's base address; null for nothing. */
  readonly base: URL | null;
  readonly transport: TransportName | "auto";
}

/** The world as the session needs it. */
export interface SessionEnv {
  readonly openers: Readonly<Record<TransportName, Opener>>;
  /** Why `nal` cannot play in this browser, or null. */
  nalObstacle(): string | null;
  /** Calls back once after `ms`; the result cancels it. */
  timer(callback: () => void, ms: number): () => void;
  random(): number;
  /** Rising ms. */
  now(): number;
}

/** Where pictures and counts go. */
export type SessionSink = Omit<Sink, "ended"> & { changed(state: SessionState): void };

const SILENT_AFTER_MS = 10_000;
/** A connection that died without a word looks like a silent one; asking anew costs little. */
const RENEW_AFTER_MS = 30_000;
/** Refusals in a row after which `auto` gives up on `nal`: proxies that let no WebSocket through do not change their mind. */
const REFUSALS = 2;

/** Plays what is wanted for as long as it is wanted and visible. */
export class Session {
  readonly #env: SessionEnv;
  readonly #sink: SessionSink;
  readonly #backoff: Backoff;
  #wanted: Wanted = { base: null, transport: "auto" };
  #visible = true;
  #transport: Transport | null = null;
  #cancelTimer: (() => void) | null = null;
  #refusals = 0;
  #obstacle: string | null = null;
  #heardAt = 0;
  #state: SessionState = { phase: "idle", transport: null, reason: "", fallback: "", reconnects: 0 };

  constructor(env: SessionEnv, sink: SessionSink) {
    this.#env = env;
    this.#sink = sink;
    this.#backoff = new Backoff(() => env.random());
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Plays this from now on. The same again changes nothing. */
  want(wanted: Wanted): void {
    const same = wanted.base?.href === this.#wanted.base?.href && wanted.transport === this.#wanted.transport;
    if (same) return;
    this.#wanted = wanted;
    this.#refusals = 0;
    this.#obstacle = null;
    this.#backoff.reset();
    this.#set({ reconnects: 0 });
    this.#restart();
  }

  setVisible(visible: boolean): void {
    if (visible === this.#visible) return;
    this.#visible = visible;
    this.#backoff.reset();
    this.#restart();
  }

  /** The network is said to be back: does not wait any longer. */
  hurry(): void {
    if (this.#state.phase === "waiting") this.#reconnect();
  }

  /** Gives everything back. */
  stop(): void {
    this.#wanted = { base: null, transport: "auto" };
    this.#restart();
  }

  #restart(): void {
    this.#release();
    const base = this.#wanted.base;
    if (base === null) {
      this.#set({ phase: "idle", transport: null, reason: "", fallback: "" });
    } else if (!this.#visible) {
      this.#set({ phase: "paused", reason: "the page is hidden" });
    } else {
      this.#connect(base);
    }
  }

  #reconnect(): void {
    this.#set({ reconnects: this.#state.reconnects + 1 });
    this.#restart();
  }

  #connect(base: URL): void {
    const { name, fallback } = this.#choose();
    this.#set({ phase: "connecting", transport: name, reason: "", fallback });
    let current = true;
    this.#heard();
    this.#watch(SILENT_AFTER_MS);
    const transport = this.#env.openers[name](base, {
      picture: (picture) => {
        if (!current) {
          picture.close();
          return;
        }
        this.#heard();
        if (this.#state.phase !== "playing") {
          this.#backoff.reset();
          this.#refusals = 0;
          this.#set({ phase: "playing", reason: "" });
        }
        this.#sink.picture(picture);
      },
      bytes: (count) => {
        if (!current) return;
        this.#heard();
        this.#sink.bytes(count);
      },
      dropped: (count) => {
        if (current) this.#sink.dropped(count);
      },
      ended: (ending) => {
        if (!current) return;
        current = false;
        this.#ended(name, ending);
      },
    });
    this.#transport = {
      stop: () => {
        current = false;
        transport.stop();
      },
    };
  }

  #choose(): { name: TransportName; fallback: string } {
    if (this.#wanted.transport === "mjpeg") return { name: "mjpeg", fallback: "" };
    const obstacle = this.#env.nalObstacle() ?? this.#obstacle;
    return obstacle === null ? { name: "nal", fallback: "" } : { name: "mjpeg", fallback: obstacle };
  }

  #ended(name: TransportName, ending: Ending): void {
    this.#release();
    if (name === "nal") {
      if (ending.kind === "refused") this.#refusals++;
      const refused = this.#refusals >= REFUSALS && this.#wanted.transport === "auto";
      if (ending.kind === "unsupported" || refused) {
        this.#obstacle = ending.reason;
        this.#reconnect();
        return;
      }
    }
    this.#set({ phase: "waiting", reason: ending.reason });
    this.#cancelTimer = this.#env.timer(() => this.#reconnect(), this.#backoff.next());
  }

  /** Something arrived: silence is counted anew from here. */
  #heard(): void {
    if (this.#state.phase === "silent") this.#set({ phase: "connecting", reason: "" });
    this.#heardAt = this.#env.now();
  }

  #watch(ms: number): void {
    this.#cancelTimer = this.#env.timer(() => {
      const silent = this.#env.now() - this.#heardAt;
      if (silent >= RENEW_AFTER_MS) {
        this.#reconnect();
      } else if (silent >= SILENT_AFTER_MS) {
        this.#set({ phase: "silent", reason: "connected, but no pictures come" });
        this.#watch(RENEW_AFTER_MS - silent);
      } else {
        this.#watch(SILENT_AFTER_MS - silent);
      }
    }, ms);
  }

  #release(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#transport?.stop();
    this.#transport = null;
  }

  #set(change: Partial<SessionState>): void {
    const next = { ...this.#state, ...change };
    const names = Object.keys(next) as (keyof SessionState)[];
    if (names.every((name) => next[name] === this.#state[name])) return;
    this.#state = next;
    this.#sink.changed(next);
  }
}
