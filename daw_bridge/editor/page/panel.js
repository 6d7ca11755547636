// A panel beside the lanes, which a button and a key open; the page stays in use while it is open.

import { byId, control } from "./dom.js";

export class Panel {
  #before = null; // what had the keyboard

  /** Take the panel of an id, the test id of its button and of its first control. */
  constructor(id, { button, first, close }) {
    this.root = byId(id);
    Object.assign(this, { button, first });
    control(close).addEventListener("click", () => this.close());
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
  }

  get isOpen() {
    return !this.root.hidden;
  }

  open() {
    const { activeElement } = document;
    this.#before = activeElement.matches(":focus-visible") ? activeElement : null;
    this.#show(true);
    control(this.first).focus();
  }

  /** Close it, and return whether it was open; the keyboard goes back to where it was, so that Space plays. */
  close() {
    if (!this.isOpen) return false;
    this.#show(false);
    document.activeElement.blur();
    this.#before?.focus({ preventScroll: true });
    return true;
  }

  #show(isOpen) {
    this.root.hidden = !isOpen;
    control(this.button).setAttribute("aria-expanded", String(isOpen));
  }
}
