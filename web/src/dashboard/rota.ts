// Whose turn it is: which tile asks for its next picture, and when. Pure.
//
// A tile asks again `pauseMs` after its last picture came, so it never shows more than two a second, and never asks while
// it waits for one. At most `limit` wait at a time, whoever is due longest first: over a slow link, or from a busy
// gateway, every tile gets fewer pictures, and none is forgotten. Those from which nothing has come yet leave one place
// free: a phone that takes seconds to wake holds nobody else up.

import { Backoff } from "../net/backoff";

/** Leave to make one request, for the picture of `name`. */
export interface Turn {
  readonly name: string;
  readonly id: number;
}

interface Member {
  wanted: boolean;
  /** The turn that is under way. */
  turn: number | null;
  due: number;
  /** The last request brought a picture. */
  proven: boolean;
  readonly backoff: Backoff;
}

const PAUSE_MS = 500;
const LIMIT = 3;

export class Rota {
  readonly #members = new Map<string, Member>();
  readonly #pauseMs: number;
  readonly #random: () => number;
  #turns = 0;
  /** How many may be under way; those that are stay so when it falls. */
  limit: number;

  constructor({ limit = LIMIT, pauseMs = PAUSE_MS, random = Math.random }: { limit?: number; pauseMs?: number; random?: () => number } = {}) {
    this.limit = limit;
    this.#pauseMs = pauseMs;
    this.#random = random;
  }

  /** From now on it gets turns. */
  want(name: string): void {
    const member = this.#members.get(name);
    if (member !== undefined) {
      member.wanted = true;
      return;
    }
    this.#members.set(name, { wanted: true, turn: null, due: 0, proven: false, backoff: new Backoff(this.#random) });
  }

  /** No more turns; one that is under way counts no more. When it last had one is kept, so that coming back is no way to more. */
  rest(name: string): void {
    const member = this.#members.get(name);
    if (member === undefined) return;
    member.wanted = false;
    member.turn = null;
  }

  forget(name: string): void {
    this.#members.delete(name);
  }

  /** Nothing is under way any more: the page is not seen. */
  drop(): void {
    for (const member of this.#members.values()) member.turn = null;
  }

  /** Asks anew at once, though it failed before. */
  hurry(name: string): void {
    const member = this.#members.get(name);
    if (member === undefined || member.turn !== null || member.proven) return;
    member.backoff.reset();
    member.due = 0;
  }

  /** The next turn, which is under way from then on; null if there is none now. */
  take(now: number): Turn | null {
    const found = this.#next();
    if (found === null || found[1].due > now) return null;
    const [name, member] = found;
    member.turn = ++this.#turns;
    member.due = now + this.#pauseMs;
    return { name, id: member.turn };
  }

  /** A turn is over. */
  done({ name, id }: Turn, now: number, came: boolean): void {
    const member = this.#members.get(name);
    if (member?.turn !== id) return;
    member.turn = null;
    member.proven = came;
    if (came) {
      member.backoff.reset();
      member.due = now + this.#pauseMs;
    } else {
      member.due = now + member.backoff.next();
    }
  }

  /** Ms until `take` gives something; null if it first needs the end of a turn, or somebody who wants one. */
  wait(now: number): number | null {
    const found = this.#next();
    return found === null ? null : Math.max(0, found[1].due - now);
  }

  /** Who is due first of those that may. */
  #next(): [string, Member] | null {
    let busy = 0;
    let unproven = 0;
    for (const member of this.#members.values()) {
      if (member.turn === null) continue;
      busy++;
      if (!member.proven) unproven++;
    }
    if (busy >= this.limit) return null;
    const mayTry = unproven < Math.max(1, this.limit - 1);
    let first: [string, Member] | null = null;
    for (const [name, member] of this.#members) {
      if (!member.wanted || member.turn !== null || (!member.proven && !mayTry)) continue;
      if (first === null || member.due < first[1].due) first = [name, member];
    }
    return first;
  }
}
