// How the recording's drums play: engine, balance, tail, what is missing, variation, and more recordings of the kit.

import { byId, control } from "./dom.js";
import { onSettled, show } from "./lane-heads.js";
import { Panel } from "./panel.js";
import { sentence } from "./words.js";

const OF_REPLAYS = ["engine", "balance", "tail", "variation", "seed"];
const NUMBERS = { balance: 100, variation: 1, seed: 1 }; // by which a field's value is more than the setting's

export class SoundPanel {
  constructor(actions) {
    this.actions = actions;
    this.panel = new Panel("sound", { button: "sound", first: "sound-mode", close: "sound-close" });
    for (const name of ["engine", "tail", "missing"]) {
      control(`sound-${name}`).addEventListener("change", ({ target }) => this.#set(name, target.value));
    }
    for (const [name, scale] of Object.entries(NUMBERS)) {
      const field = control(`sound-${name}`);
      field.addEventListener("input", () => this.#showValues());
      onSettled(field, () => field.checkValidity() && field.value !== "" && this.#set(name, Number(field.value) / scale));
    }
    control("sound-mode").addEventListener("change", ({ target }) => actions.doc.changeSettings({ mode: target.value }));
    control("sound-file").addEventListener("change", ({ target }) => this.#choose(target));
  }

  toggle() {
    if (this.panel.isOpen) return this.panel.close();
    if (!this.actions.doc.isReady) return;
    this.#report("");
    this.panel.open();
    this.draw();
  }

  /** Let hits of recordings join the kit, one after the other; `report` is called with how that goes, a signal cancels it. */
  async add(files, report, signal = null) {
    const { doc } = this.actions;
    for (const file of files) {
      report(`${file.name} is transcribed, which takes a moment.`);
      await doc.settle();
      await doc.addToKit(file, signal);
    }
    const names = files.map((file) => file.name).join(", ");
    report(`${names} joined the kit.`);
    this.actions.say(`${names} joined the kit: strokes that are put in, and replays, have its hits, too.`);
  }

  draw() {
    const { doc } = this.actions;
    if (!this.panel.isOpen) return;
    const { sound, mode } = doc;
    const isReplay = mode === "replay";
    const isLatent = isReplay && sound.engine === "latent";
    show(doc, control("sound-mode"), mode);
    for (const name of ["engine", "tail", "missing"]) show(doc, control(`sound-${name}`), sound[name]);
    for (const [name, scale] of Object.entries(NUMBERS)) show(doc, control(`sound-${name}`), Math.round(sound[name] * scale * 10) / 10);
    for (const name of OF_REPLAYS) control(`sound-${name}`).disabled = !isReplay;
    control("sound-variation").disabled = !isLatent;
    control("sound-file").disabled = isLatent;
    control("sound-missing").querySelector("[value=borrow]").disabled = isLatent;
    byId("sound-hint").textContent = hint(isReplay, isLatent);
    this.#showValues();
    this.#listRecordings(sound.kit_from, isLatent);
  }

  #set(name, value) {
    if (this.actions.doc.sound[name] !== value) this.actions.doc.changeSettings({ sound: { [name]: value } });
  }

  #showValues() {
    for (const [name, unit] of [["balance", " %"], ["variation", ""]]) {
      const text = `${control(`sound-${name}`).value}${unit}`;
      byId(`sound-${name}-value`).textContent = text;
      control(`sound-${name}`).setAttribute("aria-valuetext", text);
    }
  }

  #listRecordings(paths, isLatent) {
    const list = byId("sound-recordings");
    const shown = JSON.stringify([paths, isLatent]);
    if (list.dataset.shown === shown) return;
    list.dataset.shown = shown;
    list.replaceChildren(...paths.map((path) => this.#recording(path, paths)));
    list.toggleAttribute("data-unused", isLatent);
  }

  #recording(path, paths) {
    const name = path.split(/[/\\]/).at(-1);
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Take out";
    button.setAttribute("aria-label", `Take ${name} out of the kit`);
    button.addEventListener("click", () => {
      control("sound-file").focus();
      this.actions.doc.changeSettings({ sound: { kit_from: paths.filter((other) => other !== path) } });
    });
    item.append(name, button);
    return item;
  }

  async #choose(field) {
    const files = [...field.files];
    field.value = "";
    try {
      await this.add(files, (text) => this.#report(text));
    } catch (error) {
      this.#report(sentence(error));
    }
  }

  #report(text) {
    byId("sound-report").textContent = text;
  }
}

function hint(isReplay, isLatent) {
  if (!isReplay) return "What you did not touch stays the recording itself. The settings in grey are of “its drums alone”.";
  if (isLatent) return "A network plays the strokes: it knows the drums of this recording alone, and has no stems.";
  return "The recording's own hits play every stroke. Variation is of the latent engine.";
}
