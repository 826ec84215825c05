// Puts the groups of one track in order. On WebTransport each group is a stream of its own: a newer one may overtake an
// older one, and the gateway resets those that are too late. Groups have rising numbers without gaps, so a missing one
// is known by its number. Time is passed in, so that every order of arrival can be tested.

/** Receives the items of all groups in order. */
export interface OrderedEvents<Item> {
  /** `gap`: something before this item is missing. */
  item(item: Item, gap: boolean): void;
}

/** The environment, replaced in tests. */
export interface OrderEnv {
  now(): number;
  /** Calls back once after `ms`; the returned function cancels it. */
  timer(callback: () => void, ms: number): () => void;
}

interface Group<Item> {
  readonly items: Item[];
  bytes: number;
  /** When its first item arrived. */
  readonly since: number;
  /** Nothing more of it follows: null while it is open, false if the rest is missing. */
  complete: boolean | null;
}

/**
 * How long (ms) an older group may hold back a newer one: enough to send a packet again. The picture stands still
 * meanwhile, if at all.
 */
export const LATE_MS = 200;
/** What is held back at most, until an older group is given up in any case. */
const MAX_HELD_GROUPS = 16;
export const MAX_HELD_BYTES = 16 * 1024 * 1024;

/** Items of the current group pass at once; those of later groups are held back until it is their turn. */
export class GroupOrder<Item> {
  readonly #env: OrderEnv;
  readonly #events: OrderedEvents<Item>;
  #current: number | null = null;
  #complete: boolean | null = null;
  #gap = false;
  readonly #later = new Map<number, Group<Item>>();
  #heldBytes = 0;
  #cancelTimer: (() => void) | null = null;

  constructor(env: OrderEnv, events: OrderedEvents<Item>) {
    this.#env = env;
    this.#events = events;
  }

  /** An item of this size arrived. Returns false if its group comes too late: the rest of it is of no use. */
  push(number: number, item: Item, bytes: number): boolean {
    this.#current ??= number;
    if (number < this.#current) return false;
    if (number === this.#current) {
      this.#pass(item);
      return true;
    }
    const group = this.#later.get(number) ?? { items: [], bytes: 0, since: this.#env.now(), complete: null };
    this.#later.set(number, group);
    group.items.push(item);
    group.bytes += bytes;
    this.#heldBytes += bytes;
    this.#advance();
    return true;
  }

  /** Nothing more follows of this group; `complete` if all of it arrived. */
  end(number: number, complete: boolean): void {
    if (number === this.#current) {
      this.#complete = complete;
      if (!complete) this.#gap = true;
    }
    const group = this.#later.get(number);
    if (group !== undefined) group.complete = complete;
    this.#advance();
  }

  /** Discards what is held back. No event follows. */
  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#later.clear();
  }

  #pass(item: Item): void {
    const gap = this.#gap;
    this.#gap = false;
    this.#events.item(item, gap);
  }

  /** Goes on to later groups as far as it is their turn. */
  #advance(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    while (this.#current !== null && this.#later.size > 0) {
      const next = Math.min(...this.#later.keys());
      const group = this.#later.get(next);
      if (group === undefined) return;
      const ended = this.#complete !== null && next === this.#current + 1;
      const full = this.#later.size > MAX_HELD_GROUPS || this.#heldBytes > MAX_HELD_BYTES;
      const left = group.since + LATE_MS - this.#env.now();
      if (!ended && !full && left > 0) {
        this.#cancelTimer = this.#env.timer(() => this.#advance(), left);
        return;
      }
      this.#begin(next, group);
    }
  }

  #begin(number: number, group: Group<Item>): void {
    const missing = number - (this.#current ?? number) - (this.#complete === true ? 1 : 0);
    if (missing > 0) this.#gap = true;
    this.#current = number;
    this.#complete = group.complete;
    this.#later.delete(number);
    this.#heldBytes -= group.bytes;
    for (const item of group.items) this.#pass(item);
  }
}
