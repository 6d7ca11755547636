// What a user does, whichever key, button or gesture it comes from.
//
// The lanes show one of two layers. In "played" edits change what plays; in "detected" they correct what is in the
// recording, which changes how strokes are cut.

import { CLASSES, midiVelocity, sentence } from "./words.js";

const USUAL_VELOCITY = 0.8;
const FREE_STEP_S = 0.001;
const VELOCITY_STEP = 5; // of MIDI's 127
const TAPS_MS = 2000; // between two taps of a tempo, after which it begins anew
const LAST_S = 1e-4; // before the end, where the last stroke may lie

export class Actions extends EventTarget {
  #taps = [];

  constructor(doc, sound, view) {
    super();
    Object.assign(this, { doc, sound, view });
    this.layer = "played";
    this.snapBeats = 0.25;
    this.selectedId = null;
    this.preview = null; // the stroke that is being dragged, as it will be
    this.lastLoopS = null; // the loop that was switched off
    this.lane = "KD"; // where a stroke is drawn
  }

  get selected() {
    return this.selectedId === null ? undefined : this.doc.stroke(this.layer, this.selectedId);
  }

  /** The strokes that the lanes show. */
  get strokes() {
    const strokes = this.doc.strokes(this.layer);
    if (!this.preview) return strokes;
    const others = strokes.filter((stroke) => stroke.id !== this.preview.id);
    return [...others, this.preview].sort((a, b) => a.onset_s - b.onset_s);
  }

  get endS() {
    return (this.layer === "played" ? this.doc.lengthS : this.doc.facts.source?.duration_s) || 0;
  }

  select(id) {
    this.selectedId = id;
    const stroke = this.selected;
    if (stroke) this.lane = stroke.class;
    this.changed();
  }

  setLayer(layer) {
    this.layer = layer;
    this.preview = null;
    if (!this.selected) this.selectedId = null;
    this.changed();
  }

  snap(timeS, isFree = false) {
    const snapped = isFree ? timeS : this.doc.grid.snap(timeS, this.snapBeats);
    return Math.min(Math.max(snapped, 0), Math.max(0, this.endS - LAST_S));
  }

  // Strokes.

  /** Draw a stroke and play its sound. */
  draw(drumClass, timeS, isFree = false) {
    if (!this.doc.isReady) return;
    const id = `n-${crypto.randomUUID()}`;
    const stroke = { id, class: drumClass, onset_s: this.snap(timeS, isFree), velocity: USUAL_VELOCITY, articulation: "" };
    this.doc.edit([{ op: this.layer === "played" ? "add" : "detect", ...stroke }]);
    this.select(id);
    this.playHit(id);
  }

  /** Move a stroke in time, and to another lane. */
  move(id, onsetS, drumClass) {
    const stroke = this.doc.stroke(this.layer, id);
    if (!stroke || (stroke.onset_s === onsetS && stroke.class === drumClass)) return;
    const isOther = stroke.class !== drumClass;
    if (this.layer === "played") {
      this.doc.edit([{ op: "move", id, onset_s: onsetS, ...(isOther && { class: drumClass }) }]);
    } else {
      const edits = stroke.onset_s === onsetS ? [] : [{ op: "shift", id, onset_s: onsetS }];
      if (isOther) edits.push({ op: "relabel", id, class: drumClass });
      this.doc.edit(edits);
    }
    this.select(id);
  }

  /** Move the selected stroke to the next line of the grid, or by a millisecond. */
  nudge(direction, isFree) {
    const stroke = this.selected;
    if (!stroke) return;
    const { grid } = this.doc;
    const step = this.snapBeats || 0.25;
    const timeS = isFree ? stroke.onset_s + direction * FREE_STEP_S : grid.next(stroke.onset_s, step, direction);
    this.move(stroke.id, this.snap(timeS, true), stroke.class);
  }

  /** Let the selected stroke be of another class. */
  relabel(drumClass) {
    const stroke = this.selected;
    if (stroke) this.move(stroke.id, stroke.onset_s, drumClass);
  }

  setVelocity(id, velocity) {
    if (this.layer === "detected") {
      this.say("A velocity is what was detected; switch to What plays to change how loud a stroke plays.");
      return;
    }
    const stroke = this.doc.stroke(this.layer, id);
    const limited = Math.min(1, Math.max(1 / 127, velocity));
    if (stroke && stroke.velocity !== limited) this.doc.edit([{ op: "set", id, velocity: limited }]);
  }

  changeVelocity(direction) {
    const stroke = this.selected;
    if (stroke) this.setVelocity(stroke.id, (midiVelocity(stroke.velocity) + direction * VELOCITY_STEP) / 127);
  }

