// Which transport plays, and what happens when it ends: state and decisions, no DOM. The element shows what stands here.

import { Backoff } from "../net/backoff";
import { LABELS, TRANSPORTS, type TransportName } from "../transport/names";
import type { Ending, Opener, Sink, Transport } from "../transport/transport";
import { Absence } from "./absence";

/**
 * - `idle`: there is nothing to play.
 * - `paused`: the page is hidden; the connection is given back.
 * - `connecting`: asked, no picture yet.
 * - `playing`: it is seen, or heard where there is nothing to see.
 * - `blocked`: the browser plays only after a tap.
 * - `silent`: connected, but nothing has come for a while. That is no fault where the source may be still.
 * - `waiting`: the connection ended; the next attempt comes by itself.
 */
export type Phase = "idle" | "paused" | "connecting" | "playing" | "blocked" | "silent" | "waiting";

/** What the viewer is told of one stage. */
export interface SessionState {
  readonly phase: Phase;
  /** The transport in use or tried next. */
  readonly transport: TransportName | null;
  /** Why the phase is what it is; empty where that needs no words. */
  readonly reason: string;
  /** Why another transport plays than the one wanted; empty if none. */
  readonly fallback: string;
  /** Whether what is played carries sound. */
  readonly sound: boolean;
  /** It is heard only: the stream has no pictures. */
  readonly soundOnly: boolean;
  /** Connections opened beyond the first, hidden times not counted. */
  readonly reconnects: number;
}

/** What is to be played. */
export interface Wanted {
  /** The stream's base address; null for nothing. */
  readonly base: URL | null;
  readonly transport: TransportName | "auto";
  /** In this rendition and no other, for somebody else changes it. */
  readonly only?: boolean;
}

/** How one transport is played. */
export interface TransportPlayer {
  readonly open: Opener;
  /** Why this browser cannot play it at all, or null. */
  obstacle(): string | null;
}

/** The world as the session needs it. */
export interface SessionEnv {
  readonly players: Readonly<Record<TransportName, TransportPlayer>>;
  /** Calls back once after `ms`; the result cancels it. */
  timer(callback: () => void, ms: number): () => void;
  random(): number;
  /** Ms on a clock that only rises. */
  now(): number;
}

/** As a transport's sink, of whichever transport plays; what else those tell is in the state. */
export type SessionSink = Pick<Sink, "picture" | "shown" | "bytes" | "carried" | "queued" | "dropped"> & {
  changed(state: SessionState): void;
};

