// Scheduler for preview requests: which tile requests its next image, and when. Pure.
//
// A tile requests again `pauseMs` after its last image arrived, so it displays at most two images a second and never
// has two requests in flight. At most `limit` requests are in flight at a time, in order of due time: over a slow
// link, or from a busy gateway, every tile gets fewer images, and none starves. Tiles that have not received an image
// yet leave one slot free, so that a phone that takes seconds to wake up does not block the others.

import { Backoff } from "../net/backoff";

/** Permission for one request, for an image of `name`. */
export interface Turn {
  readonly name: string;
  readonly id: number;
}

interface Tile {
  wanted: boolean;
  /** Id of the request in flight. */
  turn: number | null;
  due: number;
  /** Whether the last request succeeded. */
  succeeded: boolean;
  readonly backoff: Backoff;
}

const PAUSE_MS = 500;
const LIMIT = 3;

export class PreviewScheduler {
  readonly #tiles = new Map<string, Tile>();
  readonly #pauseMs: number;
  readonly #random: () => number;
  #turns = 0;
  /** Maximum number of requests in flight; lowering it does not abort any. */
  limit: number;

  constructor({ limit = LIMIT, pauseMs = PAUSE_MS, random = Math.random }: { limit?: number; pauseMs?: number; random?: () => number } = {}) {
    this.limit = limit;
    this.#pauseMs = pauseMs;
    this.#random = random;
  }

  /** Schedules requests for `name`. */
  want(name: string): void {
    const tile = this.#tiles.get(name);
    if (tile !== undefined) {
      tile.wanted = true;
      return;
    }
    this.#tiles.set(name, { wanted: true, turn: null, due: 0, succeeded: false, backoff: new Backoff(this.#random) });
  }

  /**
   * Stops requests for `name` and ignores the one in flight. The due time is kept, so that toggling does not increase
   * the rate.
   */
  pause(name: string): void {
    const tile = this.#tiles.get(name);
    if (tile === undefined) return;
    tile.wanted = false;
    tile.turn = null;
  }

  forget(name: string): void {
    this.#tiles.delete(name);
  }

  /** All requests were aborted because the page is hidden. */
  drop(): void {
    for (const tile of this.#tiles.values()) tile.turn = null;
  }

  /** Retries at once although the last request failed. */
  retryNow(name: string): void {
    const tile = this.#tiles.get(name);
    if (tile === undefined || tile.turn !== null || tile.succeeded) return;
    tile.backoff.reset();
    tile.due = 0;
  }

  /** Takes the next turn, which counts as in flight from then on; null if none is due. */
  take(now: number): Turn | null {
    const found = this.#next();
    if (found === null || found[1].due > now) return null;
    const [name, tile] = found;
    tile.turn = ++this.#turns;
    tile.due = now + this.#pauseMs;
    return { name, id: tile.turn };
  }

  /** A request has ended; `succeeded`: whether there was an image. */
  done({ name, id }: Turn, now: number, succeeded: boolean): void {
    const tile = this.#tiles.get(name);
    if (tile?.turn !== id) return;
    tile.turn = null;
    tile.succeeded = succeeded;
    if (succeeded) {
      tile.backoff.reset();
      tile.due = now + this.#pauseMs;
    } else {
      tile.due = now + tile.backoff.next();
    }
  }

  /** Time in ms until `take` returns a turn; null if a request has to end first, or nothing is wanted. */
  wait(now: number): number | null {
    const found = this.#next();
    return found === null ? null : Math.max(0, found[1].due - now);
  }

  /** The tile with the earliest due time among those that may request. */
  #next(): [string, Tile] | null {
    let busy = 0;
    let untested = 0;
    for (const tile of this.#tiles.values()) {
      if (tile.turn === null) continue;
      busy++;
      if (!tile.succeeded) untested++;
    }
    if (busy >= this.limit) return null;
    const mayTry = untested < Math.max(1, this.limit - 1);
    let first: [string, Tile] | null = null;
    for (const [name, tile] of this.#tiles) {
      if (!tile.wanted || tile.turn !== null || (!tile.succeeded && !mayTry)) continue;
      if (first === null || tile.due < first[1].due) first = [name, tile];
    }
    return first;
  }
}
