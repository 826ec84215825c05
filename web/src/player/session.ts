// State machine of one stage: chooses the transport, reconnects with backoff when it ends, and falls back to the next
// transport when one cannot work. It opens transports through `SessionEnv`, so it has no DOM and no clock of its own;
// `Director` owns one per stage and displays its state.

import { Backoff } from "../net/backoff";
import { type BuiltInName, type TransportName, isBuiltIn } from "../transport/names";
import type { CarrierName, Ending, Opener, Sink, Transport } from "../transport/transport";
import { DisplayWatchdog } from "./display_watchdog";

/**
 * - `idle`: nothing to play.
 * - `paused`: the page is hidden; the connection is closed.
 * - `connecting`: connection requested, no frame yet.
 * - `playing`: video is displayed, or audio plays if there is no video.
 * - `blocked`: the browser requires a tap before it plays.
 * - `silent`: connected, but no data has arrived for a while. This is not an error if the source may be still.
 * - `waiting`: the connection ended; the next attempt is scheduled.
 * - `unplayable`: what was selected cannot be played; nothing is tried.
 */
export type Phase = "idle" | "paused" | "connecting" | "playing" | "blocked" | "silent" | "waiting" | "unplayable";

/** State of one stage for the viewer. */
export interface SessionState {
  readonly phase: Phase;
  /** The transport in use, or the next one to try. */
  readonly transport: TransportName | null;
  /** Its name for people. */
  readonly label: string | null;
  /** The protocol over which it arrives, where the transport has several; else null. */
  readonly carrier: CarrierName | null;
  /** Reason for the phase; empty if it needs none. */
  readonly reason: string;
  /** Why another transport plays than the preferred one; empty if none. */
  readonly fallback: string;
  /** Whether what plays carries audio. */
  readonly hasAudio: boolean;
  /** Whether only audio plays because the stream has no video. */
  readonly audioOnly: boolean;
  /** Number of reconnects, not counting those after the page was hidden. */
  readonly reconnects: number;
}

/** What to play. */
export interface Selection {
  /** The stream's base URL; null for nothing. */
  readonly base: URL | null;
  readonly transport: TransportName | "auto";
  /** Exactly this rendition, because the gateway switches renditions itself. */
  readonly singleRendition?: boolean;
}

/** Player of one transport. */
export interface TransportPlayer {
  /** Name of the transport for people. */
  readonly label: string;
  readonly open: Opener;
  /** Why this browser cannot play it at all, or null if it can. */
  obstacle(): string | null;
}

/** The session's environment, replaced in tests. */
export interface SessionEnv {
  /** Players by the names of their transports, in order of preference; `mjpeg` can always play. */
  players(): ReadonlyMap<TransportName, TransportPlayer>;
  /** Calls back once after `ms`; the returned function cancels it. */
  timer(callback: () => void, ms: number): () => void;
  random(): number;
  /** Time in ms on a monotonic clock. */
  now(): number;
}

/** Forwards the events of whichever transport plays; everything else is in the state. */
export type SessionSink = Pick<Sink, "frame" | "displayed" | "bytes" | "bandwidthSample" | "queueingDelay" | "dropped"> & {
  changed(state: SessionState): void;
};

const SILENT_AFTER_MS = 10_000;
/** A connection that died without notice looks like a silent one, and reconnecting is cheap. */
const RECONNECT_AFTER_MS = 30_000;
/**
 * Consecutive refusals after which `auto` tries the next transport: a proxy that blocks WebSockets will not start to
 * allow them.
 */
const MAX_REFUSALS = 2;
/** The transport that is always tried. */
const LAST_RESORT: BuiltInName = "mjpeg";

/** Plays the selection while it is selected and the page is visible. */
export class Session {
  readonly #env: SessionEnv;
  readonly #sink: SessionSink;
  readonly #backoff: Backoff;
  #selection: Selection = { base: null, transport: "auto" };
  #visible = true;
  #transport: Transport | null = null;
  #cancelTimer: (() => void) | null = null;
  #refusals = 0;
  /** Failures found by trying transports, with their reasons; kept while the selection is the same. */
  readonly #obstacles = new Map<TransportName, string>();
  #watchdog = new DisplayWatchdog();
  #lastDataAt = 0;
  #state: SessionState = { phase: "idle", transport: null, label: null, carrier: null, reason: "", fallback: "", hasAudio: false, audioOnly: false, reconnects: 0 };

