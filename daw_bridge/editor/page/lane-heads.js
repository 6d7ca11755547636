// The heads of the lanes: mute, solo, gain, and how sensitive detection is.

import { byId } from "./dom.js";
import { CLASSES, CLASS_NAMES } from "./words.js";

const WAIT_MS = 350; // after the last change of a slider

export class LaneHeads {
  #heads = new Map();

  constructor(actions) {
    this.actions = actions;
    for (const head of document.querySelectorAll(".lane-head")) {
      const drumClass = head.dataset.class;
      const find = (name) => head.querySelector(`.${name}`);
      const found = { head, mute: find("mute"), solo: find("solo"), gain: find("gain"), sensitivity: find("sensitivity") };
      this.#heads.set(drumClass, found);
      found.mute.addEventListener("click", () => actions.toggleLane(drumClass, "muted"));
      found.solo.addEventListener("click", () => actions.toggleLane(drumClass, "soloed"));
      onSettled(found.gain, () => actions.setLane(drumClass, { gain_db: Number(found.gain.value) }));
      onSettled(found.sensitivity, () => actions.setSensitivity(drumClass, Number(found.sensitivity.value)));
      found.gain.addEventListener("dblclick", () => actions.setLane(drumClass, { gain_db: 0 }));
    }
  }

  draw() {
    const { doc } = this.actions;
    const lanes = doc.lanes ?? {};
    const hasSolo = Object.values(lanes).some((lane) => lane.soloed);
    for (const drumClass of CLASSES) {
      const { head, mute, solo, gain, sensitivity } = this.#heads.get(drumClass);
      const { muted = false, soloed = false, gain_db: gainDb = 0 } = lanes[drumClass] ?? {};
      const isSilent = muted || (hasSolo && !soloed);
      mute.setAttribute("aria-pressed", String(muted));
      solo.setAttribute("aria-pressed", String(soloed));
      for (const control of [mute, solo, gain, sensitivity]) control.disabled = !doc.isReady;
      show(doc, gain, gainDb);
      gain.setAttribute("aria-valuetext", `${gainDb} dB`);
      gain.title = `Gain of the ${CLASS_NAMES[drumClass]}: ${gainDb} dB`;
      show(doc, sensitivity, doc.sensitivity?.[drumClass] ?? 0);
      head.toggleAttribute("data-silent", isSilent);
      byId("lanes").querySelector(`.lane[data-class="${drumClass}"]`).toggleAttribute("data-silent", isSilent);
    }
  }
}

/** Call a function once a slider has been at rest for a moment. */
export function onSettled(slider, act) {
  let timer = 0;
  slider.addEventListener("input", () => {
    clearTimeout(timer);
    slider.dataset.held = "";
    timer = setTimeout(() => {
      delete slider.dataset.held;
      act();
    }, WAIT_MS);
  });
}

/** Set a field to what the document has, unless the user is changing it or the server has not answered to it. */
export function show(doc, field, value) {
  const isTyped = field.type === "number" && field === document.activeElement;
  if (field.value !== String(value) && !("held" in field.dataset) && !isTyped && !doc.nUnstored) field.value = value;
}
