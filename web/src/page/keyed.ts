// Keyed list of child elements. Children are created once per key and updated in place, so that focus, open details
// and images are preserved, and an update once a second is cheap.

/** Manages the children of `parent`. */
export class Keyed<Item, Child extends { readonly node: Element }> {
  readonly #parent: Element;
  readonly #create: (item: Item) => Child;
  readonly #removed: (child: Child) => void;
  readonly #children = new Map<string, Child>();

  /** `removed` is called for each removed child. */
  constructor(parent: Element, create: (item: Item) => Child, removed: (child: Child) => void = () => {}) {
    this.#parent = parent;
    this.#create = create;
    this.#removed = removed;
  }

  get(key: string): Child | undefined {
    return this.#children.get(key);
  }

  values(): Iterable<Child> {
    return this.#children.values();
  }

  /** Creates, updates, removes and reorders children to match `items`. */
  update(items: readonly Item[], key: (item: Item) => string, change: (child: Child, item: Item) => void = () => {}): void {
    const keys = new Set(items.map(key));
    // Removals come first: then children that stay need not be moved, which would lose their focus.
    for (const [name, child] of this.#children) {
      if (keys.has(name)) continue;
      this.#children.delete(name);
      this.#removed(child);
      child.node.remove();
    }
    items.forEach((item, at) => {
      const name = key(item);
      let child = this.#children.get(name);
      if (child === undefined) {
        child = this.#create(item);
        this.#children.set(name, child);
      }
      change(child, item);
      const place = this.#parent.children[at];
      if (place !== child.node) this.#parent.insertBefore(child.node, place ?? null);
    });
  }
}
