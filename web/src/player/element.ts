// <sluicegate-player stream="demo" src="https://gateway" transport="auto|nal|mse|hls|mjpeg" stats>: plays one stream
// while the element is in the document and the page is visible. It connects the parts: `PlayerView` (DOM), `Painter`
// and `VideoScreen` (output), `Director` (decisions), `StatsCollector` (statistics).
//
// Attributes: `stream`, the stream's name; `src`, the gateway's URL, by default the origin of this script. Without
// `stream`, `src` is the stream's base path, such as `/live/demo`. `transport`, by default `auto`: the transport that
// the gateway's config and policy choose, or, without an answer, the first one that works. `stats`: if present,
// statistics are displayed.
// Properties: the same, `muted`, and `stats` of type `Stats` (the property of the attribute is `showStats`).
// Methods: `readNumber()`, `readClock()`: the block code of the displayed frame.
// Events: `sluicegate-muted` (detail: boolean) when audio is turned on or off, `sluicegate-state` (detail:
// DirectorState) at every change, `sluicegate-choices` (detail: Choices), `sluicegate-stats` (detail: Stats) once a
// second.

import { age } from "../media/block_code";
import { fetchChoice, networkType } from "../net/choice";
import { Control } from "../net/control";
import { ServerClock } from "../net/server_clock";
import { hlsObstacle, openHls, prepareHls } from "../transport/hls";
import { openMjpeg } from "../transport/mjpeg";
import { mseObstacle, openMse } from "../transport/mse";
import { nalObstacle, openNal } from "../transport/nal";
import { type TransportName, transportNamed } from "../transport/names";
import type { DisplayedFrame } from "../transport/transport";
import { VideoScreen, hasBeenActive } from "../transport/video";
import { clockUrl, NO_RENDITION, streamBase } from "./address";
import { BlockCodeReader } from "./block_code_reader";
import { Director, type DirectorState, type StageName } from "./director";
import { Painter } from "./painter";
import { Session, type SessionSink, type TransportPlayer } from "./session";
import { StallMeter } from "./stall_meter";
import { type Stats, StatsCollector } from "./stats";
import { PlayerView, type ScreenName } from "./view";

const TICK_MS = 1000;
const READ_CODE_INTERVAL_MS = 500;

/** URL of the gateway that served this script from its `assets/`. */
const GATEWAY_URL = new URL("..", import.meta.url).href;

/** The custom element; its attributes and events are documented at the top of this file. */
export class SluicegatePlayer extends HTMLElement {
  static readonly observedAttributes = ["src", "stream", "transport", "rendition", "stats"];

  readonly #view: PlayerView;
  readonly #painter: Painter;
  readonly #videos: Readonly<Record<StageName, VideoScreen>>;
  readonly #director: Director;
  #stall = new StallMeter();
  readonly #reader = new BlockCodeReader();
  readonly #collector = new StatsCollector(performance.now());
  #screen: ScreenName = "canvas";
  #stage: StageName = "first";
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
    this.#director = new Director(
      {
        session: (stage, sink) => this.#session(stage, sink),
        obstacle: (name) => OBSTACLES[name](),
        network: networkType,
        prepare: (name) => {
          if (name === "hls") prepareHls();
        },
        choose: fetchChoice,
        openControl: (url, events) => new Control(url, events),
        timer,
        now: () => performance.now(),
      },
      {
        frame: (frame) => this.#painter.offer(frame),
        displayed: (frame) => this.#displayed(this.#stage, frame),
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
  get transport(): TransportName | "auto" {
    return transportNamed(this.getAttribute("transport"));
  }

  set transport(value: TransportName | "auto") {
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
    return this.#reader.read(this.#view.screen(this.#screen)).number;
  }

  /** Unix time in ms (modulo 2^24) from the block code of the displayed frame; null if it has none. */
  readClock(): number | null {
    return this.#reader.read(this.#view.screen(this.#screen)).clock;
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
    const base = streamBase(this.src, this.stream, GATEWAY_URL, document.baseURI);
    const changed = base?.href !== this.#base?.href;
    if (changed) {
      this.#base = base;
      this.#collector.clear(performance.now());
      this.#clock?.stop();
      this.#clock = base === null ? null : new ServerClock(clockUrl(base));
      this.#view.title(base === null ? "" : decodeName(base));
    }
    const rendition = this.rendition === "" ? null : this.rendition === NO_RENDITION ? "" : this.rendition;
    this.#director.select({ base, transport: this.transport, rendition });
    // After the old stream has ended, so that none of its frames arrives later.
    if (changed) this.#clear();
  }

  #visibility(): void {
    const visible = document.visibilityState === "visible";
    if (!visible) this.#painter.stop();
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
    const player = (name: TransportName, open: TransportPlayer["open"]): TransportPlayer => ({ open, obstacle: OBSTACLES[name] });
    const players = {
      nal: player("nal", openNal),
      mse: player("mse", (base, own) => openMse(base, own, video())),
      hls: player("hls", (base, own, singleRendition) => openHls(base, own, singleRendition, video())),
      mjpeg: player("mjpeg", openMjpeg),
    };
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
    if (!this.#director.state.pattern) return null;
    const { number, clock } = this.#reader.read(this.#view.screen(this.#screen));
    return number === null ? null : clock;
  }

  /** Keeps the video element's last frame visible on the canvas until there is a new one. */
  #keepFrame(stage: StageName): void {
    if (this.#screen !== stage) return;
    this.#painter.copyFrom(this.#view.videos[stage]);
    this.#screen = "canvas";
    this.#view.displayed("canvas");
  }

  /** Mutes the hidden stage. */
  #applyMuted(): void {
    const { first, second } = this.#view.videos;
    first.muted = this.#muted || this.#stage !== "first";
    second.muted = this.#muted || this.#stage !== "second";
  }

  #retryUnmute(): void {
    if (!this.#muted && this.muted && hasBeenActive()) this.#applyMuted();
  }

  #showAudio(): void {
    const { hasAudio, streamHasAudio, transport, audioTransports } = this.#director.state;
    const audible = hasAudio && !this.muted;
    this.#view.audio({ available: streamHasAudio, unmuted: !this.#muted, audible, transport: hasAudio ? null : transport, audioTransports });
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

const OBSTACLES: Readonly<Record<TransportName, () => string | null>> = {
  nal: nalObstacle,
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
