// Decides which transport plays on which stage. It asks the gateway for a choice, keeps the control channel of the
// session open, and executes moves make-before-break: of two stages, one is visible, and the new transport plays on
// the hidden one until it has displayed a frame. `SluicegatePlayer` drives it; it drives two `Session`s and one
// `Control`. No DOM, so tests replace its environment.

import type { Asking, Choice, Form } from "../net/choice";
import type { Move, Offered } from "../net/control";
import { ANSWER_MS } from "../net/within";
import { LABELS, TRANSPORTS, type TransportName } from "../transport/names";
import type { ControlLike, DirectorEnv, DirectorSink, DirectorState, DirectorWanted, Figures, Moved, StageName } from "./direction";
import type { Session, SessionState } from "./session";

export type { Choices, DirectorEnv, DirectorSink, DirectorState, DirectorWanted, Figures, StageName } from "./direction";

interface Stage {
  readonly name: StageName;
  readonly session: Session;
  /** Form that was selected for this stage; null if the gateway did not choose. */
  form: Form | null;
}

interface Pending {
  readonly stage: Stage;
  readonly move: Move;
  readonly since: number;
  readonly cancel: () => void;
}

/** Minimum number of bytes for a goodput estimate; fewer are added to the next measurement. */
const ENOUGH = 15_000;
/** Time in ms that the initial choice has to display its first frame. */
const START_MS = 8000;
/**
 * Delay in ms before requesting a new session if the gateway forgot this one or the control channel did not open;
 * doubles each time up to the limit.
 */
const AGAIN_MS = 5000;
const AGAIN_LIMIT_MS = 60_000;

/** The director of one player. `want` starts playback, `stop` ends it. */
export class Director {
  readonly #env: DirectorEnv;
  readonly #sink: DirectorSink;
  #seen: Stage;
  #other: Stage;
  #wanted: DirectorWanted = { base: null, transport: "auto", rendition: null };
  #asking: AbortController | null = null;
  #control: ControlLike | null = null;
  #pending: Pending | null = null;
  #cancelTimer: (() => void) | null = null;
  #why = "";
  #moved: Moved | null = null;
  #told: Form | null = null;
  /** Failures found by trying transports, with their reasons; kept while the same stream is selected. */
  readonly #found = new Map<TransportName, string>();
  /** A selection by the viewer was sent and is not answered yet. */
  #pinning = false;
  /** Forms that the gateway offers for this session. */
  #offered: readonly Offered[] = [];
  /** The gateway's config allows only one transport. */
  #forced = false;
  /** Whether the stream has audio, according to the gateway. */
  #hasSound = false;
  /** Whether the stream is the test pattern, according to the gateway. */
  #pattern = false;
  #listening = false;
  /** Session id at the gateway, included in media URLs. */
  #session: string | null = null;
  #visible = true;
  /** Number of consecutive control channels that ended before they received a message. */
  #losses = 0;
  #carried = { bytes: 0, ms: 0 };
  #queued = 0;
  #state: DirectorState;

  constructor(env: DirectorEnv, sink: DirectorSink) {
    this.#env = env;
    this.#sink = sink;
    this.#seen = this.#stage("first");
    this.#other = this.#stage("second");
    this.#state = this.#read();
  }

  get state(): DirectorState {
    return this.#state;
  }

