// The feel of what plays: quantise strength, swing and humanise, as sliders. What they do plays and shows at once, as
// one step of the history that each change makes anew, until it is applied or given up.

import { byId, control } from "./dom.js";

const WAIT_MS = 200; // after the last change of a slider
const FIELDS = ["strength", "swing", "timing", "loudness"];
const MOST_IDS = 100_000;
const NONE = "[]"; // no edits

export class Feel {
  #timer = 0;
  #ids = [];
  #version = null; // of the step that previews
  #made = NONE; // its edits
  #isMaking = false;
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
      const isApplied = event.key === "Enter" && !event.target.closest("button");
      if (event.key !== "Escape" && !isApplied) return;
      event.stopPropagation();
      this.close(isApplied);
    });
    actions.doc.addEventListener("change", () => this.#follow());
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
    this.#made = NONE;
    const n = this.#ids.length;
    byId("feel-reach").textContent = `${n.toLocaleString("en")} ${n === 1 ? "stroke" : "strokes"}: ${this.#reach()}`;
    this.#showValues();
    this.panel.hidden = false;
    control("feel").setAttribute("aria-expanded", "true");
    control("feel-strength").focus();
  }

  /** Close the panel; what it previews stays, or is taken back. */
  async close(isApplied) {
    control("feel").focus();
    this.#hide();
    await (isApplied ? this.#preview() : this.#queue(() => this.#make([])));
    this.#version = null;
  }

  #hide() {
    clearTimeout(this.#timer);
    this.panel.hidden = true;
    control("feel").setAttribute("aria-expanded", "false");
  }

  /** Close where another step has followed the one that previews, which can no more be made anew. */
  #follow() {
    const { doc } = this.actions;
    const isLast = this.#version === null || this.#version === doc.version;
    if (this.panel.hidden || isLast || this.#isMaking || doc.nUnstored) return;
    this.#hide();
    this.#version = null;
    this.actions.say("Another step was made, so Feel has closed. Undo takes steps back.");
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

  /** Let edits be the step that previews, in the place of the one before; no other step is taken back. */
  async #make(edits) {
    const { doc } = this.actions;
    while (doc.nUnstored) await doc.settle();
    const made = JSON.stringify(edits);
    const isFollowed = this.#version !== null && this.#version !== doc.version;
    if (isFollowed || made === this.#made) return;
    this.#isMaking = true;
    const isMade = await (this.#version === null ? doc.edit(edits) : doc.remake(edits));
    this.#isMaking = false;
    this.#version = isMade ? doc.version : null;
    this.#made = isMade ? made : NONE;
  }
}
