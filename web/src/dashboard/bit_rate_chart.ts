// Chart of a stream's bit rate over the last minute, drawn as a water level.

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 60;
const STEP_MS = 1000;
const WIDTH = 120;
const HEIGHT = 32;

/** Keeps the last values and draws them. */
export class BitRateChart {
  readonly node: SVGSVGElement;
  readonly #level: SVGPathElement;
  readonly #values: number[] = [];
  #newest = -Infinity;

  constructor() {
    this.node = document.createElementNS(SVG, "svg");
    this.node.setAttribute("class", "flow");
    this.node.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.node.setAttribute("preserveAspectRatio", "none");
    this.node.setAttribute("aria-hidden", "true");
    this.#level = document.createElementNS(SVG, "path");
    this.node.append(this.#level);
  }

  /** Adds a value for time `now` in ms; one that follows within a second replaces the last. */
  push(value: number, now: number): void {
    // Tolerance for a timer that fires slightly early.
    if (now - this.#newest < STEP_MS * 0.9) {
      this.#values.pop();
    } else {
      this.#newest = now;
    }
    this.#values.push(value);
    if (this.#values.length > POINTS) this.#values.shift();
  }

  /** Redraws the chart. */
  draw(): void {
    this.#level.setAttribute("d", levelPath(this.#values));
  }
}

/** SVG path of the area below the values, newest at the right edge; the maximum fills four fifths of the height. */
export function levelPath(values: readonly number[]): string {
  const highest = Math.max(1, ...values);
  const step = WIDTH / (POINTS - 1);
  const from = WIDTH - (values.length - 1) * step;
  const points = values.map((value, at) => {
    const x = (from + at * step).toFixed(1);
    return `${x} ${(HEIGHT - (Math.max(0, value) / highest) * HEIGHT * 0.8).toFixed(1)}`;
  });
  return points.length < 2 ? "" : `M${from.toFixed(1)} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z`;
}
