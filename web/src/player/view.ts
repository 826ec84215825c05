// The player's shadow tree: canvas and video, state, figures and buttons. Shows what it is told; decides nothing.

import { bitRate, milliseconds, size } from "../page/format";
import { element } from "../page/dom";
import css from "./player.shadow.css";
import type { DirectorState, StageName } from "./director";
import { LABELS } from "../transport/names";
import type { LatencyKind, Stats } from "./stats";

/** What the viewer asks for. */
export interface PlayerActions {
  toggleStats(): void;
  toggleFullscreen(): void;
  toggleMuted(): void;
  /** The tap that a browser wants before it plays. */
  tap(): void;
}

/** Where the picture is: what is decoded by scripts is on the canvas, and either stage has a video element. */
export type ScreenName = "canvas" | StageName;

const FIGURES = ["transport", "picture", "frames", "bit rate", "latency", "dropped", "reconnects"] as const;
type Figure = (typeof FIGURES)[number];

const LATENCIES: Readonly<Record<LatencyKind, string>> = {
  picture: "picture latency",
  decode: "decode delay",
  live: "behind live",
};

/** Builds the tree once and keeps it up to date. */
export class PlayerView {
  readonly canvas: HTMLCanvasElement;
  readonly videos: Readonly<Record<StageName, HTMLVideoElement>>;
  readonly #frame: HTMLElement;
  readonly #status: HTMLElement;
  readonly #notice: HTMLElement;
  readonly #overlay: HTMLElement;
  readonly #statsButton: HTMLButtonElement;
  readonly #soundButton: HTMLButtonElement;
  readonly #tapButton: HTMLButtonElement;
  readonly #figures = new Map<Figure, HTMLElement>();

  constructor(root: ShadowRoot, actions: PlayerActions) {
    // A constructed stylesheet, since the pages' CSP allows no inline style.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];

    this.canvas = element("canvas", { role: "img", width: "1280", height: "720" });
    this.videos = { first: element("video", { class: "first" }), second: element("video", { class: "second" }) };
    this.#status = element("p", { class: "status", role: "status" });
    this.#notice = element("p", { class: "notice", hidden: "" });
    this.#overlay = element("dl", { class: "stats", id: "stats", hidden: "", "aria-label": "Figures" });
    for (const figure of FIGURES) {
      const value = element("dd", { "data-figure": figure }, "–");
      this.#figures.set(figure, value);
      this.#overlay.append(element("div", {}, element("dt", {}, figure), value));
    }
    this.#statsButton = element("button", { type: "button", "aria-controls": "stats", "aria-expanded": "false" }, "Stats");
    this.#soundButton = element("button", { type: "button", hidden: "" }, "Unmute");
    this.#tapButton = element("button", { type: "button", class: "tap", hidden: "" }, "Tap to play");
    const fullscreen = element("button", { type: "button" }, "Full screen");
    this.#statsButton.addEventListener("click", () => actions.toggleStats());
    this.#soundButton.addEventListener("click", () => actions.toggleMuted());
    this.#tapButton.addEventListener("click", () => actions.tap());
    const videos = Object.values(this.videos);
    for (const video of videos) {
      video.addEventListener("volumechange", () => {
        this.#soundButton.textContent = videos.every(({ muted }) => muted) ? "Unmute" : "Mute";
      });
    }
    fullscreen.addEventListener("click", () => actions.toggleFullscreen());
    const controls = element("div", { class: "controls" }, this.#soundButton, this.#statsButton, fullscreen);
    this.#frame = element(
      "div",
      { class: "frame", "data-phase": "idle", "data-screen": "canvas" },
      this.canvas,
      this.videos.first,
      this.videos.second,
      element("div", { class: "top" }, this.#status, this.#notice),
      this.#tapButton,
      this.#overlay,
      controls,
    );
    root.append(this.#frame);
  }

  title(name: string): void {
    const label = name === "" ? "No stream" : `Live picture of ${name}`;
    for (const screen of [this.canvas, this.videos.first, this.videos.second]) screen.setAttribute("aria-label", label);
  }

  /** What the picture is on. */
  screen(name: ScreenName): HTMLCanvasElement | HTMLVideoElement {
    return name === "canvas" ? this.canvas : this.videos[name];
  }

  /** There is a picture, here. */
  shown(screen: ScreenName): void {
    this.#frame.classList.add("has-picture");
    if (this.#frame.dataset["screen"] !== screen) this.#frame.dataset["screen"] = screen;
  }

  /** There is none. */
  blank(): void {
    this.#frame.classList.remove("has-picture");
    this.#frame.dataset["screen"] = "canvas";
  }

  state(state: DirectorState): void {
    this.#frame.dataset["phase"] = state.phase;
    this.#status.textContent = sentence(state);
    const instead = state.transport !== null && state.fallback !== "";
    this.#notice.textContent = instead ? `${LABELS[state.transport]} instead: ${state.fallback}` : "";
    this.#notice.hidden = !instead;
    this.#soundButton.hidden = !state.sound;
    this.#tapButton.hidden = state.phase !== "blocked";
  }

  showStats(show: boolean): void {
    this.#overlay.hidden = !show;
    this.#statsButton.setAttribute("aria-expanded", String(show));
  }

  stats(stats: Stats): void {
    if (this.#overlay.hidden) return;
    const texts: Record<Figure, string> = {
      transport: stats.transport === null ? "–" : LABELS[stats.transport],
      picture: size(stats.width, stats.height),
      frames: `${stats.framesPerSecond.toFixed(1)} /s`,
      "bit rate": bitRate(stats.bitsPerSecond),
      latency: latency(stats),
      dropped: String(stats.dropped),
      reconnects: String(stats.reconnects),
    };
    for (const [figure, node] of this.#figures) {
      if (node.textContent !== texts[figure]) node.textContent = texts[figure];
    }
  }
}

/** Latency with what it was measured from, since the kinds must not be compared. */
function latency(stats: Pick<Stats, "latencyMs" | "latencyKind">): string {
  if (stats.latencyMs === null || stats.latencyKind === null) return "–";
  return `${milliseconds(stats.latencyMs)} ${LATENCIES[stats.latencyKind]}`;
}

function sentence(state: DirectorState): string {
  switch (state.phase) {
    case "idle":
      return "No stream";
    case "paused":
      return "Paused while hidden";
    case "connecting":
      return "Connecting";
    case "playing":
      return "Live";
    case "blocked":
      return "Ready";
    case "silent":
      return "Still: connected, but no pictures come";
    case "waiting":
      return `Trying again: ${state.reason}`;
  }
}
