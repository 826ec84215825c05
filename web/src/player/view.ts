// The player's shadow DOM: canvas and videos, status, statistics and buttons. It displays the given state and makes
// no decisions.

import { bitRate, milliseconds, size } from "../page/format";
import { element } from "../page/dom";
import css from "./player.shadow.css";
import type { DirectorState, StageName } from "./director";
import { LABELS, type TransportName } from "../transport/names";
import type { LatencyKind, Stats } from "./stats";

/** Actions of the viewer, and volume changes from any cause. */
export interface PlayerActions {
  toggleStats(): void;
  toggleFullscreen(): void;
  toggleMuted(): void;
  /** The user activation that a browser requires before it plays. */
  tap(): void;
  /** A video was muted or unmuted, by the viewer or otherwise. */
  volumeChanged(): void;
}

/** What the sound button and its notice display. */
export interface SoundView {
  /** The stream has audio. */
  readonly there: boolean;
  /** The viewer turned audio on. */
  readonly wanted: boolean;
  /** Audio is audible. */
  readonly heard: boolean;
  /** The current transport, if it carries no audio. */
  readonly transport: TransportName | null;
  /** Labels of the transports that carry audio; empty if unknown. */
  readonly carriers: string;
}

/** Where frames are displayed: those decoded by scripts on the canvas, others in the video element of a stage. */
export type ScreenName = "canvas" | StageName;

const FIGURES = ["transport", "resolution", "frame rate", "bit rate", "latency", "dropped", "reconnects"] as const;
type Figure = (typeof FIGURES)[number];

const LATENCIES: Readonly<Record<LatencyKind, string>> = {
  picture: "end-to-end latency",
  decode: "decode delay",
  live: "behind live",
};

/** Builds the DOM once and updates it in place. */
export class PlayerView {
  readonly canvas: HTMLCanvasElement;
  readonly videos: Readonly<Record<StageName, HTMLVideoElement>>;
  readonly #frame: HTMLElement;
  readonly #status: HTMLElement;
  readonly #notice: HTMLElement;
  readonly #soundNotice: HTMLElement;
  readonly #soundOnly: HTMLElement;
  readonly #overlay: HTMLElement;
  readonly #statsButton: HTMLButtonElement;
  readonly #soundButton: HTMLButtonElement;
  readonly #tapButton: HTMLButtonElement;
  readonly #figures = new Map<Figure, HTMLElement>();