const SILENT_AFTER_MS = 10_000;
/** A connection that died without a word looks like a silent one; asking anew costs little. */
const RENEW_AFTER_MS = 30_000;
/** Refusals in a row after which `auto` goes on to the next: proxies that let no WebSocket through do not change their mind. */
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
  /** What was found out about transports by trying them, for as long as the same is wanted. */
  readonly #obstacles = new Map<TransportName, string>();
  #absence = new Absence();
  #heardAt = 0;
  #state: SessionState = { phase: "idle", transport: null, reason: "", fallback: "", sound: false, soundOnly: false, reconnects: 0 };

  constructor(env: SessionEnv, sink: SessionSink) {
    this.#env = env;
    this.#sink = sink;
    this.#backoff = new Backoff(() => env.random());
  }

  get state(): SessionState {
    return this.#state;
  }

  /** What was found out by trying against transports, for as long as the same is wanted. */
  get obstacles(): ReadonlyMap<TransportName, string> {
    return this.#obstacles;
  }

  /** Plays this from now on. The same again changes nothing. */
  want(wanted: Wanted): void {
    const same = wanted.base?.href === this.#wanted.base?.href && wanted.transport === this.#wanted.transport && wanted.only === this.#wanted.only;
    if (same) return;
    this.#wanted = wanted;
    this.#refusals = 0;
    this.#obstacles.clear();
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

  /** Leaves the link to something else, or takes it again. */
  rest(rests: boolean): void {
    this.#transport?.rest?.(rests);
  }

  /** The network is said to be back: does not wait any longer. */
  hurry(): void {
    if (this.#state.phase === "waiting") this.#reconnect();
  }

  /** Closes what is open; `want` begins anew. */
  stop(): void {
    this.#wanted = { base: null, transport: "auto" };
    this.#restart();
  }

  #restart(): void {
    this.#release();
    const base = this.#wanted.base;
    if (base === null) {
      this.#set({ phase: "idle", transport: null, reason: "", fallback: "", sound: false, soundOnly: false });
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
    const sound = this.#state.sound && this.#state.transport === name;
    this.#set({ phase: "connecting", transport: name, reason: "", fallback, sound, soundOnly: false });
    const absence = (this.#absence = new Absence());
    let current = true;
    let played = false;
    this.#heard();
    this.#watch(SILENT_AFTER_MS);
    const sink: Sink = {
      picture: (picture) => {
        if (!current) {
          picture.close();
          return;
        }
        played = true;
        this.#plays(false);
        this.#sink.picture(picture);
      },
      shown: (shown) => {
        if (!current) return;
        played = true;
        this.#plays(false);
        this.#sink.shown(shown);
      },
      heard: () => {
        if (!current) return;
        played = true;
        this.#plays(true);
      },
      fed: (count) => {
        if (!current || this.#state.phase === "blocked" || !absence.fed(count, this.#env.now())) return;
        current = false;
        const reason = played ? `${LABELS[name]} shows no more pictures, though they come` : `${LABELS[name]} shows no picture, though they come`;
        this.#ended(name, { kind: played ? "lost" : "unsupported", reason });
      },
      blocked: () => {
        if (!current) return;
        absence.excuse();
        this.#set({ phase: "blocked", reason: "the browser plays this only after a tap" });
      },
      sound: (there) => {
        if (current) this.#set({ sound: there });
      },
      bytes: (count) => {
        if (!current) return;
        this.#heard();
        this.#sink.bytes(count);
      },
      carried: (bytes, ms) => {
        if (current) this.#sink.carried(bytes, ms);
      },
      queued: (ms) => {
        if (current) this.#sink.queued(ms);
      },
      dropped: (count) => {
        if (current) this.#sink.dropped(count);
      },
      ended: (ending) => {
        if (!current) return;
        current = false;
        this.#ended(name, ending);
      },
    };
    const transport = this.#env.players[name].open(base, sink, this.#wanted.only ?? false);
    this.#transport = {
      rest: (rests) => transport.rest?.(rests),
      stop: () => {
        current = false;
        transport.stop();
      },
    };
  }

  /** What is wanted, or the best that can be had, and what is against those before it. The last is always tried. */
  #choose(): { name: TransportName; fallback: string } {
    const wanted = this.#wanted.transport;
    const order = wanted === "auto" ? TRANSPORTS : [wanted, ...TRANSPORTS.filter((name) => name !== wanted)];
    const against: string[] = [];
    for (const name of order) {
      const obstacle = this.#obstacles.get(name) ?? this.#env.players[name].obstacle();
      if (obstacle === null) return { name, fallback: against.join("; ") };
      if (!against.includes(obstacle)) against.push(obstacle);
    }
    return { name: "mjpeg", fallback: against.join("; ") };
  }

  #ended(name: TransportName, ending: Ending): void {
    this.#release();
    if (ending.kind === "refused") this.#refusals++;
    const givesUp = ending.kind === "unsupported" || ending.kind === "unready" || (this.#refusals >= REFUSALS && this.#wanted.transport === "auto");
    if (givesUp && name !== "mjpeg") {
      this.#refusals = 0;
      const unready = ending.kind === "unready";
      this.#obstacles.set(name, unready ? `${LABELS[name]} has nothing to play yet (${ending.reason})` : ending.reason);
      this.#reconnect();
      return;
    }
    this.#set({ phase: "waiting", reason: ending.reason });
    this.#cancelTimer = this.#env.timer(() => this.#reconnect(), this.#backoff.next());
  }

  /** A picture came, or where there are none, sound. */
  #plays(soundOnly: boolean): void {
    this.#heard();
    this.#absence.shown();
    if (this.#state.phase === "playing" && this.#state.soundOnly === soundOnly) return;
    this.#backoff.reset();
    this.#refusals = 0;
    this.#set({ phase: "playing", reason: "", soundOnly });
  }

  /** Something arrived: silence is counted anew from here. */
  #heard(): void {
    if (this.#state.phase === "silent") this.#set({ phase: "connecting", reason: "" });
    this.#heardAt = this.#env.now();
  }

  #watch(ms: number): void {
    this.#cancelTimer = this.#env.timer(() => {
      // Who waits for a tap need not fetch anything meanwhile.
      if (this.#state.phase === "blocked") this.#heard();
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
