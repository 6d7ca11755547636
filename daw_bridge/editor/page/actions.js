// What a user does to the grid, the sound and the whole, whichever key, button or gesture it comes from.

import { StrokeEdits, count } from "./stroke-edits.js";

const FREE_STEP_S = 0.01;
const TAPS_MS = 2000; // between two taps of a tempo, after which it begins anew
const SNAPS = [1.5, 1, 2 / 3, 0.75, 0.5, 1 / 3, 0.375, 0.25, 1 / 6, 0.125]; // beats, the coarsest first

export class Actions extends StrokeEdits {
  #taps = [];

  constructor(doc, sound, view) {
    super(doc, sound, view);
    this.lastLoopS = null; // the loop that was switched off
    this.tool = "select"; // or "draw"
  }

  setTool(tool) {
    this.tool = tool;
    this.say(tool === "draw" ? "Drag in a lane to paint strokes on the grid; a stroke that is touched goes." : "");
    this.changed();
  }

  /** Let the grid be finer, or coarser. */
  changeSnap(direction) {
    const at = SNAPS.findIndex((beats) => Math.abs(beats - this.snapBeats) < 1e-9);
    this.snapBeats = SNAPS[Math.min(Math.max(at < 0 ? SNAPS.indexOf(0.25) : at + direction, 0), SNAPS.length - 1)];
    this.changed();
  }

  // Everything at once.

  /** Return what edits of many are about: what is selected of what plays, else the loop, else everything. */
  inReach() {
    const played = this.doc.strokes("played");
    const selected = this.selection.size > 1 ? played.filter((stroke) => this.selection.has(stroke.id)) : [];
    const [startS, stopS] = this.sound.loopS ?? [0, Infinity];
    return selected.length ? selected : played.filter((s) => s.onset_s >= startS && s.onset_s < stopS);
  }

  /** Move what plays onto the grid: what is selected, the loop, or everything. */
  async quantise() {
    if (!this.snapBeats) return this.say("Choose a grid in Snap first.");
    const chosen = this.inReach();
    if (!chosen.length) return this.say("Nothing plays there that could be quantised.");
    const before = this.doc.strokes("played").length;
    const made = this.doc.edit([{ op: "quantise", step_beats: this.snapBeats, ids: chosen.map((stroke) => stroke.id) }]);
    const text = `${count(chosen.length)} moved onto the grid`;
    this.say(`${text}.`);
    const nMerged = (await made) ? before - this.doc.strokes("played").length : 0;
    if (nMerged > 0) this.say(`${text}; ${count(nMerged)} fell together with a louder one and went. Ctrl + Z takes it back.`);
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

  /** Let a lane be muted, soloed, or of a gain. */
  setLane(drumClass, change) {
    this.doc.changeSettings({ lanes: { [drumClass]: change } });
  }

  toggleLane(drumClass, what) {
    this.setLane(drumClass, { [what]: !(this.doc.lanes?.[drumClass]?.[what] ?? false) });
  }

  setSensitivity(drumClass, value) {
    this.doc.changeSettings({ sensitivity: { [drumClass]: value } });
  }

  // Sound.

  togglePlay() {
    if (this.doc.facts.state === "empty") return;
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
    const toS = isFree ? from + direction * FREE_STEP_S : grid.next(from, step, direction);
    this.sound.seek(toS);
    this.view.reveal(this.sound.positionS);
  }

  /** Zoom by a factor around the playhead, or around the middle where it is not in view. */
  zoom(factor) {
    const x = this.view.xOf(this.sound.positionS);
    this.view.zoom(factor, x >= 0 && x <= this.view.widthPx ? x : undefined);
  }

  goToStart() {
    this.sound.seek(0);
    this.view.reveal(0);
  }
}
