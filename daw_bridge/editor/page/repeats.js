// Bars that play again: so often, to the end, or as a fill at the end of every so many bars.

import { byId, control } from "./dom.js";
import { newId } from "./stroke-edits.js";
import { CLASSES, CLASS_NAMES } from "./words.js";

const ON_LINE_BEATS = 1 / 16; // before a bar line, from which a stroke belongs to the bar

export class Repeats {
  constructor(actions) {
    this.actions = actions;
    this.dialog = byId("repeat-dialog");
    byId("repeat-form").addEventListener("submit", (event) => event.submitter?.value !== "close" && this.#repeat());
    byId("repeat-form").addEventListener("input", () => this.#draw());
  }

  /** Open the dialog for the bars that are selected or looped. */
  open() {
    const { doc, lane } = this.actions;
    if (!doc.isReady) return;
    const [first, last] = this.#bars();
    control("repeat-first").value = first + 1;
    control("repeat-bars").value = last - first + 1;
    control("repeat-only").checked = false;
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
    this.#check();
  }

  /** Return the first bar of what plays, and the one after its last. */
  #range() {
    const { doc } = this.actions;
    const { grid } = doc;
    const barAt = (timeS) => grid.beatAt(timeS) / grid.beatsPerBar;
    return [Math.floor(barAt(0) + ON_LINE_BEATS / grid.beatsPerBar), Math.ceil(barAt(doc.lengthS) - ON_LINE_BEATS)];
  }

  /** Return what is entered: bars from 0. */
  #entries() {
    const number = (name) => Math.round(Number(control(`repeat-${name}`).value));
    const classes = control("repeat-only").checked ? [this.actions.lane] : CLASSES;
    return { bar: number("first") - 1, nBars: number("bars"), times: number("times"), every: number("every"), classes };
  }

  /** Let the form refuse in words, and stay open with its entries, what lies outside or would do nothing. */
  #check() {
    const [start, end] = this.#range();
    const { bar, nBars, every } = this.#entries();
    const isFill = this.#how === "fill";
    Object.assign(control("repeat-first"), { min: start + 1, max: end });
    Object.assign(control("repeat-bars"), { max: Math.max(1, end - bar) });
    const places = [];
    for (let begin = every - nBars; every > 1 && begin < end; begin += every) places.push(begin);
    const hasPlace = places.some((begin) => Math.abs(begin - bar) >= nBars);
    const isLast = !isFill && bar + nBars >= end;
    refuse("first", this.#plays() ? isLast && "No bar follows these. Take earlier ones." : "Nothing plays in these bars. Take others.");
    const unfit = nBars >= every && `A fill of ${nBars} bars does not fit into ${every}. Take fewer bars, or more from fill to fill.`;
    refuse("every", unfit || (!hasPlace && `No other fill lies in ${end} bars. Take fewer bars from fill to fill.`));
  }

  /** Return whether anything plays in the bars that are entered. */
  #plays() {
    const { grid } = this.actions.doc;
    const { bar, nBars, classes } = this.#entries();
    const [begin, end] = [bar, bar + nBars].map((at) => at * grid.beatsPerBar - ON_LINE_BEATS);
    const isIn = (beat) => begin <= beat && beat < end;
    return this.actions.doc.strokes("played").some((s) => classes.includes(s.class) && isIn(grid.beatAt(s.onset_s)));
  }

  #repeat() {
    const { doc } = this.actions;
    const { bar, nBars, every, classes, ...entered } = this.#entries();
    const left = this.#range()[1] - bar - nBars;
    const about = { bar, n_bars: nBars, prefix: newId(), classes };
    const times = this.#how === "times" ? entered.times : Math.ceil(left / nBars);
    doc.edit([this.#how === "fill" ? { op: "fill", ...about, every } : { op: "repeat", ...about, times }]);
  }
}

/** Let a field of the form be refused with a sentence; none: it is in order. */
function refuse(name, text) {
  control(`repeat-${name}`).setCustomValidity(text || "");
}
