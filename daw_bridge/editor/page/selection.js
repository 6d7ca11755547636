// Which strokes are selected; the one that was taken last is what the keyboard is at.

export class Selection {
  #ids = new Set();
  primary = null;

  get size() {
    return this.#ids.size;
  }

  has(id) {
    return this.#ids.has(id);
  }

  [Symbol.iterator]() {
    return this.#ids[Symbol.iterator]();
  }

  /** Select these alone, or besides what is selected. */
  set(ids, isAdded = false) {
    if (!isAdded) this.#ids.clear();
    for (const id of ids) this.#ids.add(id);
    if (!this.#ids.has(this.primary)) this.primary = null;
    this.primary = ids.at(-1) ?? this.primary ?? [...this.#ids].at(-1) ?? null;
  }

  /** Take one in, or out where it is selected. */
  toggle(id) {
    if (!this.#ids.delete(id)) {
      this.#ids.add(id);
      this.primary = id;
    } else if (this.primary === id) {
      this.primary = [...this.#ids].at(-1) ?? null;
    }
  }

  /** Forget those that are there no more. */
  retain(isThere) {
    for (const id of this.#ids) if (!isThere(id)) this.#ids.delete(id);
    if (!this.#ids.has(this.primary)) this.primary = [...this.#ids].at(-1) ?? null;
  }
}
