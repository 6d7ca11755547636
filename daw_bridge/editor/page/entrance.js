// The page before anything is open in it: it takes a recording that is dropped or chosen, or the demo loop.

import { byId, control } from "./dom.js";
import { sentence } from "./words.js";

export class Entrance {
  #api;

  constructor(api) {
    this.#api = api;
    control("open-file").addEventListener("change", ({ target }) => target.files[0] && this.take(target.files[0]));
    control("open-demo").addEventListener("click", () => this.#open("", null, "The demo loop"));
  }

  /** Show that nothing is open. */
  show(isEmpty) {
    byId("entrance").hidden = !isEmpty;
  }

  /** Open a recording that was dropped. */
  take(file) {
    return this.#open(`?${new URLSearchParams({ name: file.name })}`, file, file.name);
  }

  /** Send it; the editor of it answers at the same address in a moment, and the page goes on by itself. */
  async #open(query, file, name) {
    byId("entrance-report").textContent = `${name} is being opened`;
    try {
      await this.#api.upload(`open${query}`, file);
    } catch (error) {
      byId("entrance-report").textContent = sentence(error);
    }
  }
}
