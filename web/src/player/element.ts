// <sluicegate-player stream="demo" src="https://gateway" transport="auto|webcodecs|nal|mse|hls|mjpeg|NAME" stats>: plays one stream
// while the element is in the document and the page is visible. It connects the parts: `PlayerView` (DOM), `Painter`
// and `VideoScreen` (output), `ElementScreen` (transports that bring their player), `Director` (decisions), `StatsCollector`
// (statistics).
//
// Attributes: `stream`, the stream's name; `src`, the gateway's URL, by default the one of this script. Without
// `stream`, `src` is the stream's base path, such as `/live/demo`. `transport`, by default `auto`: the transport that
// the gateway's config and policy choose, or, without an answer, the first one that works. `stats`: if present,
// statistics are displayed.
// Properties: the same, `muted`, and `stats` of type `Stats` (the property of the attribute is `showStats`).
// Methods: `readNumber()`, `readClock()`: the block code of the displayed frame.
// Events: `sluicegate-transports` (detail: TransportOption[]) when it is known what can be played, `sluicegate-muted` (detail: boolean) when audio is turned on or off, `sluicegate-state` (detail:
// DirectorState) at every change, `sluicegate-choices` (detail: Choices), `sluicegate-stats` (detail: Stats) once a
// second.

import { type HalfEntry, fetchHalves, fetchTransports } from "../half/list";
import { LIST_TIMEOUT_MS, halfObstacle, openHalf } from "../half/player";
import { ElementScreen } from "./element_screen";
import { age } from "../media/block_code";
import { ApiError } from "../net/api";
import { Backoff } from "../net/backoff";
import { type Choice, type ChoiceRequest, fetchChoice, networkType } from "../net/choice";
import { Control } from "../net/control";
import { GATEWAY } from "../net/gateway";
import { ServerClock } from "../net/server_clock";
import { withTimeout } from "../net/timeout";
import { hlsObstacle, openHls, prepareHls } from "../transport/hls";
import { openMjpeg } from "../transport/mjpeg";
import { mseObstacle, openMse } from "../transport/mse";
import { openNal } from "../transport/nal";
import { noteOffer } from "../transport/endpoints";
import { type BuiltInName, LABELS, TRANSPORTS, type TransportName, isBuiltIn } from "../transport/names";
import { unreachable } from "../transport/refusal";
import type { DisplayedFrame, Opener } from "../transport/transport";
import { VideoScreen, hasBeenActive } from "../transport/video";
import { webCodecsObstacle } from "../transport/video_decoder";
import { openWebCodecs } from "../transport/webcodecs";
import { clockUrl, NO_RENDITION, streamBase } from "./address";
import { type BlockCode, BlockCodeReader } from "./block_code_reader";
import { Director, type DirectorState, type StageName } from "./director";
import { Painter } from "./painter";
import { Session, type SessionSink, type TransportPlayer } from "./session";
import { StallMeter } from "./stall_meter";
import { type Stats, StatsCollector } from "./stats";
import { PlayerView, type ScreenName } from "./view";

const TICK_MS = 1000;
const READ_CODE_INTERVAL_MS = 500;

/** A transport that can be selected, with its name for people. */
export interface TransportOption {
  readonly name: TransportName;
  readonly label: string;
}

/** A transport whose component brings its player. */
interface KnownHalf extends TransportOption {
  /** Why this browser cannot play it, or null if it can. */
  readonly obstacle: string | null;
}

/** The custom element; its attributes and events are documented at the top of this file. */
export class SluicegatePlayer extends HTMLElement {
  static readonly observedAttributes = ["src", "stream", "transport", "rendition", "stats"];

