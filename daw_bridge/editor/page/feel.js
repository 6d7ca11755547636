// The feel of what plays: quantise strength, swing and humanise, as sliders. What they do plays and shows at once, as
// one step of the history that each change makes anew, until it is applied or given up.

import { byId, control } from "./dom.js";

const WAIT_MS = 200; // after the last change of a slider
const FIELDS = ["strength", "swing", "timing", "loudness"];
const MOST_IDS = 100_000;

export class Feel {
  #timer = 0;
  #ids = [];
  #version = null; // of the step that previews
  #made = ""; // its edits
  #working = Promise.resolve();

  constructor(actions) {
    this.actions = actions;
    this.panel = byId("feel");
    for (const name of FIELDS) {
      control(`feel-${name}`).addEventListener("input", () => {
        this.#showValues();
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#preview(), WAIT_MS);
      });
    }
    control("feel-apply").addEventListener("click", () => this.close(true));
    control("feel-cancel").addEventListener("click", () => this.close(false));
    this.panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape" || event.key === "Enter") this.close(event.key === "Enter");
      event.stopPropagation();
    });
  }

  toggle() {
    if (this.panel.hidden) this.#open();
    else this.close(true);
  }

  #open() {
    const { actions } = this;
    if (!actions.doc.isReady) return;
    this.#ids = actions.inReach().map((stroke) => stroke.id).slice(0, MOST_IDS);
    if (!this.#ids.length) return actions.say("Nothing plays there that could have another feel.");
    for (const name of FIELDS) control(`feel-${name}`).value = 0;
    this.#version = null;
    const n = this.#ids.length;
    byId("feel-reach").textContent = `${n.toLocaleString("en")} ${n === 1 ? "stroke" : "strokes"}: ${this.#reach()}`;
    this.#showValues();
    this.panel.hidden = false;
    control("feel").setAttribute("aria-expanded", "true");
    control("feel-strength").focus();
  }

  /** Close the panel; what it previews stays, or is taken back. */
  async close(isApplied) {
    clearTimeout(this.#timer);
    this.panel.hidden = true;
    control("feel").setAttribute("aria-expanded", "false");
    control("feel").focus();
    await (isApplied ? this.#preview() : this.#queue(() => this.#make([])));
    this.#version = null;
  }

  #reach() {
    const { actions } = this;
    if (actions.selection.size > 1) return "what is selected";
    return actions.sound.loopS ? "the loop" : "everything";
  }

  #value(name) {
    return Number(control(`feel-${name}`).value);
  }

  #showValues() {
    for (const name of FIELDS) {
      const field = control(`feel-${name}`);
      const text = name === "timing" ? `${field.value} ms` : `${field.value} %`;
      byId(`feel-${name}-value`).textContent = text;
      field.setAttribute("aria-valuetext", text);
    }
  }

  #edits() {
    const ids = this.#ids;
    const step = this.actions.snapBeats || 0.25;
    const [strength, swing, timing, loudness] = FIELDS.map((name) => this.#value(name));
    return [
      strength && { op: "quantise", step_beats: step, strength: strength / 100, ids },
      swing && { op: "swing", step_beats: step, amount: swing / 100, ids },
      (timing || loudness) && { op: "humanise", seed: 1, timing_s: timing / 1000, velocity: loudness / 100, ids },
    ].filter(Boolean);
  }

  #preview() {
    return this.#queue(() => this.#make(this.#edits()));
  }

  #queue(task) {
    this.#working = this.#working.then(task);
    return this.#working;
  }

  /** Let edits be the step that previews, in the place of the one before; no other page's step is taken back. */
  async #make(edits) {
    const { doc } = this.actions;
    await doc.settle();
    const made = JSON.stringify(edits);
    const isOwn = this.#version !== null && this.#version === doc.version;
    if (isOwn && made === this.#made) return;
    if (isOwn) await doc.remake(edits);
    else if (edits.length && this.#version === null) await doc.edit(edits);
    await doc.settle();
    this.#version = edits.length ? doc.version : null;
    this.#made = made;
  }
}
