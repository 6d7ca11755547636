// What is dropped on the page: a rhythm, or more recordings of the kit, which only the user can tell.

import { byId, control } from "./dom.js";
import { sentence } from "./words.js";

export class Drops {
  #files = [];
  #joining = null; // the AbortController of what joins the kit

  constructor(actions, library, soundPanel) {
    Object.assign(this, { actions, library, soundPanel });
    this.dialog = byId("drop-dialog");
    control("drop-rhythm").addEventListener("click", () => {
      this.dialog.close();
      library.open(this.#files[0]);
    });
    control("drop-kit").addEventListener("click", () => this.#join());
    this.dialog.addEventListener("close", () => this.#joining?.abort());
  }

  /** Take files; MIDI is a rhythm. */
  take(files) {
    if (!this.actions.doc.isReady || !files.length) return;
    if (/\.midi?$/i.test(files[0].name)) return this.library.open(files[0]);
    this.#files = files;
    const isOne = files.length === 1;
    byId("drop-title").textContent = isOne ? `What is ${files[0].name} for?` : `What are these ${files.length} recordings for?`;
    byId("drop-first").textContent = isOne ? "" : ` Of the first one, ${files[0].name}.`;
    this.#report("", false);
    this.dialog.showModal();
  }

  async #join() {
    this.#joining = new AbortController();
    const { signal } = this.#joining;
    const report = (text, isBusy) => signal.aborted || this.#report(text, isBusy);
    report("", true);
    try {
      await this.soundPanel.add(this.#files, (text) => report(text, true), signal);
      if (!signal.aborted) this.dialog.close();
    } catch (error) {
      report(sentence(error), false);
    }
  }

  #report(text, isBusy) {
    byId("drop-report").textContent = text;
    for (const testId of ["drop-rhythm", "drop-kit"]) control(testId).disabled = isBusy;
  }
}