  setArticulation(articulation) {
    const stroke = this.selected;
    if (!stroke || stroke.articulation === articulation) return;
    const op = this.layer === "played" ? "set" : "relabel";
    this.doc.edit([{ op, id: stroke.id, class: stroke.class, articulation }]);
    this.playHit(stroke.id);
  }

  nextArticulation() {
    const stroke = this.selected;
    if (!stroke) return;
    const names = this.doc.facts.articulations[stroke.class];
    this.setArticulation(names[(names.indexOf(stroke.articulation) + 1) % names.length]);
  }

  /** Delete what plays, or dismiss what was detected; the next stroke of the lane is selected. */
  remove() {
    const stroke = this.selected;
    if (!stroke) return;
    const lane = this.strokes.filter((other) => other.class === stroke.class);
    const at = lane.findIndex((other) => other.id === stroke.id);
    const next = lane[at + 1] || lane[at - 1];
    this.doc.edit([{ op: this.layer === "played" ? "delete" : "dismiss", id: stroke.id }]);
    this.select(next ? next.id : null);
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

  // Everything at once.

  /** Move what plays onto the grid: in the loop, or everywhere. */
  quantise() {
    if (!this.snapBeats) return this.say("Choose a grid in Snap first.");
    const [startS, stopS] = this.sound.loopS ?? [0, Infinity];
    const chosen = this.doc.strokes("played").filter((s) => s.onset_s >= startS && s.onset_s < stopS);
    if (!chosen.length) return this.say("Nothing plays there that could be quantised.");
    this.doc.edit([{ op: "quantise", step_beats: this.snapBeats, ids: chosen.map((stroke) => stroke.id) }]);
    this.say(`${chosen.length.toLocaleString("en")} ${chosen.length === 1 ? "stroke" : "strokes"} moved onto the grid.`);
  }

  undo() {
    this.doc.undo();
  }

  redo() {
    this.doc.redo();
  }

  setGrid(change) {
    this.doc.changeGrid({ grid: change });
  }

  setTempo(bpm) {
    if (bpm >= 10 && bpm <= 1000) this.setGrid({ tempo: [[0, bpm]] });
    else this.say("A tempo is 10 to 1000 beats a minute.");
  }

  setDownbeat() {
    this.setGrid({ downbeat_s: this.sound.positionS });
  }

  /** Set the tempo by taps. */
  tap() {
    const now = performance.now();
    if (now - this.#taps.at(-1) > TAPS_MS) this.#taps = [];
    this.#taps.push(now);
    const n = this.#taps.length - 1;
    if (n < 3) return this.say(`Tap ${3 - n} more ${n === 2 ? "time" : "times"} for the tempo.`);
    const bpm = Math.round((60_000 * n * 10) / (now - this.#taps[0])) / 10;
    this.say(`${bpm} BPM`);
    this.setTempo(bpm);
  }

  setSensitivity(drumClass, value) {
    this.doc.changeSettings({ sensitivity: { [drumClass]: value } });
  }

  // Sound.

  togglePlay() {
    if (this.sound.isPlaying) this.sound.pause();
    else this.sound.play();
  }

  toggleSource() {
    this.sound.choose(this.sound.which === "take" ? "source" : "take");
  }

  toggleLoop() {
    const { loopS, lengthS } = this.sound;
    if (loopS) this.lastLoopS = loopS;
    this.sound.setLoop(loopS ? null : this.lastLoopS || [0, lengthS]);
  }

  setLoop(startS, stopS) {
    this.lastLoopS = [Math.max(0, startS), Math.min(stopS, this.sound.lengthS)];
    if (this.lastLoopS[1] - this.lastLoopS[0] > 0.02) this.sound.setLoop(this.lastLoopS);
  }

  /** Let the loop begin, or end, at the playhead. */
  setLoopEdge(which) {
    const [startS, stopS] = this.sound.loopS || this.lastLoopS || [0, this.sound.lengthS];
    const atS = this.snap(this.sound.positionS);
    if (which === "start") this.setLoop(atS, atS < stopS ? stopS : this.sound.lengthS);
    else this.setLoop(atS > startS ? startS : 0, atS);
  }

  /** Move the playhead to the next line of the grid. */
  movePlayhead(direction, isFree) {
    const { grid } = this.doc;
    const from = this.sound.positionS;
    const step = this.snapBeats || 0.25;
    const toS = isFree ? from + direction * 10 * FREE_STEP_S : grid.next(from, step, direction);
    this.sound.seek(toS);
    this.view.reveal(this.sound.positionS);
  }

  goToStart() {
    this.sound.seek(0);
    this.view.reveal(0);
  }

  say(text) {
    this.dispatchEvent(new CustomEvent("message", { detail: text }));
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}
