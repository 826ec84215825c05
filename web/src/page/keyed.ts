// Keyed list of child elements. Children are created once per key and updated in place, so that focus, open details
// and images are preserved, and an update once a second is cheap.

/** Manages the children of `parent`. */
export class Keyed<Item, Shown extends { readonly node: Element }> {
  readonly #parent: Element;
  readonly #make: (item: Item) => Shown;
  readonly #gone: (shown: Shown) => void;
  readonly #kept = new Map<string, Shown>();

  /** `gone` is called for each removed child. */
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

  /** Creates, updates, removes and reorders children to match `items`. */
  update(items: readonly Item[], key: (item: Item) => string, change: (shown: Shown, item: Item) => void = () => {}): void {
    const keys = new Set(items.map(key));
    // Removals come first: then children that stay need not be moved, which would lose their focus.
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
