// The wall: one tile per stream, with previews for the tiles within the viewport.
//
// Previews are fetched as single images. Over HTTP/1.1 a browser opens at most six connections to a host, for all
// tabs together: sixteen endless MJPEG responses would take all of them and block every other request of the page.
// Single requests need three connections, end when they are answered, and adapt to what gateway and link can deliver.

import { ApiError, type Device, type Muxer } from "../net/api";
import { fetchPreview } from "../net/preview_image";
import { Keyed } from "../page/keyed";
import { rowsOf } from "./muxers";
import { PreviewRequests } from "./preview_requests";
import type { PreviewChoice } from "./preview_state";
import type { RequestCapture } from "./capture_controls";
import { Tile } from "./tile";

/**
 * Maximum number of preview requests in flight; the other three of the six connections are for statistics, events and
 * a capture.
 */
const MAX_REQUESTS = 3;

export class Wall {
  readonly #tiles: Keyed<Device, Tile>;
  readonly #previews: PreviewRequests;
  readonly #visibility: IntersectionObserver;
  readonly #tileByNode = new WeakMap<Element, Tile>();
  /** The viewer's selections for single streams; kept while a device is unplugged. */
  readonly #choices = new Map<string, boolean>();
  #all: boolean;
  #reserved = 0;

  /** `all`: display previews of all streams, which starts the idle ones. */
  constructor(list: HTMLElement, all: boolean, capture: RequestCapture, open: (device: Device) => void) {
    this.#all = all;
    this.#previews = new PreviewRequests((name, signal) => this.#fetchPreview(name, signal), { now: () => performance.now(), timer, random: Math.random });
    this.#visibility = new IntersectionObserver((entries) => {
      // Entries are in chronological order: the last one of a tile is current.
      for (const { target, isIntersecting } of entries) {
        const tile = this.#tileByNode.get(target);
        if (tile === undefined) continue;
        tile.isVisible = isIntersecting;
        this.#updatePreviews(tile);
      }
    });
    const create = (device: Device): Tile => {
      const { serial } = device;
      const tile = new Tile(device, capture, { open, choose: (active) => this.#choose(serial, active) });
      this.#tileByNode.set(tile.node, tile);
      this.#visibility.observe(tile.node);
      return tile;
    };
    const removed = ({ node, serial }: Tile): void => {
      this.#visibility.unobserve(node);
      this.#previews.forget(serial);
    };
    this.#tiles = new Keyed(list, create, removed);
    const updateVisibility = (): void => this.#previews.run(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", updateVisibility);
    updateVisibility();
  }

  update(devices: readonly Device[], muxers: readonly Muxer[], now: number): void {
    this.#tiles.update(
      devices,
      ({ serial }) => serial,
      (tile, device) => {
        const before = tile.device.state;
        tile.update(device, this.#choice(tile), rowsOf(device, muxers), now);
        // After a change of state, a request that failed before may succeed.
        if (device.state !== before) this.#previews.retryNow(device.serial);
        this.#updatePreviews(tile);
      },
    );
  }

  /** Displays previews of all streams, or only of running ones; resets the selections for single streams. */
  set all(all: boolean) {
    this.#all = all;
    this.#choices.clear();
    for (const tile of this.#tiles.values()) {
      tile.choose(this.#choice(tile));
      this.#updatePreviews(tile);
    }
  }

  /** Number of connections reserved for other uses. */
  set reserved(count: number) {
    this.#reserved = count;
    this.#previews.limit = Math.max(1, MAX_REQUESTS - count);
  }

  get reserved(): number {
    return this.#reserved;
  }

  #choice({ serial }: Tile): PreviewChoice {
    return this.#choices.get(serial) ?? (this.#all ? true : null);
  }

  #choose(serial: string, active: boolean): void {
    const tile = this.#tiles.get(serial);
    if (tile === undefined) return;
    this.#choices.set(serial, active);
    tile.choose(active);
    this.#updatePreviews(tile);
  }

  #updatePreviews(tile: Tile): void {
    this.#previews.want(tile.serial, tile.wantsPreviews);
  }

  async #fetchPreview(serial: string, signal: AbortSignal): Promise<void> {
    const tile = this.#tiles.get(serial);
    if (tile === undefined) return;
    try {
      await tile.paint(await fetchPreview(tile.device.url, signal), signal);
    } catch (error) {
      if (!signal.aborted) tile.fail(error instanceof ApiError ? error.message : "The preview could not be loaded. Retrying…");
      throw error;
    }
  }
}

function timer(callback: () => void, ms: number): () => void {
  const started = setTimeout(callback, ms);
  return () => clearTimeout(started);
}
