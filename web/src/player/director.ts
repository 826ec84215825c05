// Who plays what when: asks the gateway, attends to the session there, and moves as it is told, make before break. Two stages
// take turns: what is new plays behind the one that is seen until it has a picture. No DOM.

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
  /** What it was told to play; null where the gateway has no say. */
  form: Form | null;
}

interface Pending {
  readonly stage: Stage;
  readonly move: Move;
  readonly since: number;
  readonly cancel: () => void;
}

/** Fewer bytes do not tell what the link carries; they are added to those that come later. */
const ENOUGH = 15_000;
/** The first choice is given so long for its first picture. */
const START_MS = 8000;
/** A gateway that forgot the session, or a control channel that did not open, is asked again after this, later and later. */
const AGAIN_MS = 5000;
const AGAIN_LIMIT_MS = 60_000;

/** Of one player; `want` begins, `stop` ends. */
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
  /** What was found out by trying against transports, for as long as the same stream is wanted. */
  readonly #found = new Map<TransportName, string>();
  /** A choice by hand was told and not answered yet. */
  #pinning = false;
  /** What the gateway may have played. */
  #offered: readonly Offered[] = [];
  /** The gateway's config leaves no choice. */
  #forced = false;
  /** The stream has sound, by the gateway's word. */
  #hasSound = false;
  /** It is the test pattern, by the gateway's word. */
  #pattern = false;
  #listening = false;
  /** The id of the session at the gateway, which pictures' addresses carry. */
  #session: string | null = null;
  #visible = true;
  /** Control channels that ended before they said anything, in a row. */
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

  /** Plays this from now on. The same again changes nothing. */
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

  /** Has the gateway move what plays to what was chosen by hand, make before break. False where there is no such way. */
  #pin(): boolean {
    const { transport, rendition } = this.#wanted;
    const chosen = transport === "auto" ? null : transport;
    if (this.#control === null || this.#told === null || (chosen !== null && !this.#can().includes(chosen))) return false;
    const free = chosen === null && rendition === null;
    this.#pinning = true;
    this.#control.pin(free ? null : { ...(chosen !== null && { transport: chosen }), ...(rendition !== null && { rendition }) });
    return true;
  }

  /** What plays is not what was chosen by hand: the move was for a session that is over, or came while nothing could move. */
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

  /** Whether somebody has turned the sound on: the gateway then prefers what carries it. */
  setListening(listening: boolean): void {
    this.#listening = listening;
  }

  /** The network is said to be back: does not wait any longer. */
  hurry(): void {
    this.#seen.session.hurry();
  }

  /** Closes what is open; `want` begins anew. */
  stop(): void {
    this.#wanted = { base: null, transport: "auto", rendition: null };
    this.#leave();
    this.#seen.session.stop();
  }

  /** To be called once a second: tells the gateway how it went. */
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

  /** Asks the gateway, unless the browser cannot play what was chosen by hand: then the session says what plays instead. */
  #begin(base: URL): void {
    const { transport } = this.#wanted;
    const can = this.#can();
    if (transport !== "auto" && !can.includes(transport)) {
      this.#alone(base);
      return;
    }
    // Who does not answer this may still serve, and says itself what is wrong.
    this.#ask(base, (choice) => this.#follow(choice), () => this.#alone(base));
  }

  /** Asks the gateway what is to be played. One of the two follows, unless something else is wanted by then. */
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

  /** In this rendition and no other, as the gateway said. */
  #play(stage: Stage, base: URL, transport: TransportName): void {
    stage.session.want({ base: this.#named(base, transport), transport, only: true });
  }

  #can(): TransportName[] {
    return TRANSPORTS.filter((name) => this.#env.obstacle(name) === null);
  }

  /** What is against those that come before what was chosen among what can be played. */
  #against(chosen: string): string {
    const better = TRANSPORTS.slice(0, Math.max(0, TRANSPORTS.findIndex((name) => name === chosen)));
    const against = better.map((name) => this.#found.get(name) ?? this.#env.obstacle(name)).filter((reason) => reason !== null);
    return [...new Set(against)].join("; ");
  }

  /** So that the gateway knows whose pictures these are. A playlist is the same for everybody, and caches should know it. */
  #named(base: URL, transport: TransportName): URL {
    const url = new URL(base);
    if (this.#session !== null && transport !== "hls") url.searchParams.set("session", this.#session);
    return url;
  }

  /** As without a gateway that chooses. */
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

  /** What was chosen first gave no picture so far. */
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

  /** The gateway does not move there: it is asked anew, and says why. */
  #refused(): void {
    const { base } = this.#wanted;
    if (base === null || !this.#pinning) return;
    this.#leave();
    this.#begin(base);
  }

  /** What plays goes on; the gateway is asked for another session, and whether it would have something else played. */
  #lost(): void {
    this.#control = null;
    const base = this.#wanted.base;
    if (base === null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = this.#env.timer(() => {
      const follow = (choice: Choice): void => {
        const form = this.#told;
        const { phase } = this.#seen.session.state;
        // The gateway answers, but no WebSocket gets through, nor pictures: a proxy, which is found a way past by trying.
        if (form === null && (phase === "waiting" || phase === "connecting")) this.#alone(base);
        this.#session = choice.session.pathname.split("/").pop() ?? null;
        this.#attend(choice.session);
        // The new one has to be told what plays already.
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
        // It was tried just now.
        this.#control?.failed(move);
        return;
      }
      // There is nothing to be kept on the screen.
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

  /** What is pending gave no picture. */
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
      // The browser could not play it after all.
      this.#control?.failed(form);
      this.#seen.form = { ...form, transport: state.transport };
      this.#why = "";
    }
    if (state.phase === "playing" && this.#seen.form !== null) this.#say(this.#seen.form);
    // Without a control channel the timer is the one that asks for another session.
    if (state.phase === "waiting" && this.#control !== null && this.#cancelTimer !== null && form !== null) this.#never(form);
    this.#tell();
  }

  /** Remembers what a stage found out, as it forgets that with its next transport. */
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

  /** Once something plays, there is time to get ready for a move. */
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
