// <sluicegate-player src="/live/demo" transport="auto|nal|mjpeg" stats>: plays one stream for as long as it is in the page
// and the page is visible.
//
// Attributes: `src`, the stream's base path; `transport`, absent means auto; `stats`, present shows the figures.
// Properties: the same, and `stats`: see `Stats` (the attribute's property is `showStats`).
// Methods: `readNumber()`, `readClock()`: the block code of the painted picture.
// Events: `sluicegate-state` (detail: SessionState) at every change, `sluicegate-stats` (detail: Stats) once a second.

import { age } from "../media/block_code";
import { ServerClock } from "../net/server_clock";
import { openMjpeg } from "../transport/mjpeg";
import { nalObstacle, openNal } from "../transport/nal";
import type { TransportName } from "../transport/transport";
import { Painter, type Painted } from "./painter";
import { Session, type SessionState } from "./session";
import { type Stats, StatsCollector } from "./stats";
import { PlayerView } from "./view";

const LOOK_EVERY_MS = 1000;
const READ_CODE_EVERY_MS = 500;

/** See the head of this file. */
export class SluicegatePlayer extends HTMLElement {
  static readonly observedAttributes = ["src", "transport", "stats"];

  readonly #view: PlayerView;
  readonly #painter: Painter;
  readonly #session: Session;
  readonly #collector = new StatsCollector(performance.now());
  #clock: ServerClock | null = null;
  #base: URL | null = null;
  #connected: AbortController | null = null;
  #codeReadAt = 0;

  constructor() {
    super();
    this.#view = new PlayerView(this.attachShadow({ mode: "open" }), {
      toggleStats: () => {
        this.showStats = !this.showStats;
      },
      toggleFullscreen: () => void this.#toggleFullscreen(),
    });
    this.#painter = new Painter(this.#view.canvas, {
      painted: (painted) => this.#painted(painted),
      dropped: () => this.#collector.dropped(1),
    });
    this.#session = new Session(
      {
        openers: { nal: openNal, mjpeg: openMjpeg },
        nalObstacle,
        timer: (callback, ms) => {
          const timer = setTimeout(callback, ms);
          return () => clearTimeout(timer);
        },
        random: Math.random,
        now: () => performance.now(),
      },
      {
        picture: (picture) => this.#painter.offer(picture),
        bytes: (count) => this.#collector.bytes(count),
        dropped: (count) => this.#collector.dropped(count),
        changed: (state) => this.#changed(state),
      },
    );
  }

  /** The stream's base path, such as `/live/demo`. */
  get src(): string {
    return this.getAttribute("src") ?? "";
  }

  set src(value: string) {
    this.setAttribute("src", value);
  }

  /** `nal`, `mjpeg`, or `auto`: `nal` where the browser can. */
  get transport(): TransportName | "auto" {
    const value = this.getAttribute("transport");
    return value === "nal" || value === "mjpeg" ? value : "auto";
  }

  set transport(value: TransportName | "auto") {
    this.setAttribute("transport", value);
  }

  /** Whether the figures are shown over the picture. */
  get showStats(): boolean {
    return this.hasAttribute("stats");
  }

  set showStats(value: boolean) {
    this.toggleAttribute("stats", value);
  }

  /** This moment's figures. */
  get stats(): Stats {
    return this.#collector.read(this.#session.state);
  }

  /** The frame number (modulo 2^24) in the painted picture's block code; null if it carries none. */
  readNumber(): number | null {
    return this.#painter.readBlockCode().number;
  }

  /** The Unix time in ms (modulo 2^24) in the painted picture's block code; null if it carries none. */
  readClock(): number | null {
    return this.#painter.readBlockCode().clock;
  }

  connectedCallback(): void {
    const connected = new AbortController();
    this.#connected = connected;
    const { signal } = connected;
    document.addEventListener("visibilitychange", () => this.#visibility(), { signal });
    window.addEventListener("online", () => this.#session.hurry(), { signal });
    const look = setInterval(() => this.#look(), LOOK_EVERY_MS);
    signal.addEventListener("abort", () => clearInterval(look));
    this.#visibility();
    this.#want();
  }

  disconnectedCallback(): void {
    this.#connected?.abort();
    this.#connected = null;
    this.#session.stop();
    this.#clock?.stop();
    this.#painter.clear();
    this.#base = null;
  }

  attributeChangedCallback(name: string): void {
    if (name === "stats") {
      this.#view.showStats(this.showStats);
      this.#view.stats(this.stats);
    } else if (this.#connected !== null) {
      this.#want();
    }
  }

  #want(): void {
    const base = this.src === "" ? null : new URL(this.src, document.baseURI);
    if (base?.href !== this.#base?.href) {
      this.#base = base;
      this.#painter.clear();
      this.#collector.clear(performance.now());
      this.#clock?.stop();
      this.#clock = base === null ? null : new ServerClock(new URL("/healthz", base));
      this.#view.title(base === null ? "" : decodeName(base));
    }
    this.#session.want({ base, transport: this.transport });
  }

  #visibility(): void {
    const visible = document.visibilityState === "visible";
    if (!visible) this.#painter.stop();
    this.#session.setVisible(visible);
  }

  #changed(state: SessionState): void {
    if (state.phase === "connecting" || state.phase === "paused") this.#collector.connectionChanged(performance.now());
    // Once pictures come the gateway answers, and its clock may have been set since it was last asked.
    if (state.phase === "playing") void this.#clock?.measure();
    if (state.phase === "paused" || state.phase === "waiting") this.#clock?.stop();
    this.#view.state(state);
    this.#view.stats(this.stats);
    this.dispatchEvent(new CustomEvent("sluicegate-state", { detail: state }));
  }

  #painted({ width, height, arrived, at }: Painted): void {
    this.#collector.painted(width, height);
    this.#view.painted();
    if (at - this.#codeReadAt < READ_CODE_EVERY_MS) return;
    this.#codeReadAt = at;
    const made = this.#painter.readBlockCode().clock;
    if (made === null) {
      this.#collector.latency(at - arrived, "decode");
    } else {
      // Reading takes a while; the picture was as old as this when it was painted.
      const now = this.#clock?.now() ?? null;
      if (now !== null) this.#collector.latency(age(made, now - (performance.now() - at)), "picture");
    }
  }

  #look(): void {
    this.#collector.look(performance.now());
    const stats = this.stats;
    this.#view.stats(stats);
    this.dispatchEvent(new CustomEvent("sluicegate-stats", { detail: stats }));
  }

  async #toggleFullscreen(): Promise<void> {
    try {
      if (document.fullscreenElement === null) {
        await this.requestFullscreen();
      } else {
        await document.exitFullscreen();
      }
    } catch {
      // Not allowed in this frame or on this phone: the picture stays where it is.
    }
  }
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
