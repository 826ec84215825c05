// Decides which transport plays on which stage. It asks the gateway for a choice, keeps the control channel of the
// session open, and executes moves make-before-break: of two stages, one is visible, and the new transport plays on
// the hidden one until it has displayed a frame. `SluicegatePlayer` drives it; it drives two `Session`s and one
// `Control`. No DOM, so tests replace its environment.

import type { ChoiceRequest, Choice, PlaybackTarget } from "../net/choice";
import type { Move, Candidate } from "../net/control";
import { RESPONSE_TIMEOUT_MS } from "../net/timeout";
import { CACHEABLE, type TransportName } from "../transport/names";
import type { ControlLike, DirectorEnv, DirectorSink, DirectorState, DirectorSelection, PlaybackStats, CompletedMove, StageName } from "./direction";
import type { Session, SessionState } from "./session";

export type { Choices, DirectorEnv, DirectorSink, DirectorState, DirectorSelection, PlaybackStats, StageName } from "./direction";

interface Stage {
  readonly name: StageName;
  readonly session: Session;
  /** Target that was selected for this stage; null if the gateway did not choose. */
  target: PlaybackTarget | null;
}

interface Pending {
  readonly stage: Stage;
  readonly move: Move;
  readonly since: number;
  readonly cancel: () => void;
}

/** Minimum number of bytes for a goodput estimate; fewer are added to the next measurement. */
const MIN_GOODPUT_BYTES = 15_000;
/** Time in ms that the initial choice has to display its first frame. */
const START_MS = 8000;
/**
 * Delay in ms before requesting a new session if the gateway forgot this one or the control channel did not open;
 * doubles each time up to the limit.
 */
const RETRY_MS = 5000;
const RETRY_LIMIT_MS = 60_000;

/** The director of one player. `select` starts playback, `stop` ends it. */
export class Director {
  readonly #env: DirectorEnv;
  readonly #sink: DirectorSink;
  #current: Stage;
  #standby: Stage;
  #selection: DirectorSelection = { base: null, transport: "auto", rendition: null };
  #request: AbortController | null = null;
  #control: ControlLike | null = null;
  #pending: Pending | null = null;
  #cancelTimer: (() => void) | null = null;
  #reason = "";
  #moved: CompletedMove | null = null;
  #reported: PlaybackTarget | null = null;
  /** Failures found by trying transports, with their reasons; kept while the same stream is selected. */
  readonly #failures = new Map<TransportName, string>();
  /** A selection by the viewer was sent and is not answered yet. */
  #pinPending = false;
  /** Targets that the gateway offers for this session. */
  #candidates: readonly Candidate[] = [];
  /** The gateway's config allows only one transport. */
  #forced = false;
  /** Whether the stream has audio, according to the gateway. */
  #streamHasAudio = false;
  /** Whether the stream is the test pattern, according to the gateway. */
  #pattern = false;
  #listening = false;
  /** Session id at the gateway, included in media URLs. */
  #session: string | null = null;
  #visible = true;
  /** Number of consecutive control channels that ended before they received a message. */
  #controlLosses = 0;
  #transferred = { bytes: 0, ms: 0 };
  #maxQueueingDelay = 0;
  #state: DirectorState;

  constructor(env: DirectorEnv, sink: DirectorSink) {
    this.#env = env;
    this.#sink = sink;
    this.#current = this.#stage("first");
    this.#standby = this.#stage("second");
    this.#state = this.#buildState();
  }

  get state(): DirectorState {
    return this.#state;
  }

