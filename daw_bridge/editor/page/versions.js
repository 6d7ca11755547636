// Versions side by side: three slots, each plays at once where the playhead is, at equal levels of its strokes.

import { byId, control } from "./dom.js";
import { Panel } from "./panel.js";
import { sentence } from "./words.js";

export const SLOTS = ["A", "B", "C"];

export class Versions {
  #api;
  #isBusy = false;

  constructor(api, actions) {
    this.#api = api;
    this.actions = actions;
    this.compared = {}; // by slot, as the server has it
    this.panel = new Panel("versions", { button: "versions", first: "store-A", close: "versions-close" });
    for (const slot of SLOTS) {
      control(`version-${slot}`).addEventListener("click", () => this.press(slot));
      for (const what of ["store", "restore", "clear"]) {
        control(`${what}-${slot}`).addEventListener("click", () => this.#do(slot, what));
      }
    }
  }

  /** Take over what is in the slots. */
  take(compared) {
    this.compared = compared;
    this.actions.sound.compare(compared);
    this.draw();
  }

  /** Listen to a slot, or to what is edited again; into an empty slot what plays is stored. */
  press(slot) {
    const { sound, doc } = this.actions;
    if (!doc.isReady) return;
    if (!(slot in this.compared)) return this.#do(slot, "store");
    sound.choose(sound.which === slot ? "take" : slot);
  }

  toggle() {
    if (this.panel.isOpen) return this.panel.close();
    if (!this.actions.doc.isReady) return;
    this.panel.open();
    this.draw();
  }

  draw() {
    const { doc, sound } = this.actions;
    control("versions").disabled = !doc.isReady;
    for (const slot of SLOTS) {
      const button = control(`version-${slot}`);
      const found = this.compared[slot];
      button.disabled = !doc.isReady;
      button.setAttribute("aria-pressed", String(sound.which === slot));
      button.toggleAttribute("data-stored", Boolean(found));
      const label = found ? `Version ${slot}: ${about(found)}` : `Version ${slot}: store what plays here`;
      button.setAttribute("aria-label", label);
      button.title = `${label} (${7 + SLOTS.indexOf(slot)})`;
      if (!this.panel.isOpen) continue;
      byId(`about-${slot}`).textContent = found ? about(found) : "nothing yet";
      control(`store-${slot}`).disabled = this.#isBusy;
      control(`restore-${slot}`).disabled = control(`clear-${slot}`).disabled = this.#isBusy || !found;
    }
  }

  async #do(slot, what) {
    const { doc, sound } = this.actions;
    if (this.#isBusy) return;
    this.#isBusy = true;
    this.draw();
    try {
      await doc.settle();
      if (what === "restore") {
        await doc.restore(slot);
        sound.choose("take");
        this.actions.say(`You go on from version ${slot}; undo takes you back.`);
      } else {
        this.take((await this.#api.post("compare", { version: doc.version, slot, do: what })).compared);
        if (what === "store") this.actions.say(`What plays is stored as version ${slot}. Edit on, and compare: ${7 + SLOTS.indexOf(slot)} plays it.`);
      }
    } catch (error) {
      this.actions.say(sentence(error));
    } finally {
      this.#isBusy = false;
      this.draw();
      if (document.activeElement === document.body && this.panel.isOpen) control(`store-${slot}`).focus();
    }
  }
}

/** Return what is in a slot in words. */
function about({ version, n_strokes, mode, gain_db }) {
  const kind = mode === "edit" ? "the recording, edited" : "its drums alone";
  const level = gain_db < -0.05 ? `plays ${(-gain_db).toFixed(1)} dB softer, to match` : "plays at its own level";
  return `step ${version}, ${kind}, ${n_strokes.toLocaleString("en")} ${n_strokes === 1 ? "stroke" : "strokes"}, ${level}`;
}
