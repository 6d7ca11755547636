// What a user does to strokes, to all that are selected, whichever key, button or gesture it comes from.
//
// The lanes show one of two layers. In "played" edits change what plays; in "detected" they correct what is in the
// recording, which changes how strokes are cut.

import { Selection } from "./selection.js";
import { CLASSES, midiVelocity, sentence } from "./words.js";

const USUAL_VELOCITY = 0.8; // in a lane without strokes
const ACCENT = 120 / 127;
const GHOST = 36 / 127;
const FREE_STEP_S = 0.001;
const VELOCITY_STEP = 5; // of MIDI's 127
const LAST_S = 1e-4; // before the end, where the last stroke may lie
const MOST_EDITS = 10_000; // that the server takes at once
const SAME_S = 0.005; // a copy this near to a stroke of its class is the same one

export class StrokeEdits extends EventTarget {
  #copied = []; // strokes with `beat`, counted from the line nearest to the first

  constructor(doc, sound, view) {
    super();
    Object.assign(this, { doc, sound, view });
    this.layer = "played";
    this.snapBeats = 0.25;
    this.selection = new Selection();
    this.previews = new Map(); // strokes that are being changed, as they will be, by id
    this.lane = "KD"; // where a stroke is drawn
  }

  get selectedId() {
    return this.selection.primary;
  }

  /** The stroke that the keyboard is at. */
  get selected() {
    return this.selectedId === null ? undefined : this.doc.stroke(this.layer, this.selectedId);
  }

  /** All that are selected, in order of time. */
  get chosen() {
    const found = [...this.selection].map((id) => this.doc.stroke(this.layer, id)).filter(Boolean);
    return found.sort((a, b) => a.onset_s - b.onset_s);
  }

  /** The strokes that the lanes show. */
  get strokes() {
    const strokes = this.doc.strokes(this.layer);
    if (!this.previews.size) return strokes;
    let isMoved = false;
    const shown = strokes.map((stroke) => {
      const preview = this.previews.get(stroke.id) ?? stroke;
      isMoved ||= preview.onset_s !== stroke.onset_s;
      return preview;
    });
    return isMoved ? shown.sort((a, b) => a.onset_s - b.onset_s) : shown;
  }

  get endS() {
    return (this.layer === "played" ? this.doc.lengthS : this.doc.facts.source?.duration_s) || 0;
  }

  select(id, isAdded = false) {
    this.selectAll(id === null ? [] : [id], isAdded);
  }

  /** Select strokes by their ids; the last one is what the keyboard is at. */
  selectAll(ids, isAdded = false) {
    this.selection.set(ids, isAdded);
    this.#followSelected();
  }

  toggle(id) {
    this.selection.toggle(id);
    this.#followSelected();
  }

  /** Select all strokes, or all of the present lane; in the loop where it is not everything. */
  selectEverything(isLane) {
    const [startS, stopS] = this.sound.loopS ?? [0, Infinity];
    const found = this.strokes.filter((s) => s.onset_s >= startS && s.onset_s < stopS && (!isLane || s.class === this.lane));
    this.selectAll(found.map((stroke) => stroke.id));
    this.say(`${count(found.length)} selected.`);
  }

  setLayer(layer) {
    this.layer = layer;
    this.previews.clear();
    this.selection.retain((id) => this.doc.stroke(layer, id));
    this.changed();
  }

  snap(timeS, isFree = false) {
    return this.#within(isFree ? timeS : this.doc.grid.snap(timeS, this.snapBeats));
  }

  // New strokes.

  /** Draw a stroke and play its sound. */
  draw(drumClass, timeS, isFree = false) {
    if (!this.doc.isReady) return;
    this.add([{ class: drumClass, onset_s: this.snap(timeS, isFree), velocity: this.usualVelocity(drumClass), articulation: "" }]);
    this.playHit(this.selectedId);
  }

  /** Return the median velocity of a lane, which new strokes of it get. */
  usualVelocity(drumClass) {
    const played = this.doc.strokes("played").filter((stroke) => stroke.class === drumClass);
    const velocities = played.map((stroke) => stroke.velocity).sort((a, b) => a - b);
    return velocities[Math.floor(velocities.length / 2)] ?? USUAL_VELOCITY;
  }

