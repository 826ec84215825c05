// The flow of a stream over the last minute, drawn as a water level.

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 60;
const STEP_MS = 1000;
const WIDTH = 120;
const HEIGHT = 32;

/** Keeps the last values and draws them. */
export class Flow {
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

  /** A value of the time `now`, in ms; one that follows within a second takes the place of the last. */
  push(value: number, now: number): void {
    // A little early is on time.
    if (now - this.#newest < STEP_MS * 0.9) {
      this.#values.pop();
    } else {
      this.#newest = now;
    }
    this.#values.push(value);
    if (this.#values.length > POINTS) this.#values.shift();
  }

  /** Draws what there is. */
  draw(): void {
    this.#level.setAttribute("d", levelPath(this.#values));
  }
}

/** The area below the values, newest at the right edge; the highest value fills four fifths. */
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
