// Bars that play again: so often, to the end, or as a fill at the end of every so many bars.

import { byId, control } from "./dom.js";
import { newId } from "./stroke-edits.js";
import { CLASS_NAMES } from "./words.js";

const ON_LINE_BEATS = 1 / 16; // before a bar line, from which a stroke belongs to the bar

export class Repeats {
  constructor(actions) {
    this.actions = actions;
    this.dialog = byId("repeat-dialog");
    byId("repeat-form").addEventListener("submit", (event) => event.submitter?.value !== "close" && this.#repeat());
    byId("repeat-form").addEventListener("change", () => this.#draw());
  }

  /** Open the dialog for the bars that are selected or looped. */
  open() {
    const { doc, lane } = this.actions;
    if (!doc.isReady) return;
    const [first, last] = this.#bars();
    control("repeat-first").value = first + 1;
    control("repeat-bars").value = last - first + 1;
    byId("repeat-lane").textContent = `only the ${CLASS_NAMES[lane]} lane`;
    this.#draw();
    this.dialog.showModal();
  }

  /** Return the first and the last bar of what is selected, of the loop, or where the playhead is. */
  #bars() {
    const { doc, sound, chosen } = this.actions;
    const { grid } = doc;
    const barOf = (timeS, nudge) => Math.floor((grid.beatAt(timeS) + nudge) / grid.beatsPerBar);
    if (chosen.length > 1) return [barOf(chosen[0].onset_s, ON_LINE_BEATS), barOf(chosen.at(-1).onset_s, ON_LINE_BEATS)];
    const isPart = sound.loopS && sound.loopS[1] - sound.loopS[0] < doc.lengthS - ON_LINE_BEATS;
    if (!isPart) return Array(2).fill(barOf(sound.positionS, ON_LINE_BEATS));
    const first = barOf(sound.loopS[0], ON_LINE_BEATS);
    return [first, Math.max(first, barOf(sound.loopS[1], -ON_LINE_BEATS))];
  }

  get #how() {
    return new FormData(byId("repeat-form")).get("how");
  }

  #draw() {
    control("repeat-times").disabled = this.#how !== "times";
    control("repeat-every").disabled = this.#how !== "fill";
  }

  #repeat() {
    const { doc, lane } = this.actions;
    const { grid } = doc;
    const number = (name) => Math.round(Number(control(`repeat-${name}`).value));
    const [bar, nBars] = [number("first") - 1, Math.max(1, number("bars"))];
    const left = Math.ceil(grid.beatAt(doc.lengthS) / grid.beatsPerBar - ON_LINE_BEATS) - bar - nBars;
    const toEnd = Math.max(1, Math.ceil(left / nBars));
    const about = { bar, n_bars: nBars, prefix: newId(), ...(control("repeat-only").checked && { classes: [lane] }) };
    const times = this.#how === "times" ? Math.max(1, number("times")) : toEnd;
    doc.edit([this.#how === "fill" ? { op: "fill", ...about, every: number("every") } : { op: "repeat", ...about, times }]);
  }
}