  constructor(root: ShadowRoot, actions: PlayerActions) {
    // A constructed stylesheet, since the pages' CSP forbids inline styles.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];

    this.canvas = element("canvas", { role: "img", width: "1280", height: "720" });
    this.videos = { first: element("video", { class: "first" }), second: element("video", { class: "second" }) };
    this.#status = element("p", { class: "status", role: "status" });
    this.#notice = element("p", { class: "notice", hidden: "" });
    this.#soundNotice = element("p", { class: "notice", role: "status", hidden: "" });
    this.#soundOnly = element("p", { class: "sound-only", hidden: "" }, speaker(true), "Audio only: this stream has no video");
    this.#overlay = element("dl", { class: "stats", id: "stats", hidden: "", "aria-label": "Statistics" });
    for (const figure of FIGURES) {
      const value = element("dd", { "data-figure": figure }, "–");
      this.#figures.set(figure, value);
      this.#overlay.append(element("div", {}, element("dt", {}, figure), value));
    }
    this.#statsButton = element("button", { type: "button", "aria-controls": "stats", "aria-expanded": "false" }, "Stats");
    this.#soundButton = element("button", { type: "button", class: "sound", hidden: "" });
    this.#tapButton = element("button", { type: "button", class: "tap", hidden: "" }, "Tap to play");
    const fullscreen = element("button", { type: "button" }, "Full screen");
    this.#statsButton.addEventListener("click", () => actions.toggleStats());
    this.#soundButton.addEventListener("click", () => actions.toggleMuted());
    this.#tapButton.addEventListener("click", () => actions.tap());
    const videos = Object.values(this.videos);
    for (const video of videos) video.addEventListener("volumechange", () => actions.volumeChanged());
    fullscreen.addEventListener("click", () => actions.toggleFullscreen());
    const controls = element("div", { class: "controls" }, this.#statsButton, fullscreen, this.#soundButton);
    this.#frame = element(
      "div",
      { class: "frame", "data-phase": "idle", "data-screen": "canvas" },
      this.canvas,
      this.videos.first,
      this.videos.second,
      this.#soundOnly,
      element("div", { class: "top" }, this.#status, this.#notice, this.#soundNotice),
      this.#tapButton,
      this.#overlay,
      controls,
    );
    root.append(this.#frame);
  }

  title(name: string): void {
    const label = name === "" ? "No stream" : `Live video of ${name}`;
    for (const screen of [this.canvas, this.videos.first, this.videos.second]) screen.setAttribute("aria-label", label);
  }

  /** The element that displays frames. */
  screen(name: ScreenName): HTMLCanvasElement | HTMLVideoElement {
    return name === "canvas" ? this.canvas : this.videos[name];
  }

  /** There is a frame on this element. */
  shown(screen: ScreenName): void {
    this.#frame.classList.add("has-picture");
    if (this.#frame.dataset["screen"] !== screen) this.#frame.dataset["screen"] = screen;
  }

  /** Nothing is displayed. */
  blank(): void {
    this.#frame.classList.remove("has-picture");
    this.#frame.dataset["screen"] = "canvas";
  }

  state(state: DirectorState): void {
    this.#frame.dataset["phase"] = state.phase;
    this.#status.textContent = sentence(state);
    const instead = state.transport !== null && state.fallback !== "";
    this.#notice.textContent = instead ? `Fell back to ${LABELS[state.transport]}: ${state.fallback}` : "";
    this.#notice.hidden = !instead;
    this.#soundOnly.hidden = !(state.phase === "playing" && state.soundOnly);
    this.#tapButton.hidden = state.phase !== "blocked";
  }

  sound({ there, wanted, heard, transport, carriers }: SoundView): void {
    this.#soundButton.hidden = !there;
    // If audio is on but this transport cannot carry it, the button must not offer to turn it on again.
    const on = heard || (wanted && transport !== null);
    if (this.#soundButton.dataset["on"] !== String(on)) {
      this.#soundButton.dataset["on"] = String(on);
      this.#soundButton.replaceChildren(speaker(on), on ? "Mute" : "Unmute");
    }
    const silent = there && wanted && transport !== null;
    const instead = carriers === "" ? "" : `; choose Auto or one of: ${carriers}`;
    const text = silent && transport !== null ? `${LABELS[transport]} has no sound${instead}` : "";
    if (this.#soundNotice.textContent !== text) this.#soundNotice.textContent = text;
    this.#soundNotice.hidden = text === "";
  }

  showStats(show: boolean): void {
    this.#overlay.hidden = !show;
    this.#statsButton.setAttribute("aria-expanded", String(show));
  }

  stats(stats: Stats): void {
    if (this.#overlay.hidden) return;
    const texts: Record<Figure, string> = {
      transport: stats.transport === null ? "–" : LABELS[stats.transport],
      resolution: size(stats.width, stats.height),
      "frame rate": `${stats.framesPerSecond.toFixed(1)} /s`,
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

const SVG = "http://www.w3.org/2000/svg";

/** Speaker icon, with waves or crossed out. */
function speaker(on: boolean): SVGElement {
  const icon = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 24 24", width: "18", height: "18", "aria-hidden": "true" })) {
    icon.setAttribute(name, value);
  }
  const shapes = ["M4 9v6h4l5 4V5L8 9z", on ? "M16 8.5a5 5 0 0 1 0 7M18.5 6a8.5 8.5 0 0 1 0 12" : "M16.5 9.5l5 5m0-5l-5 5"];
  for (const [index, shape] of shapes.entries()) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape);
    path.setAttribute("class", index === 0 ? "solid" : "line");
    icon.append(path);
  }
  return icon;
}

/** Latency with its kind, since the kinds must not be compared. */
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
      return "Connected, but no new frames";
    case "waiting":
      return `Reconnecting: ${state.reason}`;
  }
}