  readonly #view: PlayerView;
  readonly #painter: Painter;
  readonly #videos: Readonly<Record<StageName, VideoScreen>>;
  readonly #elementScreens: Readonly<Record<StageName, ElementScreen>>;
  readonly #director: Director;
  #stall = new StallMeter();
  readonly #reader = new BlockCodeReader();
  readonly #collector = new StatsCollector(performance.now());
  #screen: ScreenName = "canvas";
  #stage: StageName = "first";
  /** The stages whose transport displays by an element of its own instead of the video element. */
  readonly #elementStages = new Set<StageName>();
  /** The transports of the gateway that bring their player; null before they are known. */
  #halves: ReadonlyMap<TransportName, KnownHalf> | null = null;
  /** Resolves once they are known. */
  #halvesFound: Promise<void> = Promise.resolve();
  /** Why they are not known, if the gateway did not list them. */
  #halvesMissing: string | null = null;
  /** Names of all transports of the gateway; null until one is wanted that this player cannot play. */
  #transports: readonly string[] | null = null;
  #halvesRequest: AbortController | null = null;
  readonly #halvesBackoff = new Backoff();
  /** What the viewer selected; the browser may force muting. */
  #muted = true;
  #clock: ServerClock | null = null;
  #base: URL | null = null;
  #connected: AbortController | null = null;
  #codeReadAt = 0;
  #droppedBefore = 0;

