// Two fingers on the time axis: they scroll, and zoom where they part.

export class Pinch {
  #fingers = new Map(); // places by the pointer's id
  #last = null;

  constructor(root, view, cancel) {
    Object.assign(this, { root, view, cancel });
    const isTouch = (event) => event.pointerType === "touch";
    root.addEventListener("pointerdown", (event) => isTouch(event) && this.#down(event), { capture: true });
    root.addEventListener("pointermove", (event) => isTouch(event) && this.#move(event), { capture: true });
    for (const kind of ["pointerup", "pointercancel"]) {
      root.addEventListener(kind, (event) => this.#up(event), { capture: true });
    }
  }

  #down(event) {
    this.#fingers.set(event.pointerId, event.clientX);
    if (this.#fingers.size !== 2) return;
    this.cancel(); // the first finger took hold of something
    this.#last = this.#spread();
    event.stopPropagation();
  }

  #move(event) {
    if (!this.#fingers.has(event.pointerId)) return;
    this.#fingers.set(event.pointerId, event.clientX);
    if (!this.#last) return;
    event.stopPropagation();
    const now = this.#spread();
    this.view.scrollBy(this.#last.x - now.x);
    this.view.zoom(now.width / this.#last.width, now.x - this.root.getBoundingClientRect().left);
    this.#last = now;
  }

  #up(event) {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size < 2) this.#last = null;
  }

  #spread() {
    const [a, b] = [...this.#fingers.values()];
    return { x: (a + b) / 2, width: Math.max(20, Math.abs(a - b)) };
  }
}