  /** Selects what to play. Selecting the same again has no effect. */
  select(selection: DirectorSelection): void {
    const same =
      selection.base?.href === this.#selection.base?.href &&
      selection.transport === this.#selection.transport &&
      selection.rendition === this.#selection.rendition &&
      selection.problem === this.#selection.problem;
    if (same) return;
    const sameStream = selection.base !== null && selection.base.href === this.#selection.base?.href;
    this.#selection = selection;
    if (sameStream && selection.problem === undefined && this.#pin()) return;
    this.#disconnect();
    this.#moved = null;
    if (!sameStream) this.#failures.clear();
    if (selection.base === null || selection.problem !== undefined) {
      this.#current.session.stop();
      this.#emit();
    } else {
      this.#start(selection.base);
    }
  }

  /** Asks the gateway to move to the viewer's selection, make-before-break. Returns false if that is not possible. */
  #pin(): boolean {
    const { transport, rendition } = this.#selection;
    const chosen = transport === "auto" ? null : transport;
    if (this.#control === null || this.#reported === null || (chosen !== null && !this.#playable().includes(chosen))) return false;
    const free = chosen === null && rendition === null;
    this.#pinPending = true;
    this.#control.pin(free ? null : { ...(chosen !== null && { transport: chosen }), ...(rendition !== null && { rendition }) });
    return true;
  }

  /**
   * Sends the viewer's selection again if something else plays: the move was for a session that has ended, or arrived
   * while the page was hidden.
   */
  #repeatPin(): void {
    const { transport, rendition } = this.#selection;
    const playing = this.#reported;
    if (playing === null || this.#forced || (transport !== "auto" && this.#failures.has(transport))) return;
    if ((transport === "auto" || transport === playing.transport) && (rendition === null || rendition === playing.rendition)) return;
    this.#pin();
  }

  setVisible(visible: boolean): void {
    const becameVisible = visible && !this.#visible;
    this.#visible = visible;
    if (!visible) this.#cancelMove();
    this.#current.session.setVisible(visible);
    this.#standby.session.setVisible(visible);
    if (becameVisible) this.#repeatPin();
  }

  /** Whether the viewer has turned audio on; the gateway then prefers transports that carry it. */
  setListening(listening: boolean): void {
    this.#listening = listening;
  }

  /** The network is back: retries immediately instead of waiting. */
  retryNow(): void {
    this.#current.session.retryNow();
  }

  /** Closes all connections; `select` starts again. */
  stop(): void {
    this.#selection = { base: null, transport: "auto", rendition: null };
    this.#disconnect();
    this.#current.session.stop();
  }

  /** Reports playback statistics to the gateway. Call once a second. */
  report(stats: PlaybackStats): void {
    const { bytes, ms } = this.#transferred;
    const queueingDelay = this.#maxQueueingDelay;
    this.#maxQueueingDelay = 0;
    const goodput = bytes >= MIN_GOODPUT_BYTES ? (bytes * 8000) / Math.max(ms, 1) : null;
    if (goodput !== null) this.#transferred = { bytes: 0, ms: 0 };
    this.#control?.report({ ...stats, queued_ms: queueingDelay, goodput, network: this.#env.network(), listening: this.#listening });
  }

  #stage(name: StageName): Stage {
    const isCurrent = (): boolean => this.#current.name === name;
    const session = this.#env.session(name, {
      frame: (frame) => (isCurrent() ? this.#sink.frame(frame) : frame.close()),
      displayed: (frame) => isCurrent() && this.#sink.displayed(frame),
      bytes: (count) => isCurrent() && this.#sink.bytes(count),
      dropped: (count) => isCurrent() && this.#sink.dropped(count),
      bandwidthSample: (bytes, ms) => {
        this.#transferred = { bytes: this.#transferred.bytes + bytes, ms: this.#transferred.ms + ms };
      },
      queueingDelay: (ms) => {
        if (isCurrent()) this.#maxQueueingDelay = Math.max(this.#maxQueueingDelay, ms);
      },
      changed: (state) => this.#changed(name, state),
    });
    return { name, session, target: null };
  }

  /**
   * Asks the gateway for a choice. If the browser cannot play the viewer's selection, the session chooses a fallback
   * by itself.
   */
  #start(base: URL): void {
    const { transport } = this.#selection;
    const can = this.#playable();
    if (transport !== "auto" && !can.includes(transport)) {
      this.#playUnassisted(base);
      return;
    }
    // A gateway that does not answer this request may still serve media, and the session reports what is wrong.
    this.#requestChoice(base, (choice) => this.#applyChoice(choice), () => this.#playUnassisted(base));
  }

  /** Requests a choice from the gateway. Exactly one of the callbacks runs, unless another selection is made first. */
  #requestChoice(base: URL, then: (choice: Choice) => void, otherwise: () => void): void {
    const controller = new AbortController();
    this.#request = controller;
    const settle = (next: () => void): void => {
      cancel();
      if (this.#request !== controller) return;
      this.#request = null;
      next();
    };
    const cancel = this.#env.timer(() => {
      settle(otherwise);
      controller.abort();
    }, RESPONSE_TIMEOUT_MS);
    controller.signal.addEventListener("abort", cancel);
    this.#env.choose(base, this.#choiceRequest(), controller.signal).then(
      (choice) => settle(() => then(choice)),
      () => settle(otherwise),
    );
  }

  #choiceRequest(): ChoiceRequest {
    const { transport, rendition } = this.#selection;
    const pinned = transport === "auto" ? null : transport;
    return { can: this.#playable(), transport: pinned, rendition, network: this.#env.network(), listening: this.#listening };
  }

  #applyChoice(choice: Choice): void {
    this.#pattern = choice.pattern;
    const name = this.#known(choice.transport);
    if (name === null) {
      if (this.#selection.base !== null) this.#playUnassisted(this.#selection.base);
      return;
    }
    this.#reason = choice.reason;
    this.#current.target = { transport: name, rendition: choice.rendition };
    this.#openControl(choice.session);
    this.#watchStart(this.#current.target);
    this.#session = choice.session.pathname.split("/").pop() ?? null;
    this.#play(this.#current, choice.base, name);
    this.#emit();
  }

  /** Plays a target as given, without adaptive rendition switching. */
  #play(stage: Stage, base: URL, transport: TransportName): void {
    stage.session.select({ base: this.#withSession(base, transport), transport, singleRendition: true });
  }

  /** The name if it is one of a transport that this player knows. */
  #known(name: string): TransportName | null {
    return this.#env.names().includes(name) ? name : null;
  }

  #playable(): TransportName[] {
    return this.#env.names().filter((name) => this.#env.obstacle(name) === null);
  }

  /** Reasons why the transports preferred over `chosen` are not used, joined to one text. */
  #reasonsAgainst(chosen: string): string {
    const preferred = this.#env.names().slice(0, Math.max(0, this.#env.names().indexOf(chosen)));
    const reasons = preferred.map((name) => this.#failures.get(name) ?? this.#env.obstacle(name)).filter((reason) => reason !== null);
    return [...new Set(reasons)].join("; ");
  }

  /**
   * Adds the session id, so that the gateway can attribute the connection. Playlists stay without it: they are the
   * same for all viewers and should be cacheable under one URL.
   */
  #withSession(base: URL, transport: TransportName): URL {
    const url = new URL(base);
    if (this.#session !== null && !CACHEABLE.has(transport)) url.searchParams.set("session", this.#session);
    return url;
  }

  /** Plays without a choice by the gateway. */
  #playUnassisted(base: URL): void {
    this.#reason = "";
    this.#current.target = null;
    this.#current.session.select({ base, transport: this.#selection.transport });
    this.#emit();
  }

  #watchStart(target: PlaybackTarget): void {
    this.#cancelTimer = this.#env.timer(() => {
      if (this.#visible) this.#startFailed(target);
    }, START_MS);
  }

  /** The initial choice has displayed no frame in time: reports it as failed. */
  #startFailed(target: PlaybackTarget): void {
    if (this.#current.target !== target || this.#reported !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#control?.failed(target);
  }

  #openControl(url: URL): void {
    this.#control?.close();
    this.#control = this.#env.openControl(url, {
      move: (move) => this.#move(move),
      choices: (offer) => {
        this.#controlLosses = 0;
        this.#pinPending = false;
        this.#candidates = offer.candidates;
        this.#forced = offer.forced;
        this.#streamHasAudio = offer.hasAudio;
        this.#prepare();
        this.#sink.choices(offer);
        this.#emit();
      },
      refused: () => this.#selectionRefused(),
      lost: () => this.#controlLost(),
    });
  }

  /** The gateway refused the selection: requests a new choice, whose answer contains the reason. */
  #selectionRefused(): void {
    const { base } = this.#selection;
    if (base === null || !this.#pinPending) return;
    this.#disconnect();
    this.#start(base);
  }

  /** Playback continues; requests a new session, which may lead to another choice. */
  #controlLost(): void {
    this.#control = null;
    const base = this.#selection.base;
    if (base === null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = this.#env.timer(() => {
      const follow = (choice: Choice): void => {
        const target = this.#reported;
        const { phase } = this.#current.session.state;
        // The gateway answers HTTP, but neither a WebSocket nor media gets through: some proxy blocks it, so the
        // session tries the transports in turn.
        if (target === null && (phase === "waiting" || phase === "connecting")) this.#playUnassisted(base);
        this.#session = choice.session.pathname.split("/").pop() ?? null;
        this.#openControl(choice.session);
        // The new session has to be informed of what plays already.
        this.#reported = null;
        if (target !== null) this.#reportPlaying(target);
        this.#repeatPin();
      };
      this.#requestChoice(base, follow, () => this.#controlLost());
    }, Math.min(RETRY_LIMIT_MS, RETRY_MS * 2 ** this.#controlLosses));
    this.#controlLosses++;
  }

  #move(move: Move): void {
    const name = this.#known(move.transport);
    if (!this.#visible || this.#selection.base === null) return;
    if (name === null) {
      this.#control?.failed(move);
      return;
    }
    if (this.#pending !== null && sameTarget(this.#pending.move, move)) return;
    this.#cancelMove();
    if (this.#current.target !== null && sameTarget(this.#current.target, move)) return;
    if (this.#current.session.state.phase !== "playing" && this.#current.session.state.phase !== "silent") {
      if (this.#failures.has(name)) {
        // This transport has just been tried and failed.
        this.#control?.failed(move);
        return;
      }
      // Nothing is displayed that must be preserved, so the visible stage switches directly.
      this.#reason = move.reason;
      this.#current.target = { transport: name, rendition: move.rendition };
      this.#play(this.#current, move.base, name);
      this.#emit();
      return;
    }
    const stage = this.#standby;
    stage.target = { transport: name, rendition: move.rendition };
    const cancel = this.#env.timer(() => this.#moveFailed(), move.timeoutMs);
    this.#pending = { stage, move, since: this.#env.now(), cancel };
    if (move.makesWay) this.#current.session.throttle(true);
    this.#play(stage, move.base, name);
  }

  /** The pending move displayed no frame in time. */
  #moveFailed(): void {
    const target = this.#pending?.stage.target;
    this.#cancelMove();
    if (target) this.#control?.failed(target);
  }

  #cancelMove(): void {
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    pending.cancel();
    pending.stage.session.stop();
    pending.stage.target = null;
    if (pending.move.makesWay) this.#current.session.throttle(false);
  }

  #changed(name: StageName, state: SessionState): void {
    if (this.#current !== undefined) this.#rememberFailures(name === this.#current.name ? this.#current : this.#standby, state);
    const pending = this.#pending;
    if (pending?.stage.name === name) {
      const expected = pending.stage.target?.transport;
      if (state.phase === "waiting" || state.phase === "blocked" || (state.transport !== null && state.transport !== expected)) {
        this.#moveFailed();
      } else if (state.phase === "playing") {
        this.#completeMove(pending);
      }
      return;
    }
    if (this.#current?.name !== name) return;
    const { target } = this.#current;
    if (target !== null && state.transport !== null && state.transport !== target.transport) {
      // The browser turned out not to support it, and the session fell back.
      this.#control?.failed(target);
      this.#current.target = { ...target, transport: state.transport };
      this.#reason = "";
    }
    if (state.phase === "playing" && this.#current.target !== null) this.#reportPlaying(this.#current.target);
    // Without a control channel this timer is the one that requests a new session, so it must not be cancelled.
    if (state.phase === "waiting" && this.#control !== null && this.#cancelTimer !== null && target !== null) this.#startFailed(target);
    this.#emit();
  }

  /** Keeps the failures found by a stage's session, which forgets them with its next transport. */
  #rememberFailures({ session }: Stage, { phase, transport }: SessionState): void {
    for (const [name, reason] of session.obstacles) this.#failures.set(name, reason);
    if (phase === "playing" && transport !== null) this.#failures.delete(transport);
  }

  #completeMove(pending: Pending): void {
    pending.cancel();
    this.#pending = null;
    const [old, next] = [this.#current, pending.stage];
    const to = next.target ?? pending.move;
    this.#moved = {
      from: this.#reported ?? to,
      to,
      reason: pending.move.reason,
      at: Date.now(),
      tookMs: this.#env.now() - pending.since,
    };
    this.#reason = pending.move.reason;
    [this.#current, this.#standby] = [next, old];
    old.session.stop();
    old.target = null;
    this.#sink.swapped(next.name);
    this.#reportPlaying(to);
    this.#emit();
  }

  #reportPlaying(target: PlaybackTarget): void {
    if (this.#reported !== null && sameTarget(this.#reported, target)) return;
    this.#reported = target;
    this.#control?.playing(target);
    this.#prepare();
  }

  /** Once playback is running there is time to prepare for a later move. */
  #prepare(): void {
    if (this.#reported === null || this.#selection.transport !== "auto") return;
    const names = new Set(this.#candidates.map(({ transport }) => this.#known(transport)));
    for (const name of names) if (name !== null) this.#env.prepare(name);
  }

  #disconnect(): void {
    this.#request?.abort();
    this.#request = null;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#cancelMove();
    this.#control?.close();
    this.#control = null;
    this.#reported = null;
    this.#session = null;
    this.#pinPending = false;
    this.#candidates = [];
    this.#forced = false;
    this.#streamHasAudio = false;
    this.#pattern = false;
    this.#reason = "";
    this.#current.target = null;
  }

  #buildState(): DirectorState {
    const target = this.#current.target;
    const state = this.#current.session.state;
    const chosen = target !== null && this.#selection.transport === "auto" ? this.#reasonsAgainst(target.transport) : "";
    const fallback = state.fallback === "" ? chosen : state.fallback;
    const names = this.#candidates.filter(({ hasAudio, transport }) => hasAudio && transport !== state.transport).map(({ transport }) => this.#known(transport));
    const labels = [...new Set(names)].filter((name) => name !== null).map((name) => this.#env.label(name));
    const { problem } = this.#selection;
    return {
      ...state,
      ...(problem !== undefined && { phase: "unplayable", reason: problem }),
      fallback,
      rendition: target?.rendition ?? "",
      why: this.#reason,
      moved: this.#moved,
      streamHasAudio: this.#streamHasAudio || state.hasAudio,
      audioTransports: labels.join(", "),
      pattern: this.#pattern,
    };
  }

  #emit(): void {
    const next = this.#buildState();
    const names = Object.keys(next) as (keyof DirectorState)[];
    if (names.every((name) => next[name] === this.#state[name])) return;
    this.#state = next;
    this.#sink.changed(next);
  }
}

function sameTarget(one: PlaybackTarget, other: PlaybackTarget): boolean {
  return one.transport === other.transport && one.rendition === other.rendition;
}
