// The player's shadow DOM: canvas and videos, status, statistics and buttons. It displays the given state and makes
// no decisions.

import { bitRate, labelWithCarrier, milliseconds, size } from "../page/format";
import { element } from "../page/dom";
import css from "./player.shadow.css";
import type { DirectorState, StageName } from "./director";
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

/** What the mute button and its notice display. */
export interface AudioView {
  /** The stream has audio. */
  readonly available: boolean;
  /** The viewer turned audio on; it may not be audible. */
  readonly unmuted: boolean;
  /** Audio is played and not muted. */
  readonly audible: boolean;
  /** Label of the current transport, if it carries no audio. */
  readonly transport: string | null;
  /** Labels of the transports that carry audio; empty if unknown. */
  readonly audioTransports: string;
}

/**
 * Where frames are displayed: those decoded by the player's scripts on the canvas, others in the video element of a
 * stage, or where the stage's transport displays by itself.
 */
export type ScreenName = "canvas" | StageName | `${StageName}-half`;

const STAT_NAMES = ["transport", "resolution", "frame rate", "bit rate", "latency", "dropped", "reconnects"] as const;
type StatName = (typeof STAT_NAMES)[number];

const LATENCY_LABELS: Readonly<Record<LatencyKind, string>> = {
  picture: "end-to-end latency",
  decode: "decode delay",
  live: "behind live",
};

/** Builds the DOM once and updates it in place. */
export class PlayerView {
  readonly canvas: HTMLCanvasElement;
  readonly videos: Readonly<Record<StageName, HTMLVideoElement>>;
  /** Where transports display by an element of their own. */
  readonly halves: Readonly<Record<StageName, HTMLElement>>;
  readonly #frame: HTMLElement;
  readonly #status: HTMLElement;
  readonly #notice: HTMLElement;
  readonly #audioNotice: HTMLElement;
  readonly #audioOnlyNotice: HTMLElement;
  readonly #overlay: HTMLElement;
  readonly #statsButton: HTMLButtonElement;
  readonly #muteButton: HTMLButtonElement;
  readonly #tapButton: HTMLButtonElement;
  readonly #statValues = new Map<StatName, HTMLElement>();

