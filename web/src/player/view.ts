// The player's shadow tree: canvas, state, figures and buttons. Shows what it is told; decides nothing.

import { bitRate, milliseconds, size } from "../page/format";
import { element } from "../page/dom";
import css from "./player.shadow.css";
import type { SessionState } from "./session";
import type { Stats } from "./stats";

/** What the viewer asks for. */
export interface PlayerActions {
  toggleStats(): void;
  toggleFullscreen(): void;
}

const FIGURES = ["transport", "picture", "frames", "bit rate", "latency", "dropped", "reconnects"] as const;
type Figure = (typeof FIGURES)[number];

const TRANSPORT_LABELS = { nal: "NAL · WebCodecs", mjpeg: "MJPEG" } as const;

/** Builds the tree once and keeps it up to date. */
export class PlayerView {
  readonly canvas: HTMLCanvasElement;
  readonly #frame: HTMLElement;
  readonly #status: HTMLElement;
  readonly #notice: HTMLElement;
  readonly #overlay: HTMLElement;
  readonly #statsButton: HTMLButtonElement;
  readonly #figures = new Map<Figure, HTMLElement>();

  constructor(root: ShadowRoot, actions: PlayerActions) {
    // A constructed stylesheet, since the pages' CSP allows no inline style.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];

    this.canvas = element("canvas", { role: "img", width: "1280", height: "720" });
    this.#status = element("p", { class: "status", role: "status" });
    this.#notice = element("p", { class: "notice", hidden: "" });
    this.#overlay = element("dl", { class: "stats", id: "stats", hidden: "", "aria-label": "Figures" });
    for (const figure of FIGURES) {
      const value = element("dd", { "data-figure": figure }, "–");
      this.#figures.set(figure, value);
      this.#overlay.append(element("div", {}, element("dt", {}, figure), value));
    }
    this.#statsButton = element("button", { type: "button", "aria-controls": "stats", "aria-expanded": "false" }, "Stats");
    const fullscreen = element("button", { type: "button" }, "Full screen");
    this.#statsButton.addEventListener("click", () => actions.toggleStats());
    fullscreen.addEventListener("click", () => actions.toggleFullscreen());
    const controls = element("div", { class: "controls" }, this.#statsButton, fullscreen);
    this.#frame = element(
      "div",
      { class: "frame", "data-phase": "idle" },
      this.canvas,
      element("div", { class: "top" }, this.#status, this.#notice),
      this.#overlay,
      controls,
    );
    root.append(this.#frame);
  }

  title(name: string): void {
    this.canvas.setAttribute("aria-label", name === "" ? "No stream" : `Live picture of ${name}`);
    this.#frame.classList.remove("has-picture");
  }

  painted(): void {
    this.#frame.classList.add("has-picture");
  }

  state(state: SessionState): void {
    this.#frame.dataset["phase"] = state.phase;
    this.#status.textContent = sentence(state);
    this.#notice.textContent = state.fallback === "" ? "" : `MJPEG instead: ${state.fallback}`;
    this.#notice.hidden = state.fallback === "";
  }

  showStats(show: boolean): void {
    this.#overlay.hidden = !show;
    this.#statsButton.setAttribute("aria-expanded", String(show));
  }

  stats(stats: Stats): void {
    if (this.#overlay.hidden) return;
    const texts: Record<Figure, string> = {
      transport: stats.transport === null ? "–" : TRANSPORT_LABELS[stats.transport],
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

/** Latency with what it was measured from, since the two kinds must not be compared. */
function latency(stats: Pick<Stats, "latencyMs" | "latencyKind">): string {
  if (stats.latencyMs === null) return "–";
  const label = stats.latencyKind === "picture" ? "picture latency" : "decode delay";
  return `${milliseconds(stats.latencyMs)} ${label}`;
}

function sentence(state: SessionState): string {
  switch (state.phase) {
    case "idle":
      return "No stream";
    case "paused":
      return "Paused while hidden";
    case "connecting":
      return "Connecting";
    case "playing":
      return "Live";
    case "silent":
      return "Still: connected, but no pictures come";
    case "waiting":
      return `Trying again: ${state.reason}`;
  }
}
