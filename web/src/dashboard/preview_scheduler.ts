// Scheduler for preview requests: which tile requests its next frame, and when. Pure.
//
// A tile requests again `pauseMs` after its last frame arrived, so it displays at most two frames a second and never
// has two requests in flight. At most `limit` requests are in flight at a time, in order of due time: over a slow
// link, or from a busy gateway, every tile gets fewer frames, and none starves. Tiles that have not received a frame
// yet leave one slot free, so that a phone that takes seconds to wake up does not block the others.

import { Backoff } from "../net/backoff";

/** Permission for one request, for a frame of `name`. */
export interface Turn {
  readonly name: string;
  readonly id: number;
}

interface Member {
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
  readonly #members = new Map<string, Member>();
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
    const member = this.#members.get(name);
    if (member !== undefined) {
      member.wanted = true;
      return;
    }
    this.#members.set(name, { wanted: true, turn: null, due: 0, succeeded: false, backoff: new Backoff(this.#random) });
  }

  /**
   * Stops requests for `name` and ignores the one in flight. The due time is kept, so that toggling does not increase
   * the rate.
   */
  pause(name: string): void {
    const member = this.#members.get(name);
    if (member === undefined) return;
    member.wanted = false;
    member.turn = null;
  }

  forget(name: string): void {
    this.#members.delete(name);
  }

  /** All requests were aborted because the page is hidden. */
  drop(): void {
    for (const member of this.#members.values()) member.turn = null;
  }

  /** Retries at once although the last request failed. */
  retryNow(name: string): void {
    const member = this.#members.get(name);
    if (member === undefined || member.turn !== null || member.succeeded) return;
    member.backoff.reset();
    member.due = 0;
  }

  /** Takes the next turn, which counts as in flight from then on; null if none is due. */
  take(now: number): Turn | null {
    const found = this.#next();
    if (found === null || found[1].due > now) return null;
    const [name, member] = found;
    member.turn = ++this.#turns;
    member.due = now + this.#pauseMs;
    return { name, id: member.turn };
  }

  /** A request has ended; `came` tells whether it succeeded. */
  done({ name, id }: Turn, now: number, came: boolean): void {
    const member = this.#members.get(name);
    if (member?.turn !== id) return;
    member.turn = null;
    member.succeeded = came;
    if (came) {
      member.backoff.reset();
      member.due = now + this.#pauseMs;
    } else {
      member.due = now + member.backoff.next();
    }
  }

  /** Time in ms until `take` returns a turn; null if a request has to end first, or nothing is wanted. */
  wait(now: number): number | null {
    const found = this.#next();
    return found === null ? null : Math.max(0, found[1].due - now);
  }

  /** The member with the earliest due time among those that may request. */
  #next(): [string, Member] | null {
    let busy = 0;
    let untested = 0;
    for (const member of this.#members.values()) {
      if (member.turn === null) continue;
      busy++;
      if (!member.succeeded) untested++;
    }
    if (busy >= this.limit) return null;
    const mayTry = untested < Math.max(1, this.limit - 1);
    let first: [string, Member] | null = null;
    for (const [name, member] of this.#members) {
      if (!member.wanted || member.turn !== null || (!member.succeeded && !mayTry)) continue;
      if (first === null || member.due < first[1].due) first = [name, member];
    }
    return first;
  }
}
