// The wall: a tile for each stream, and pictures for those that are in sight.
//
// Pictures are asked for one by one. Over HTTP/1.1 a browser has six connections to a gateway, for all its tabs together:
// sixteen pictures without end would take them all, and the page would hear nothing more. Requests of their own need three,
// end when they are answered, come as fast as both ends can carry them, and no faster.

import { ApiError, type Device, type Muxer } from "../net/api";
import { fetchFrame } from "../net/frame";
import { Keyed } from "../page/keyed";
import { rowsOf } from "./muxers";
import { Pump } from "./pump";
import type { Choice } from "./showing";
import type { Take } from "./shutter";
import { Tile } from "./tile";

/** As many pictures may be under way; the others of the six are for the figures, the events and a capture. */
const UNDER_WAY = 3;

export class Wall {
  readonly #tiles: Keyed<Device, Tile>;
  readonly #pump: Pump;
  readonly #sight: IntersectionObserver;
  readonly #bySight = new WeakMap<Element, Tile>();
  /** What was chosen for single streams; kept while a device is unplugged. */
  readonly #choices = new Map<string, boolean>();
  #all: boolean;
  #reserved = 0;

  /** `all`: pictures of every stream are wanted, which starts those that are idle. */
  constructor(list: HTMLElement, all: boolean, take: Take, open: (device: Device) => void) {
    this.#all = all;
    this.#pump = new Pump((name, signal) => this.#ask(name, signal), { now: () => performance.now(), timer, random: Math.random });
    this.#sight = new IntersectionObserver((entries) => {
      // In order of time: the last of a tile is how it is now.
      for (const { target, isIntersecting } of entries) {
        const tile = this.#bySight.get(target);
        if (tile === undefined) continue;
        tile.inSight = isIntersecting;
        this.#feed(tile);
      }
    });
    const make = (device: Device): Tile => {
      const { serial } = device;
      const tile = new Tile(device, take, { open, choose: (follow) => this.#choose(serial, follow) });
      this.#bySight.set(tile.node, tile);
      this.#sight.observe(tile.node);
      return tile;
    };
    const gone = ({ node, serial }: Tile): void => {
      this.#sight.unobserve(node);
      this.#pump.forget(serial);
    };
    this.#tiles = new Keyed(list, make, gone);
    const follow = (): void => this.#pump.run(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", follow);
    follow();
  }

  update(devices: readonly Device[], muxers: readonly Muxer[], now: number): void {
    this.#tiles.update(
      devices,
      ({ serial }) => serial,
      (tile, device) => {
        const before = tile.device.state;
        tile.update(device, this.#choice(tile), rowsOf(device, muxers), now);
        // What failed may work now.
        if (device.state !== before) this.#pump.hurry(device.serial);
        this.#feed(tile);
      },
    );
  }

  /** Pictures of all streams, or of those that run; what was chosen for single ones is over. */
  set all(all: boolean) {
    this.#all = all;
    this.#choices.clear();
    for (const tile of this.#tiles.values()) {
      tile.choose(this.#choice(tile));
      this.#feed(tile);
    }
  }

  /** So many connections are wanted for something else. */
  set reserved(count: number) {
    this.#reserved = count;
    this.#pump.limit = Math.max(1, UNDER_WAY - count);
  }

  get reserved(): number {
    return this.#reserved;
  }

  #choice({ serial }: Tile): Choice {
    return this.#choices.get(serial) ?? (this.#all ? true : null);
  }

  #choose(serial: string, follow: boolean): void {
    const tile = this.#tiles.get(serial);
    if (tile === undefined) return;
    this.#choices.set(serial, follow);
    tile.choose(follow);
    this.#feed(tile);
  }

  #feed(tile: Tile): void {
    this.#pump.want(tile.serial, tile.isHungry);
  }

  async #ask(serial: string, signal: AbortSignal): Promise<void> {
    const tile = this.#tiles.get(serial);
    if (tile === undefined) return;
    try {
      await tile.paint(await fetchFrame(tile.device.url, signal), signal);
    } catch (error) {
      if (!signal.aborted) tile.fail(error instanceof ApiError ? error.message : "The picture did not come. Trying again.");
      throw error;
    }
  }
}

function timer(callback: () => void, ms: number): () => void {
  const started = setTimeout(callback, ms);
  return () => clearTimeout(started);
}