  constructor(env: SessionEnv, sink: SessionSink) {
    this.#env = env;
    this.#sink = sink;
    this.#backoff = new Backoff(() => env.random());
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Failures found by trying transports, with their reasons; kept while the selection is the same. */
  get obstacles(): ReadonlyMap<TransportName, string> {
    return this.#obstacles;
  }

  /** Selects what to play. Selecting the same again has no effect. */
  select(selection: Selection): void {
    const same = selection.base?.href === this.#selection.base?.href && selection.transport === this.#selection.transport && selection.singleRendition === this.#selection.singleRendition;
    if (same) return;
    this.#selection = selection;
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

  /** Reduces the transport's load on the link, or restores it. */
  throttle(throttled: boolean): void {
    this.#transport?.throttle?.(throttled);
  }

  /** The network is back: reconnects immediately if waiting. */
  retryNow(): void {
    if (this.#state.phase === "waiting") this.#reconnect();
  }

  /** Closes the connection; `select` starts again. */
  stop(): void {
    this.#selection = { base: null, transport: "auto" };
    this.#restart();
  }

  #restart(): void {
    this.#release();
    const base = this.#selection.base;
    if (base === null) {
      this.#set({ phase: "idle", transport: null, label: null, carrier: null, reason: "", fallback: "", hasAudio: false, audioOnly: false });
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
    const { name, player, fallback } = this.#choose();
    const { label } = player;
    const hasAudio = this.#state.hasAudio && this.#state.transport === name;
    this.#set({ phase: "connecting", transport: name, label, carrier: null, reason: "", fallback, hasAudio, audioOnly: false });
    const watchdog = (this.#watchdog = new DisplayWatchdog());
    let current = true;
    let played = false;
    this.#dataArrived();
    this.#watchSilence(SILENT_AFTER_MS);
    const sink: Sink = {
      frame: (frame) => {
        if (!current) {
          frame.close();
          return;
        }
        played = true;
        this.#playing(false);
        this.#sink.frame(frame);
      },
      displayed: (frame) => {
        if (!current) return;
        played = true;
        this.#playing(false);
        this.#sink.displayed(frame);
      },
      audioPlayed: () => {
        if (!current) return;
        played = true;
        this.#playing(true);
      },
      fed: (count) => {
        if (!current || this.#state.phase === "blocked" || !watchdog.fed(count, this.#env.now())) return;
        current = false;
        const displays = played ? "receives video but no longer displays it" : "receives video but displays none";
        // What a component's half draws, only its reports tell.
        const reason = `${label} ${displays}${isBuiltIn(name) ? "" : ": its module reports no `displayed`"}`;
        this.#ended(name, label, { kind: played ? "lost" : "unsupported", reason });
      },
      blocked: () => {
        if (!current) return;
        watchdog.reset();
        this.#set({ phase: "blocked", reason: "the browser requires a tap before it plays" });
      },
      audio: (present) => {
        if (current) this.#set({ hasAudio: present });
      },
      carrier: (carrier) => {
        if (current) this.#set({ carrier });
      },
      bytes: (count) => {
        if (!current) return;
        this.#dataArrived();
        this.#sink.bytes(count);
      },
      bandwidthSample: (bytes, ms) => {
        if (current) this.#sink.bandwidthSample(bytes, ms);
      },
      queueingDelay: (ms) => {
        if (current) this.#sink.queueingDelay(ms);
      },
      dropped: (count) => {
        if (current) this.#sink.dropped(count);
      },
      ended: (ending) => {
        if (!current) return;
        current = false;
        this.#ended(name, label, ending);
      },
    };
    const transport = player.open(base, sink, this.#selection.singleRendition ?? false);
    this.#transport = {
      throttle: (throttled) => transport.throttle?.(throttled),
      stop: () => {
        current = false;
        transport.stop();
      },
    };
  }

  /**
   * Returns the selected transport or the best available one, and the reasons against those before it. The last is
   * always tried.
   */
  #choose(): { name: TransportName; player: TransportPlayer; fallback: string } {
    const selection = this.#selection.transport;
    const all = [...this.#env.players()];
    const order = [...all.filter(([name]) => name === selection), ...all.filter(([name]) => name !== selection)];
    const reasons: string[] = [];
    for (const [name, player] of order) {
      const obstacle = this.#obstacles.get(name) ?? player.obstacle();
      if (obstacle === null || name === LAST_RESORT) return { name, player, fallback: reasons.join("; ") };
      if (!reasons.includes(obstacle)) reasons.push(obstacle);
    }
    throw new Error("there is no player for MJPEG");
  }

  #ended(name: TransportName, label: string, ending: Ending): void {
    this.#release();
    if (ending.kind === "refused") this.#refusals++;
    const givesUp = ending.kind === "unsupported" || ending.kind === "unready" || (this.#refusals >= MAX_REFUSALS && this.#selection.transport === "auto");
    if (givesUp && name !== LAST_RESORT) {
      this.#refusals = 0;
      const unready = ending.kind === "unready";
      this.#obstacles.set(name, unready ? `${label} is not ready yet (${ending.reason})` : ending.reason);
      this.#reconnect();
      return;
    }
    this.#set({ phase: "waiting", reason: ending.reason });
    this.#cancelTimer = this.#env.timer(() => this.#reconnect(), this.#backoff.next());
  }

  /** A frame was displayed, or audio was played if there is no video. */
  #playing(audioOnly: boolean): void {
    this.#dataArrived();
    this.#watchdog.displayed();
    if (this.#state.phase === "playing" && this.#state.audioOnly === audioOnly) return;
    this.#backoff.reset();
    this.#refusals = 0;
    this.#set({ phase: "playing", reason: "", audioOnly });
  }

  /** Data arrived: restarts the silence timer. */
  #dataArrived(): void {
    if (this.#state.phase === "silent") this.#set({ phase: "connecting", reason: "" });
    this.#lastDataAt = this.#env.now();
  }

  #watchSilence(ms: number): void {
    this.#cancelTimer = this.#env.timer(() => {
      // A player that waits for a tap need not fetch data meanwhile.
      if (this.#state.phase === "blocked") this.#dataArrived();
      const silent = this.#env.now() - this.#lastDataAt;
      if (silent >= RECONNECT_AFTER_MS) {
        this.#reconnect();
      } else if (silent >= SILENT_AFTER_MS) {
        this.#set({ phase: "silent", reason: "connected, but no new frames arrive" });
        this.#watchSilence(RECONNECT_AFTER_MS - silent);
      } else {
        this.#watchSilence(SILENT_AFTER_MS - silent);
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
