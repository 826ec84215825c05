// The children of one element, made once for each key and kept: what is shown is changed in place, so that focus, open
// details and pictures stay, and a look once a second costs next to nothing.

/** Keeps the children of `parent`. */
export class Keyed<Item, Shown extends { readonly node: Element }> {
  readonly #parent: Element;
  readonly #make: (item: Item) => Shown;
  readonly #gone: (shown: Shown) => void;
  readonly #kept = new Map<string, Shown>();

  /** `gone` is told of what is there no more. */
  constructor(parent: Element, make: (item: Item) => Shown, gone: (shown: Shown) => void = () => {}) {
    this.#parent = parent;
    this.#make = make;
    this.#gone = gone;
  }

  get(key: string): Shown | undefined {
    return this.#kept.get(key);
  }

  values(): Iterable<Shown> {
    return this.#kept.values();
  }

  /** One child for each item, in this order. */
  update(items: readonly Item[], key: (item: Item) => string, change: (shown: Shown, item: Item) => void = () => {}): void {
    const keys = new Set(items.map(key));
    // Those that are gone go first: nothing that stays has to be moved then, and what is moved loses its focus.
    for (const [name, shown] of this.#kept) {
      if (keys.has(name)) continue;
      this.#kept.delete(name);
      this.#gone(shown);
      shown.node.remove();
    }
    items.forEach((item, at) => {
      const name = key(item);
      let shown = this.#kept.get(name);
      if (shown === undefined) {
        shown = this.#make(item);
        this.#kept.set(name, shown);
      }
      change(shown, item);
      const place = this.#parent.children[at];
      if (place !== shown.node) this.#parent.insertBefore(shown.node, place ?? null);
    });
  }
}