  constructor() {
    super();
    this.#view = new PlayerView(this.attachShadow({ mode: "open" }), {
      toggleStats: () => {
        this.showStats = !this.showStats;
      },
      toggleFullscreen: () => void this.#toggleFullscreen(),
      toggleMuted: () => {
        this.muted = !this.muted;
      },
      tap: () => {
        for (const video of Object.values(this.#videos)) video.play();
      },
      volumeChanged: () => this.#showAudio(),
    });
    this.#painter = new Painter(this.#view.canvas, {
      displayed: (frame) => this.#displayed("canvas", frame),
      dropped: () => this.#collector.dropped(1),
    });
    const { first, second } = this.#view.videos;
    this.#videos = {
      first: new VideoScreen(first, () => this.#keepFrame("first")),
      second: new VideoScreen(second, () => this.#keepFrame("second")),
    };
    this.#elementScreens = {
      first: new ElementScreen(this.#view.halves.first, (content) => this.#loseFrame("first", content)),
      second: new ElementScreen(this.#view.halves.second, (content) => this.#loseFrame("second", content)),
    };
    this.#director = new Director(
      {
        session: (stage, sink) => this.#session(stage, sink),
        names: () => [...TRANSPORTS, ...(this.#halves?.keys() ?? [])],
        label: (name) => this.#label(name),
        obstacle: (name) => this.#obstacle(name),
        network: networkType,
        prepare: (name) => {
          if (name === "hls") prepareHls();
        },
        choose: (base, request, signal) => this.#choose(base, request, signal),
        openControl: (url, events) => new Control(url, events),
        timer,
        now: () => performance.now(),
      },
      {
        frame: (frame) => this.#painter.offer(frame),
        displayed: (frame) => this.#displayed(this.#elementStages.has(this.#stage) ? `${this.#stage}-half` : this.#stage, frame),
        bytes: (count) => this.#collector.bytes(count),
        dropped: (count) => this.#collector.dropped(count),
        changed: (state) => this.#changed(state),
        swapped: (stage) => {
          this.#stage = stage;
          this.#applyMuted();
          this.#showAudio();
          this.#collector.connectionChanged(performance.now());
        },
        choices: (choices) => this.dispatchEvent(new CustomEvent("sluicegate-choices", { detail: choices })),
      },
    );
  }

  /** The gateway's URL, or, without `stream`, the stream's base path, such as `/live/demo`. */
  get src(): string {
    return this.getAttribute("src") ?? "";
  }

  set src(value: string) {
    this.setAttribute("src", value);
  }

  /** The stream's name; `stream@rendition` selects one rendition only. */
  get stream(): string {
    return this.getAttribute("stream") ?? "";
  }

  set stream(value: string) {
    this.setAttribute("stream", value);
  }

  /** The selected transport, or `auto`. */
  get transport(): TransportName {
    return this.getAttribute("transport") || "auto";
  }

  set transport(value: TransportName) {
    this.setAttribute("transport", value);
  }

  /** Name of the selected rendition; empty: chosen by the gateway; `-`: the stream itself. */
  get rendition(): string {
    return this.getAttribute("rendition") ?? "";
  }

  set rendition(value: string) {
    this.setAttribute("rendition", value);
  }

  /** Whether audio is muted; initially true. */
  get muted(): boolean {
    return this.#view.videos[this.#stage].muted;
  }

  set muted(value: boolean) {
    const changed = value !== this.#muted;
    this.#muted = value;
    this.#director.setListening(!value);
    this.#applyMuted();
    this.#showAudio();
    if (changed) this.dispatchEvent(new CustomEvent("sluicegate-muted", { detail: value }));
  }

  /** Whether statistics are displayed over the video. */
  get showStats(): boolean {
    return this.hasAttribute("stats");
  }

  set showStats(value: boolean) {
    this.toggleAttribute("stats", value);
  }

  /** Statistics: rates cover the last full second, counters start when the stream is selected. */
  get stats(): Stats {
    return this.#collector.read(this.#director.state);
  }

  /** Frame number (modulo 2^24) from the block code of the displayed frame; null if it has none. */
  readNumber(): number | null {
    return this.#readCode()?.number ?? null;
  }

  /** Unix time in ms (modulo 2^24) from the block code of the displayed frame; null if it has none. */
  readClock(): number | null {
    return this.#readCode()?.clock ?? null;
  }

  connectedCallback(): void {
    const connected = new AbortController();
    this.#connected = connected;
    const { signal } = connected;
    document.addEventListener("visibilitychange", () => this.#visibility(), { signal });
    window.addEventListener("online", () => this.#director.retryNow(), { signal });
    // A browser that blocked audio without user activation allows it after the first click or key press anywhere.
    for (const name of ["click", "keydown"]) document.addEventListener(name, () => this.#retryUnmute(), { signal });
    const interval = setInterval(() => this.#tick(), TICK_MS);
    signal.addEventListener("abort", () => clearInterval(interval));
    this.#visibility();
    this.#applySelection();
  }

  disconnectedCallback(): void {
    this.#connected?.abort();
    this.#connected = null;
    this.#halvesRequest?.abort();
    this.#director.stop();
    this.#clock?.stop();
    this.#clear();
    this.#base = null;
  }

  attributeChangedCallback(name: string): void {
    if (name === "stats") {
      this.#view.showStats(this.showStats);
      this.#view.stats(this.stats);
    } else if (this.#connected !== null) {
      this.#applySelection();
    }
  }

  #applySelection(): void {
    const base = streamBase(this.src, this.stream, GATEWAY.href, document.baseURI);
    const changed = base?.href !== this.#base?.href;
    if (changed) {
      this.#base = base;
      this.#collector.clear(performance.now());
      this.#clock?.stop();
      this.#clock = base === null ? null : new ServerClock(clockUrl(base));
      this.#view.title(base === null ? "" : decodeName(base));
      this.#director.stop();
      // After the old stream has ended, so that none of its frames arrives later.
      this.#clear();
      this.#halves = null;
      this.#transports = null;
      this.#findHalves(base);
    }
    // Only a transport that this player does not implement has to be looked for first.
    const isKnown = this.transport === "auto" || isBuiltIn(this.transport) || this.#halves !== null;
    if (isKnown || base === null) this.#select(base);
  }

  #select(base: URL | null): void {
    const { transport } = this;
    const rendition = this.rendition === "" ? null : this.rendition === NO_RENDITION ? "" : this.rendition;
    const known = transport === "auto" || isBuiltIn(transport) || this.#halves?.has(transport);
    const names = ["auto", ...this.#options().map(({ name }) => name)].join(", ");
    const elsewhere = this.#transports?.includes(transport) ? `"${transport}" has no half in the browser; play it at ${base?.pathname}/${transport}, or` : null;
    const missing = `${elsewhere ?? `there is no transport "${transport}" that this player can play;`} choose one of: ${names}`;
    const problem = known || base === null ? null : (this.#halvesMissing ?? missing);
    if (problem !== null && base !== null) this.#findTransports(base);
    this.#director.select({ base, transport, rendition, ...(problem !== null && { problem }) });
  }

  /**
   * Asks the gateway for a choice while the transports that bring their player are looked for; and again if some can
   * play here, which the first choice did not consider. A fixed choice does not depend on them.
   */
  async #choose(base: URL, request: ChoiceRequest, signal: AbortSignal): Promise<Choice> {
    const ask = async (request: ChoiceRequest): Promise<Choice> => {
      const choice = await fetchChoice(base, request, signal);
      noteOffer(base, choice);
      return choice;
    };
    const choice = ask(request);
    if (request.transport !== null) return choice;
    const [chosen] = await Promise.all([choice, this.#halvesFound]);
    const can = this.#director.playable();
    return can.length === request.can.length ? chosen : ask({ ...request, can });
  }

  /** Asks the gateway for transports that bring their player, and these whether they can play here; then plays. */
  #findHalves(base: URL | null): void {
    this.#halvesRequest?.abort();
    if (base === null) return;
    const controller = new AbortController();
    this.#halvesRequest = controller;
    const { signal } = controller;
    let resolve = (): void => undefined;
    this.#halvesFound = new Promise((then) => (resolve = then));
    signal.addEventListener("abort", () => resolve());
    const found = (halves: readonly KnownHalf[], missing: string | null): void => {
      if (signal.aborted) return;
      this.#halves = new Map(halves.map((half) => [half.name, half]));
      this.#halvesMissing = missing;
      resolve();
      this.dispatchEvent(new CustomEvent<TransportOption[]>("sluicegate-transports", { detail: this.#options() }));
      if (signal.aborted) return;
      this.#select(base);
      // What the player itself implements plays meanwhile.
      if (missing === null) this.#halvesBackoff.reset();
      else signal.addEventListener("abort", timer(() => this.#findHalvesAgain(base, signal), this.#halvesBackoff.next()));
    };
    const ask = async (entry: HalfEntry): Promise<KnownHalf> => ({ ...entry, obstacle: await halfObstacle(entry, this.#elementScreens.first) });
    withTimeout(LIST_TIMEOUT_MS, signal, (signal) => fetchHalves(base, signal))
      .then((entries) => Promise.all(entries.filter(({ name }) => !isBuiltIn(name)).map(ask)))
      .then(
        (halves) => found(halves, null),
        (error: unknown) => found([...(this.#halves?.values() ?? [])], error instanceof ApiError ? error.message : unreachable(base).reason),
      );
  }

  /** Asks once which transports there are that this player cannot play. */
  #findTransports(base: URL): void {
    const signal = this.#halvesRequest?.signal;
    if (this.#transports !== null || signal === undefined) return;
    this.#transports = [];
    withTimeout(LIST_TIMEOUT_MS, signal, (signal) => fetchTransports(base, signal)).then(
      (names) => {
        if (signal.aborted) return;
        this.#transports = names;
        this.#select(base);
      },
      () => (this.#transports = null),
    );
  }

  /** Only a transport that the gateway has not listed yet is worth another attempt. */
  #findHalvesAgain(base: URL, signal: AbortSignal): void {
    if (signal.aborted || this.#director.state.phase !== "unplayable") return;
    this.#findHalves(base);
  }

  /** The transports that can be selected here, as far as is known. */
  #options(): TransportOption[] {
    const playable = [...(this.#halves?.values() ?? [])].filter(({ obstacle }) => obstacle === null);
    return [...TRANSPORTS.map((name) => ({ name, label: LABELS[name] })), ...playable.map(({ name, label }) => ({ name, label }))];
  }

  #label(name: TransportName): string {
    return isBuiltIn(name) ? LABELS[name] : (this.#halves?.get(name)?.label ?? name);
  }

  #obstacle(name: TransportName): string | null {
    return isBuiltIn(name) ? OBSTACLES[name]() : (this.#halves?.get(name)?.obstacle ?? null);
  }

  #visibility(): void {
    const visible = document.visibilityState === "visible";
    if (!visible) this.#painter.stop();
    // Transports may have come or gone meanwhile.
    if (visible && this.#halves !== null) this.#findHalves(this.#base);
    this.#director.setVisible(visible);
  }

  #changed(state: DirectorState): void {
    if (state.phase === "connecting" || state.phase === "paused") this.#collector.connectionChanged(performance.now());
    // The gateway answers once frames arrive, and its clock may have been set since the last measurement. Only the
    // test pattern carries its capture time.
    if (state.phase === "playing" && state.pattern) void this.#clock?.measure();
    if (state.phase === "paused" || state.phase === "waiting") this.#clock?.stop();
    this.#view.state(state);
    this.#showAudio();
    this.#view.stats(this.stats);
    this.dispatchEvent(new CustomEvent("sluicegate-state", { detail: state }));
  }

  #session(stage: StageName, sink: SessionSink): Session {
    const video = (): VideoScreen => this.#videos[stage];
    const player = (name: TransportName, open: Opener): [TransportName, TransportPlayer] => [
      name,
      {
        label: this.#label(name),
        open: (...opening) => {
          if (isBuiltIn(name) && name !== "webcodecs") this.#elementStages.delete(stage);
          else this.#elementStages.add(stage);
          return open(...opening);
        },
        obstacle: () => this.#obstacle(name),
      },
    ];
    const players = (): ReadonlyMap<TransportName, TransportPlayer> =>
      new Map([
        player("webcodecs", (base, own) => openWebCodecs(base, own, this.#elementScreens[stage], () => this.#soundBlocked(stage))),
        player("nal", openNal),
        player("mse", (base, own) => openMse(base, own, video())),
        player("hls", (base, own, singleRendition) => openHls(base, own, singleRendition, video())),
        player("mjpeg", openMjpeg),
        ...[...(this.#halves?.keys() ?? [])].map((name) => player(name, (base, own) => openHalf(base, name, own, this.#elementScreens[stage]))),
      ]);
    return new Session({ players, timer, random: Math.random, now: () => performance.now() }, sink);
  }

  #displayed(screen: ScreenName, frame: DisplayedFrame): void {
    if (screen !== "canvas") this.#painter.stop();
    this.#stall.displayed(frame.at);
    this.#screen = screen;
    this.#collector.displayed(frame);
    this.#view.displayed(screen);
    const { at, delay } = frame;
    if (at - this.#codeReadAt < READ_CODE_INTERVAL_MS) return;
    this.#codeReadAt = at;
    const capturedAt = this.#captureTime();
    if (capturedAt === null) {
      if (delay !== null) this.#collector.latency(delay.ms, delay.kind);
    } else {
      // Reading takes some time; the age is measured at the moment of display.
      const now = this.#clock?.now() ?? null;
      if (now !== null) this.#collector.latency(age(capturedAt, now - (performance.now() - at)), "picture");
    }
  }

  /**
   * Capture time of the displayed frame. Only for the test pattern: any other video may happen to look like a block
   * code.
   */
  #captureTime(): number | null {
    const code = this.#director.state.pattern ? this.#readCode() : null;
    return code === null || code.number === null ? null : code.clock;
  }

  /** The block code of the displayed frame; null if this page cannot read the frame. */
  #readCode(): BlockCode | null {
    const screen = this.#view.screen(this.#screen);
    return screen === null ? null : this.#reader.read(screen);
  }

  /** Keeps the video element's last frame visible on the canvas until there is a new one. */
  #keepFrame(stage: StageName): void {
    if (this.#screen !== stage) return;
    this.#painter.copyFrom(this.#view.videos[stage]);
    this.#screen = "canvas";
    this.#view.displayed("canvas");
  }

  /** The frame in `content` is about to disappear. That of a half cannot be copied; the player keeps its shape. */
  #loseFrame(stage: StageName, content: HTMLElement): void {
    if (this.#screen !== `${stage}-half`) return;
    this.#screen = "canvas";
    if (content instanceof HTMLCanvasElement) {
      this.#painter.copyFrom(content);
      this.#view.displayed("canvas");
    } else {
      const { width, height } = this.stats;
      this.#painter.blank(width, height);
      this.#view.blank();
    }
  }

  /** The browser plays no sound before the viewer acts: the picture goes on muted, as that of a video element does. */
  #soundBlocked(stage: StageName): void {
    this.#view.videos[stage].muted = true;
    this.#elementScreens[stage].muted = true;
  }

  /** Mutes the hidden stage. */
  #applyMuted(): void {
    const { first, second } = this.#view.videos;
    first.muted = this.#muted || this.#stage !== "first";
    second.muted = this.#muted || this.#stage !== "second";
    this.#elementScreens.first.muted = first.muted;
    this.#elementScreens.second.muted = second.muted;
  }

  #retryUnmute(): void {
    if (!this.#muted && this.muted && hasBeenActive()) this.#applyMuted();
  }

  #showAudio(): void {
    const { hasAudio, streamHasAudio, label, audioTransports } = this.#director.state;
    const audible = hasAudio && !this.muted;
    this.#view.audio({ available: streamHasAudio, unmuted: !this.#muted, audible, transport: hasAudio ? null : label, audioTransports });
  }

  #clear(): void {
    this.#stall = new StallMeter();
    this.#painter.clear();
    this.#screen = "canvas";
    this.#view.blank();
  }

  #tick(): void {
    this.#collector.sample(performance.now());
    const stats = this.stats;
    this.#report(stats);
    this.#view.stats(stats);
    this.dispatchEvent(new CustomEvent("sluicegate-stats", { detail: stats }));
  }

  #report({ bitsPerSecond, framesPerSecond, dropped }: Stats): void {
    const screen = this.#view.screen(this.#screen);
    const buffered = screen instanceof HTMLVideoElement ? bufferedAhead(screen) : null;
    this.#director.report({
      received: bitsPerSecond,
      frame_rate: framesPerSecond,
      buffered_ms: buffered,
      stalled_ms: this.#stall.sample(performance.now()),
      frames_dropped: Math.max(0, dropped - this.#droppedBefore),
      visible: document.visibilityState === "visible",
      view_width: Math.round(this.clientWidth * devicePixelRatio),
      view_height: Math.round(this.clientHeight * devicePixelRatio),
    });
    this.#droppedBefore = dropped;
  }

  async #toggleFullscreen(): Promise<void> {
    try {
      if (document.fullscreenElement === null) {
        await this.requestFullscreen();
      } else {
        await document.exitFullscreen();
      }
    } catch {
      // Not allowed in this frame or on this phone: the layout stays as it is.
    }
  }
}

const OBSTACLES: Readonly<Record<BuiltInName, () => string | null>> = {
  webcodecs: webCodecsObstacle,
  nal: webCodecsObstacle,
  mse: mseObstacle,
  hls: hlsObstacle,
  mjpeg: () => null,
};

function timer(callback: () => void, ms: number): () => void {
  const timer = setTimeout(callback, ms);
  return () => clearTimeout(timer);
}

/** Media buffered ahead of the current position, in ms. */
function bufferedAhead({ buffered, currentTime }: HTMLVideoElement): number {
  return buffered.length === 0 ? 0 : Math.max(0, (buffered.end(buffered.length - 1) - currentTime) * 1000);
}

function decodeName(base: URL): string {
  const last = base.pathname.replace(/\/+$/, "").split("/").pop() ?? "";
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

customElements.define("sluicegate-player", SluicegatePlayer);