  constructor(root: ShadowRoot, actions: PlayerActions) {
    // A constructed stylesheet, since the pages' CSP forbids inline styles.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];

    this.canvas = element("canvas", { role: "img", width: "1280", height: "720" });
    this.videos = { first: element("video", { class: "first" }), second: element("video", { class: "second" }) };
    this.halves = { first: element("div", { class: "half first" }), second: element("div", { class: "half second" }) };
    this.#status = element("p", { class: "status", role: "status" });
    this.#notice = element("p", { class: "notice", hidden: "" });
    this.#audioNotice = element("p", { class: "notice", role: "status", hidden: "" });
    this.#audioOnlyNotice = element("p", { class: "audio-only", hidden: "" }, speakerIcon(true), "Audio only: this stream has no video");
    this.#overlay = element("dl", { class: "stats", id: "stats", hidden: "", "aria-label": "Statistics" });
    for (const name of STAT_NAMES) {
      const value = element("dd", { "data-figure": name }, "–");
      this.#statValues.set(name, value);
      this.#overlay.append(element("div", {}, element("dt", {}, name), value));
    }
    this.#statsButton = element("button", { type: "button", "aria-controls": "stats", "aria-expanded": "false" }, "Stats");
    this.#muteButton = element("button", { type: "button", class: "mute", hidden: "" });
    this.#tapButton = element("button", { type: "button", class: "tap", hidden: "" }, "Tap to play");
    const fullscreen = element("button", { type: "button" }, "Full screen");
    this.#statsButton.addEventListener("click", () => actions.toggleStats());
    this.#muteButton.addEventListener("click", () => actions.toggleMuted());
    this.#tapButton.addEventListener("click", () => actions.tap());
    const videos = Object.values(this.videos);
    for (const video of videos) video.addEventListener("volumechange", () => actions.volumeChanged());
    fullscreen.addEventListener("click", () => actions.toggleFullscreen());
    const controls = element("div", { class: "controls" }, this.#statsButton, fullscreen, this.#muteButton);
    this.#frame = element(
      "div",
      { class: "frame", "data-phase": "idle", "data-screen": "canvas" },
      this.canvas,
      this.videos.first,
      this.videos.second,
      this.halves.first,
      this.halves.second,
      this.#audioOnlyNotice,
      element("div", { class: "top" }, this.#status, this.#notice, this.#audioNotice),
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

  /** The element that displays frames; null if it is in a frame of another origin. */
  screen(name: ScreenName): HTMLCanvasElement | HTMLVideoElement | null {
    switch (name) {
      case "canvas":
        return this.canvas;
      case "first":
      case "second":
        return this.videos[name];
      case "first-half":
        return this.halves.first.querySelector<HTMLCanvasElement | HTMLVideoElement>("canvas, video");
      case "second-half":
        return this.halves.second.querySelector<HTMLCanvasElement | HTMLVideoElement>("canvas, video");
    }
  }

  /** There is a frame on this element. */
  displayed(screen: ScreenName): void {
    this.#frame.classList.add("has-frame");
    if (this.#frame.dataset["screen"] !== screen) this.#frame.dataset["screen"] = screen;
  }

  /** Nothing is displayed. */
  blank(): void {
    this.#frame.classList.remove("has-frame");
    this.#frame.dataset["screen"] = "canvas";
  }

  state(state: DirectorState): void {
    this.#frame.dataset["phase"] = state.phase;
    this.#status.textContent = statusText(state);
    const fellBack = state.transport !== null && state.fallback !== "";
    this.#notice.textContent = fellBack ? `Fell back to ${state.label}: ${state.fallback}` : "";
    this.#notice.hidden = !fellBack;
    this.#audioOnlyNotice.hidden = !(state.phase === "playing" && state.audioOnly);
    this.#tapButton.hidden = state.phase !== "blocked";
  }

  audio({ available, unmuted, audible, transport, audioTransports }: AudioView): void {
    this.#muteButton.hidden = !available;
    // If audio is on but this transport cannot carry it, the button must not offer to turn it on again.
    const on = audible || (unmuted && transport !== null);
    if (this.#muteButton.dataset["on"] !== String(on)) {
      this.#muteButton.dataset["on"] = String(on);
      this.#muteButton.replaceChildren(speakerIcon(on), on ? "Mute" : "Unmute");
    }
    const noAudio = available && unmuted && transport !== null;
    const alternatives = audioTransports === "" ? "" : `; choose Auto or one of: ${audioTransports}`;
    const text = noAudio && transport !== null ? `${transport} has no sound${alternatives}` : "";
    if (this.#audioNotice.textContent !== text) this.#audioNotice.textContent = text;
    this.#audioNotice.hidden = text === "";
  }

  showStats(show: boolean): void {
    this.#overlay.hidden = !show;
    this.#statsButton.setAttribute("aria-expanded", String(show));
  }

  stats(stats: Stats): void {
    if (this.#overlay.hidden) return;
    const texts: Record<StatName, string> = {
      transport: stats.label === null ? "–" : labelWithCarrier(stats.label, stats.carrier),
      resolution: size(stats.width, stats.height),
      "frame rate": `${stats.framesPerSecond.toFixed(1)} /s`,
      "bit rate": bitRate(stats.bitsPerSecond),
      latency: latency(stats),
      dropped: String(stats.dropped),
      reconnects: String(stats.reconnects),
    };
    for (const [name, node] of this.#statValues) {
      if (node.textContent !== texts[name]) node.textContent = texts[name];
    }
  }
}

const SVG = "http://www.w3.org/2000/svg";

/** Speaker icon, with waves or crossed out. */
function speakerIcon(on: boolean): SVGElement {
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
  return `${milliseconds(stats.latencyMs)} ${LATENCY_LABELS[stats.latencyKind]}`;
}

function statusText(state: DirectorState): string {
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
    case "unplayable":
      return `Cannot play: ${state.reason}`;
  }
}