  /** Add strokes where their lane has none yet, and select them; one with an id is a copy, and sounds like that stroke. */
  add(strokes) {
    const taken = this.doc.strokes(this.layer);
    const isFree = (stroke) => !taken.some((s) => s.class === stroke.class && Math.abs(s.onset_s - stroke.onset_s) < SAME_S);
    const op = this.layer === "played" ? "add" : "detect";
    const added = strokes.filter(isFree).map(({ id, like = id, ...stroke }) => ({
      op, ...stroke, id: newId(), ...(op === "add" && like && { like }),
    }));
    if (!added.length) return this.say("There is a stroke already.");
    if (this.#edit(added)) this.selectAll(added.map((stroke) => stroke.id));
  }

  // Changes. Each is one step, of all that are selected.

  /** Let strokes be as given, by their ids. */
  become(strokes) {
    const edits = strokes.flatMap((after) => this.#changes(this.doc.stroke(this.layer, after.id), after));
    if (edits.length) this.#edit(edits);
  }

  /** Return strokes moved in time together, so that one of them comes to lie at a time. */
  shifted(strokes, grabbed, toS) {
    const { grid } = this.doc;
    const beats = strokes.map((stroke) => grid.beatAt(stroke.onset_s));
    const wanted = grid.beatAt(toS) - grid.beatAt(grabbed.onset_s);
    const [least, most] = [grid.beatAt(0) - Math.min(...beats), grid.beatAt(this.endS - LAST_S) - Math.max(...beats)];
    const shift = Math.min(Math.max(wanted, least), most);
    const place = (stroke, i) => (stroke.id === grabbed.id && shift === wanted ? toS : grid.timeOf(beats[i] + shift));
    return strokes.map((stroke, i) => ({ ...stroke, onset_s: this.#within(place(stroke, i)) }));
  }

  /** Move what is selected to the next line of the grid, or by a millisecond. */
  nudge(direction, isFree) {
    const stroke = this.selected;
    if (!stroke) return;
    const { grid } = this.doc;
    const step = this.snapBeats || 0.25;
    const timeS = isFree ? stroke.onset_s + direction * FREE_STEP_S : grid.next(stroke.onset_s, step, direction);
    this.become(this.shifted(this.chosen, stroke, this.snap(timeS, true)));
  }

  /** Let what is selected be of another class. */
  relabel(drumClass) {
    this.become(this.chosen.map((stroke) => ({ ...stroke, class: drumClass, articulation: kindOf(stroke, drumClass) })));
    this.lane = this.selected?.class ?? this.lane;
  }

  /** Set velocities of what is selected: `change` is given each as MIDI has it, with its number. */
  setVelocities(change) {
    if (this.layer === "detected") {
      this.say("A velocity is what was detected; switch to What plays to change how loud a stroke plays.");
      return;
    }
    const limited = (velocity) => Math.min(1, Math.max(1 / 127, velocity));
    this.become(this.chosen.map((stroke, i) => ({ ...stroke, velocity: limited(change(stroke, i)) })));
  }

  setVelocity(velocity) {
    this.setVelocities(() => velocity);
  }

  changeVelocity(direction) {
    this.setVelocities((stroke) => (midiVelocity(stroke.velocity) + direction * VELOCITY_STEP) / 127);
  }

  /** Let what is selected be louder or softer in proportion. */
  scaleVelocities(factor) {
    this.setVelocities((stroke) => stroke.velocity * factor);
  }

  accent() {
    this.setVelocities(() => ACCENT);
  }

  ghost() {
    this.setVelocities(() => GHOST);
  }

  /** Let velocities go in a line from the first that is selected to the last. */
  ramp() {
    const { chosen } = this;
    if (chosen.length < 3) return this.say("Select three strokes or more: their velocities go from the first's to the last's.");
    const [first, last] = [chosen[0], chosen.at(-1)];
    const at = (stroke) => (stroke.onset_s - first.onset_s) / Math.max(last.onset_s - first.onset_s, 1e-9);
    this.setVelocities((stroke) => first.velocity + at(stroke) * (last.velocity - first.velocity));
  }

  /** Set the articulation of what is selected in the lane that the keyboard is in. */
  setArticulation(articulation) {
    const drumClass = this.selected?.class;
    const own = this.chosen.filter((stroke) => stroke.class === drumClass && stroke.articulation !== articulation);
    if (!own.length) return;
    this.become(own.map((stroke) => ({ ...stroke, articulation })));
    this.playHit(this.selectedId);
  }

  nextArticulation() {
    const stroke = this.selected;
    if (!stroke) return;
    const names = this.doc.facts.articulations[stroke.class];
    this.setArticulation(names[(names.indexOf(stroke.articulation) + 1) % names.length]);
  }

  /** Set an articulation by its place in the list; beyond it nothing happens. */
  setArticulationAt(place) {
    const name = this.selected && this.doc.facts.articulations[this.selected.class][place];
    if (name !== undefined) this.setArticulation(name);
  }

  /** Delete what plays, or dismiss what was detected; of one stroke, the next of the lane is selected. */
  remove() {
    const { chosen, selected } = this;
    if (!chosen.length) return;
    const lane = this.strokes.filter((other) => other.class === selected.class);
    const at = lane.findIndex((other) => other.id === selected.id);
    const next = chosen.length === 1 ? lane[at + 1] || lane[at - 1] : null;
    const op = this.layer === "played" ? "delete" : "dismiss";
    if (this.#edit(chosen.map(({ id }) => ({ op, id })))) this.select(next ? next.id : null);
  }

  // Copies.

  copy() {
    const { chosen } = this;
    if (!chosen.length) return this.say("Select the strokes to copy first.");
    const { grid } = this.doc;
    const step = this.snapBeats || 0.25;
    const anchor = Math.round(grid.beatAt(chosen[0].onset_s) / step) * step;
    this.#copied = chosen.map((stroke) => ({ ...stroke, beat: grid.beatAt(stroke.onset_s) - anchor }));
    this.say(`${count(chosen.length)} copied; Ctrl + V puts them at the playhead.`);
  }

  cut() {
    this.copy();
    this.remove();
  }

  /** Put copies at the playhead. */
  paste() {
    if (!this.#copied.length) return this.say("Nothing was copied yet.");
    const { grid } = this.doc;
    this.#addAt(this.#copied, grid.beatAt(this.snap(this.sound.positionS)));
  }

  /** Play what is selected once more, right after: in the next beat, or the next bars. */
  duplicate() {
    const { chosen } = this;
    if (!chosen.length) return this.say("Select the strokes to duplicate first.");
    const { grid } = this.doc;
    const beats = chosen.map((stroke) => grid.beatAt(stroke.onset_s));
    this.#addAt(chosen.map((stroke, i) => ({ ...stroke, beat: beats[i] })), lengthOf(beats, grid.beatsPerBar));
  }

  #addAt(strokes, beat) {
    const { grid } = this.doc;
    const placed = strokes.map(({ beat: from, ...stroke }) => ({ ...stroke, onset_s: grid.timeOf(beat + from) }));
    const inside = placed.filter((stroke) => stroke.onset_s >= 0 && stroke.onset_s < this.endS);
    if (!inside.length) return this.say("There is no room left before the end.");
    this.add(inside);
    this.view.reveal(inside[0].onset_s);
  }

  async playHit(id) {
    await this.doc.settle();
    try {
      await this.sound.playHit(id, this.doc.version);
    } catch (error) {
      if (error.status !== 409) this.say(sentence(error));
    }
  }

  /** Select the stroke before or after in the lane, or the nearest one of a lane above or below. */
  step(along, across) {
    const from = this.selected;
    if (!from) return false;
    let next;
    if (along) {
      const lane = this.strokes.filter((stroke) => stroke.class === from.class);
      next = lane[lane.findIndex((stroke) => stroke.id === from.id) + along];
    }
    for (let i = CLASSES.indexOf(from.class) + across; across && !next && i in CLASSES; i += across) {
      const lane = this.strokes.filter((stroke) => stroke.class === CLASSES[i]);
      const far = (stroke) => Math.abs(stroke.onset_s - from.onset_s);
      next = lane.reduce((best, stroke) => (!best || far(stroke) < far(best) ? stroke : best), undefined);
    }
    if (!next) return false;
    this.select(next.id);
    this.view.reveal(next.onset_s);
    return true;
  }

  say(text) {
    this.dispatchEvent(new CustomEvent("message", { detail: text }));
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  #followSelected() {
    if (this.selected) this.lane = this.selected.class;
    this.changed();
  }

  #within(timeS) {
    return Math.min(Math.max(timeS, 0), Math.max(0, this.endS - LAST_S));
  }

  #edit(edits) {
    if (edits.length > MOST_EDITS) {
      this.say(`These are ${edits.length.toLocaleString("en")} changes at once; select fewer strokes.`);
      return false;
    }
    this.doc.edit(edits);
    return true;
  }

  /** Return the edits that make a stroke another one. */
  #changes(before, after) {
    if (!before) return [];
    const { id } = after;
    const isOther = after.class !== before.class;
    const named = { class: after.class, articulation: after.articulation };
    const isNamed = isOther || after.articulation !== before.articulation;
    const isMoved = after.onset_s !== before.onset_s;
    if (this.layer === "detected") {
      const edits = isMoved ? [{ op: "shift", id, onset_s: after.onset_s }] : [];
      return isNamed ? [...edits, { op: "relabel", id, ...named }] : edits;
    }
    const edits = isMoved ? [{ op: "move", id, onset_s: after.onset_s }] : [];
    const set = { ...(isNamed && named), ...(after.velocity !== before.velocity && { velocity: after.velocity }) };
    return Object.keys(set).length ? [...edits, { op: "set", id, ...set }] : edits;
  }
}

/** Return the id of a new stroke. */
export const newId = () => `n-${crypto.randomUUID()}`;

/** Return a stroke's articulation in a class: that of another class is none of it. */
const kindOf = (stroke, drumClass) => (stroke.class === drumClass ? stroke.articulation : "");

/** Return a number of strokes in words. */
export const count = (n) => `${n.toLocaleString("en")} ${n === 1 ? "stroke" : "strokes"}`;

/** Return how long strokes at these beats are as a pattern: a beat, or whole bars. */
function lengthOf(beats, beatsPerBar) {
  const onLine = 1e-6;
  const [first, last] = [beats[0] + onLine, beats.at(-1) + onLine];
  if (Math.floor(first) === Math.floor(last)) return 1;
  return (Math.floor(last / beatsPerBar) - Math.floor(first / beatsPerBar) + 1) * beatsPerBar;
}
