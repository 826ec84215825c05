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
import type { Shown } from "../transport/transport";
import { VideoScreen, wasActivated } from "../transport/video";
import { clockUrl, ITSELF, streamBase } from "./address";
import { CodeReader } from "./code_reader";
import { Director, type DirectorState, type StageName } from "./director";
import { Painter } from "./painter";
import { Session, type SessionSink, type TransportPlayer } from "./session";
import { StallMeter } from "./stall_meter";
import { type Stats, StatsCollector } from "./stats";
import { PlayerView, type ScreenName } from "./view";

const LOOK_EVERY_MS = 1000;
const READ_CODE_EVERY_MS = 500;

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
  readonly #reader = new CodeReader();
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
      volumeChanged: () => this.#showSound(),
    });
    this.#painter = new Painter(this.#view.canvas, {
      shown: (shown) => this.#shown("canvas", shown),
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
        picture: (picture) => this.#painter.offer(picture),
        shown: (shown) => this.#shown(this.#stage, shown),
        bytes: (count) => this.#collector.bytes(count),
        dropped: (count) => this.#collector.dropped(count),
        changed: (state) => this.#changed(state),
        swapped: (stage) => {
          this.#stage = stage;
          this.#applyMuted();
          this.#showSound();
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
    this.#showSound();
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
    const look = setInterval(() => this.#look(), LOOK_EVERY_MS);
    signal.addEventListener("abort", () => clearInterval(look));
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
    const other = base?.href !== this.#base?.href;
    if (other) {
      this.#base = base;
      this.#collector.clear(performance.now());
      this.#clock?.stop();
      this.#clock = base === null ? null : new ServerClock(clockUrl(base));
      this.#view.title(base === null ? "" : decodeName(base));
    }
    const rendition = this.rendition === "" ? null : this.rendition === ITSELF ? "" : this.rendition;
    this.#director.select({ base, transport: this.transport, rendition });
    // After the old stream has ended, so that none of its frames arrives later.
    if (other) this.#clear();
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
    this.#showSound();
    this.#view.stats(this.stats);
    this.dispatchEvent(new CustomEvent("sluicegate-state", { detail: state }));
  }

  #session(stage: StageName, sink: SessionSink): Session {
    const video = (): VideoScreen => this.#videos[stage];
    const player = (name: TransportName, open: TransportPlayer["open"]): TransportPlayer => ({ open, obstacle: OBSTACLES[name] });
    const players = {
      nal: player("nal", openNal),
      mse: player("mse", (base, own) => openMse(base, own, video())),
      hls: player("hls", (base, own, only) => openHls(base, own, only, video())),
      mjpeg: player("mjpeg", openMjpeg),
    };
    return new Session({ players, timer, random: Math.random, now: () => performance.now() }, sink);
  }

  #shown(screen: ScreenName, shown: Shown): void {
    if (screen !== "canvas") this.#painter.stop();
    this.#stall.shown(shown.at);
    this.#screen = screen;
    this.#collector.shown(shown);
    this.#view.shown(screen);
    const { at, delay } = shown;
    if (at - this.#codeReadAt < READ_CODE_EVERY_MS) return;
    this.#codeReadAt = at;
    const made = this.#captureTime();
    if (made === null) {
      if (delay !== null) this.#collector.latency(delay.ms, delay.kind);
    } else {
      // Reading takes some time; the age is measured at the moment of display.
      const now = this.#clock?.now() ?? null;
      if (now !== null) this.#collector.latency(age(made, now - (performance.now() - at)), "picture");
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
    this.#painter.keep(this.#view.videos[stage]);
    this.#screen = "canvas";
    this.#view.shown("canvas");
  }

  /** Mutes the hidden stage. */
  #applyMuted(): void {
    const { first, second } = this.#view.videos;
    first.muted = this.#muted || this.#stage !== "first";
    second.muted = this.#muted || this.#stage !== "second";
  }

  #retryUnmute(): void {
    if (!this.#muted && this.muted && wasActivated()) this.#applyMuted();
  }

  #showSound(): void {
    const { sound, hasSound, transport, carriers } = this.#director.state;
    const carried = sound && !this.muted;
    this.#view.sound({ there: hasSound, wanted: !this.#muted, heard: carried, transport: sound ? null : transport, carriers });
  }

  #clear(): void {
    this.#stall = new StallMeter();
    this.#painter.clear();
    this.#screen = "canvas";
    this.#view.blank();
  }

  #look(): void {
    this.#collector.look(performance.now());
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
      stalled_ms: this.#stall.look(performance.now()),
      frames_dropped: Math.max(0, dropped - this.#droppedBefore),
      visible: document.visibilityState === "visible",
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