  /** Selects what to play. Selecting the same again has no effect. */
  want(wanted: DirectorWanted): void {
    const same =
      wanted.base?.href === this.#wanted.base?.href &&
      wanted.transport === this.#wanted.transport &&
      wanted.rendition === this.#wanted.rendition;
    if (same) return;
    const goesOn = wanted.base !== null && wanted.base.href === this.#wanted.base?.href;
    this.#wanted = wanted;
    if (goesOn && this.#pin()) return;
    this.#leave();
    this.#moved = null;
    if (!goesOn) this.#found.clear();
    if (wanted.base === null) {
      this.#seen.session.stop();
      this.#tell();
    } else {
      this.#begin(wanted.base);
    }
  }

  /** Asks the gateway to move to the viewer's selection, make-before-break. Returns false if that is not possible. */
  #pin(): boolean {
    const { transport, rendition } = this.#wanted;
    const chosen = transport === "auto" ? null : transport;
    if (this.#control === null || this.#told === null || (chosen !== null && !this.#can().includes(chosen))) return false;
    const free = chosen === null && rendition === null;
    this.#pinning = true;
    this.#control.pin(free ? null : { ...(chosen !== null && { transport: chosen }), ...(rendition !== null && { rendition }) });
    return true;
  }

  /**
   * Sends the viewer's selection again if something else plays: the move was for a session that has ended, or arrived
   * while the page was hidden.
   */
  #pinAgain(): void {
    const { transport, rendition } = this.#wanted;
    const told = this.#told;
    if (told === null || this.#forced || (transport !== "auto" && this.#found.has(transport))) return;
    if ((transport === "auto" || transport === told.transport) && (rendition === null || rendition === told.rendition)) return;
    this.#pin();
  }

  setVisible(visible: boolean): void {
    const shown = visible && !this.#visible;
    this.#visible = visible;
    if (!visible) this.#drop();
    this.#seen.session.setVisible(visible);
    this.#other.session.setVisible(visible);
    if (shown) this.#pinAgain();
  }

  /** Whether the viewer has turned audio on; the gateway then prefers transports that carry it. */
  setListening(listening: boolean): void {
    this.#listening = listening;
  }

  /** The network is back: retries immediately instead of waiting. */
  hurry(): void {
    this.#seen.session.hurry();
  }

  /** Closes all connections; `want` starts again. */
  stop(): void {
    this.#wanted = { base: null, transport: "auto", rendition: null };
    this.#leave();
    this.#seen.session.stop();
  }

  /** Reports playback statistics to the gateway. Call once a second. */
  report(figures: Figures): void {
    const { bytes, ms } = this.#carried;
    const queued = this.#queued;
    this.#queued = 0;
    const goodput = bytes >= ENOUGH ? (bytes * 8000) / Math.max(ms, 1) : null;
    if (goodput !== null) this.#carried = { bytes: 0, ms: 0 };
    this.#control?.report({ ...figures, queued_ms: queued, goodput, network: this.#env.network(), listening: this.#listening });
  }

  #stage(name: StageName): Stage {
    const mine = (): boolean => this.#seen.name === name;
    const session = this.#env.session(name, {
      picture: (picture) => (mine() ? this.#sink.picture(picture) : picture.close()),
      shown: (shown) => mine() && this.#sink.shown(shown),
      bytes: (count) => mine() && this.#sink.bytes(count),
      dropped: (count) => mine() && this.#sink.dropped(count),
      carried: (bytes, ms) => {
        this.#carried = { bytes: this.#carried.bytes + bytes, ms: this.#carried.ms + ms };
      },
      queued: (ms) => {
        if (mine()) this.#queued = Math.max(this.#queued, ms);
      },
      changed: (state) => this.#changed(name, state),
    });
    return { name, session, form: null };
  }

  /**
   * Asks the gateway for a choice. If the browser cannot play the viewer's selection, the session chooses a fallback
   * by itself.
   */
  #begin(base: URL): void {
    const { transport } = this.#wanted;
    const can = this.#can();
    if (transport !== "auto" && !can.includes(transport)) {
      this.#alone(base);
      return;
    }
    // A gateway that does not answer this request may still serve media, and the session reports what is wrong.
    this.#ask(base, (choice) => this.#follow(choice), () => this.#alone(base));
  }

  /** Requests a choice from the gateway. Exactly one of the callbacks runs, unless another selection is made first. */
  #ask(base: URL, then: (choice: Choice) => void, otherwise: () => void): void {
    const asking = new AbortController();
    this.#asking = asking;
    const settle = (next: () => void): void => {
      cancel();
      if (this.#asking !== asking) return;
      this.#asking = null;
      next();
    };
    const cancel = this.#env.timer(() => {
      settle(otherwise);
      asking.abort();
    }, ANSWER_MS);
    asking.signal.addEventListener("abort", cancel);
    this.#env.choose(base, this.#asked(), asking.signal).then(
      (choice) => settle(() => then(choice)),
      () => settle(otherwise),
    );
  }

  #asked(): Asking {
    const { transport, rendition } = this.#wanted;
    const pinned = transport === "auto" ? null : transport;
    return { can: this.#can(), transport: pinned, rendition, network: this.#env.network(), listening: this.#listening };
  }

  #follow(choice: Choice): void {
    this.#pattern = choice.pattern;
    const name = known(choice.transport);
    if (name === null) {
      if (this.#wanted.base !== null) this.#alone(this.#wanted.base);
      return;
    }
    this.#why = choice.reason;
    this.#seen.form = { transport: name, rendition: choice.rendition };
    this.#attend(choice.session);
    this.#watchStart(this.#seen.form);
    this.#session = choice.session.pathname.split("/").pop() ?? null;
    this.#play(this.#seen, choice.base, name);
    this.#tell();
  }

  /** Plays a form as given, without adaptive rendition switching. */
  #play(stage: Stage, base: URL, transport: TransportName): void {
    stage.session.want({ base: this.#named(base, transport), transport, only: true });
  }

  #can(): TransportName[] {
    return TRANSPORTS.filter((name) => this.#env.obstacle(name) === null);
  }

  /** Reasons why the transports preferred over `chosen` are not used, joined to one text. */
  #against(chosen: string): string {
    const better = TRANSPORTS.slice(0, Math.max(0, TRANSPORTS.findIndex((name) => name === chosen)));
    const against = better.map((name) => this.#found.get(name) ?? this.#env.obstacle(name)).filter((reason) => reason !== null);
    return [...new Set(against)].join("; ");
  }

  /**
   * Adds the session id, so that the gateway can attribute the connection. Playlists stay without it: they are the
   * same for all viewers and should be cacheable under one URL.
   */
  #named(base: URL, transport: TransportName): URL {
    const url = new URL(base);
    if (this.#session !== null && transport !== "hls") url.searchParams.set("session", this.#session);
    return url;
  }

  /** Plays without a choice by the gateway. */
  #alone(base: URL): void {
    this.#why = "";
    this.#seen.form = null;
    this.#seen.session.want({ base, transport: this.#wanted.transport });
    this.#tell();
  }

  #watchStart(form: Form): void {
    this.#cancelTimer = this.#env.timer(() => {
      if (this.#visible) this.#never(form);
    }, START_MS);
  }

  /** The initial choice has displayed no frame in time: reports it as failed. */
  #never(form: Form): void {
    if (this.#seen.form !== form || this.#told !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#control?.failed(form);
  }

  #attend(url: URL): void {
    this.#control?.close();
    this.#control = this.#env.attend(url, {
      move: (move) => this.#move(move),
      choices: (offer) => {
        this.#losses = 0;
        this.#pinning = false;
        this.#offered = offer.offered;
        this.#forced = offer.forced;
        this.#hasSound = offer.sound;
        this.#prepare();
        this.#sink.choices(offer);
        this.#tell();
      },
      refused: () => this.#refused(),
      lost: () => this.#lost(),
    });
  }

  /** The gateway refused the selection: requests a new choice, whose answer contains the reason. */
  #refused(): void {
    const { base } = this.#wanted;
    if (base === null || !this.#pinning) return;
    this.#leave();
    this.#begin(base);
  }

  /** Playback continues; requests a new session, which may lead to another choice. */
  #lost(): void {
    this.#control = null;
    const base = this.#wanted.base;
    if (base === null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = this.#env.timer(() => {
      const follow = (choice: Choice): void => {
        const form = this.#told;
        const { phase } = this.#seen.session.state;
        // The gateway answers HTTP, but neither a WebSocket nor media gets through: some proxy blocks it, so the
        // session tries the transports in turn.
        if (form === null && (phase === "waiting" || phase === "connecting")) this.#alone(base);
        this.#session = choice.session.pathname.split("/").pop() ?? null;
        this.#attend(choice.session);
        // The new session has to be informed of what plays already.
        this.#told = null;
        if (form !== null) this.#say(form);
        this.#pinAgain();
      };
      this.#ask(base, follow, () => this.#lost());
    }, Math.min(AGAIN_LIMIT_MS, AGAIN_MS * 2 ** this.#losses));
    this.#losses++;
  }

  #move(move: Move): void {
    const name = known(move.transport);
    if (!this.#visible || this.#wanted.base === null) return;
    if (name === null) {
      this.#control?.failed(move);
      return;
    }
    if (this.#pending !== null && same(this.#pending.move, move)) return;
    this.#drop();
    if (this.#seen.form !== null && same(this.#seen.form, move)) return;
    if (this.#seen.session.state.phase !== "playing" && this.#seen.session.state.phase !== "silent") {
      if (this.#found.has(name)) {
        // This transport has just been tried and failed.
        this.#control?.failed(move);
        return;
      }
      // Nothing is displayed that must be preserved, so the visible stage switches directly.
      this.#why = move.reason;
      this.#seen.form = { transport: name, rendition: move.rendition };
      this.#play(this.#seen, move.base, name);
      this.#tell();
      return;
    }
    const stage = this.#other;
    stage.form = { transport: name, rendition: move.rendition };
    const cancel = this.#env.timer(() => this.#fail(), move.timeoutMs);
    this.#pending = { stage, move, since: this.#env.now(), cancel };
    if (move.makesWay) this.#seen.session.rest(true);
    this.#play(stage, move.base, name);
  }

  /** The pending move displayed no frame in time. */
  #fail(): void {
    const form = this.#pending?.stage.form;
    this.#drop();
    if (form) this.#control?.failed(form);
  }

  #drop(): void {
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    pending.cancel();
    pending.stage.session.stop();
    pending.stage.form = null;
    if (pending.move.makesWay) this.#seen.session.rest(false);
  }

  #changed(name: StageName, state: SessionState): void {
    if (this.#seen !== undefined) this.#learn(name === this.#seen.name ? this.#seen : this.#other, state);
    const pending = this.#pending;
    if (pending?.stage.name === name) {
      const asked = pending.stage.form?.transport;
      if (state.phase === "waiting" || state.phase === "blocked" || (state.transport !== null && state.transport !== asked)) {
        this.#fail();
      } else if (state.phase === "playing") {
        this.#turn(pending);
      }
      return;
    }
    if (this.#seen?.name !== name) return;
    const { form } = this.#seen;
    if (form !== null && state.transport !== null && state.transport !== form.transport) {
      // The browser turned out not to support it, and the session fell back.
      this.#control?.failed(form);
      this.#seen.form = { ...form, transport: state.transport };
      this.#why = "";
    }
    if (state.phase === "playing" && this.#seen.form !== null) this.#say(this.#seen.form);
    // Without a control channel this timer is the one that requests a new session, so it must not be cancelled.
    if (state.phase === "waiting" && this.#control !== null && this.#cancelTimer !== null && form !== null) this.#never(form);
    this.#tell();
  }

  /** Keeps the failures found by a stage's session, which forgets them with its next transport. */
  #learn({ session }: Stage, { phase, transport }: SessionState): void {
    for (const [name, reason] of session.obstacles) this.#found.set(name, reason);
    if (phase === "playing" && transport !== null) this.#found.delete(transport);
  }

  #turn(pending: Pending): void {
    pending.cancel();
    this.#pending = null;
    const [old, next] = [this.#seen, pending.stage];
    const to = next.form ?? pending.move;
    this.#moved = {
      from: this.#told ?? to,
      to,
      reason: pending.move.reason,
      at: Date.now(),
      tookMs: this.#env.now() - pending.since,
    };
    this.#why = pending.move.reason;
    [this.#seen, this.#other] = [next, old];
    old.session.stop();
    old.form = null;
    this.#sink.turned(next.name);
    this.#say(to);
    this.#tell();
  }

  #say(form: Form): void {
    if (this.#told !== null && same(this.#told, form)) return;
    this.#told = form;
    this.#control?.playing(form);
    this.#prepare();
  }

  /** Once playback is running there is time to prepare for a later move. */
  #prepare(): void {
    if (this.#told === null || this.#wanted.transport !== "auto") return;
    const names = new Set(this.#offered.map(({ transport }) => known(transport)));
    for (const name of names) if (name !== null) this.#env.prepare(name);
  }

  #leave(): void {
    this.#asking?.abort();
    this.#asking = null;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#drop();
    this.#control?.close();
    this.#control = null;
    this.#told = null;
    this.#session = null;
    this.#pinning = false;
    this.#offered = [];
    this.#forced = false;
    this.#hasSound = false;
    this.#pattern = false;
    this.#why = "";
    this.#seen.form = null;
  }

  #read(): DirectorState {
    const form = this.#seen.form;
    const state = this.#seen.session.state;
    const chosen = form !== null && this.#wanted.transport === "auto" ? this.#against(form.transport) : "";
    const fallback = state.fallback === "" ? chosen : state.fallback;
    const names = this.#offered.filter(({ sound }) => sound).map(({ transport }) => known(transport));
    const carriers = [...new Set(names)].filter((name) => name !== null).map((name) => LABELS[name]);
    return {
      ...state,
      fallback,
      rendition: form?.rendition ?? "",
      why: this.#why,
      moved: this.#moved,
      hasSound: this.#hasSound || state.sound,
      carriers: carriers.join(", "),
      pattern: this.#pattern,
    };
  }

  #tell(): void {
    const next = this.#read();
    const names = Object.keys(next) as (keyof DirectorState)[];
    if (names.every((name) => next[name] === this.#state[name])) return;
    this.#state = next;
    this.#sink.changed(next);
  }
}

function known(name: string): TransportName | null {
  return TRANSPORTS.find((known) => known === name) ?? null;
}

function same(one: Form, other: Form): boolean {
  return one.transport === other.transport && one.rendition === other.rendition;
}
