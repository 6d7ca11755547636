// The page's copy of the document: what the server has acknowledged, and over it the edits that are on their way.
//
// Requests go one after the other. Each bears the version that it was made of; where another tab was faster, the
// copy is loaded anew and the edit is made once more.

import { ApiError } from "./api.js";
import { Grid } from "./grid.js";

export class EditorDocument extends EventTarget {
  #api;
  #confirmed = { played: new Map(), detected: new Map() };
  #pending = []; // edits that the server has not acknowledged
  #sorted = {};
  #queue = Promise.resolve();
  #nInFlight = 0;
  #isHeld = false; // what is shown stays as it is

  constructor(api) {
    super();
    this.#api = api;
    this.facts = { state: "opening" };
    this.version = null;
    this.canUndo = this.canRedo = false;
    this.grid = new Grid({ tempo: [[0, 120]], beats_per_bar: 4, downbeat_s: 0 });
  }

  get isReady() {
    return this.facts.state === "ready";
  }

  get nUnstored() {
    return this.#nInFlight;
  }

  /** Load everything. */
  async load() {
    const facts = await this.#api.get("session");
    this.facts = facts;
    if (facts.version !== undefined) {
      this.#confirmed = { played: byId(facts.events), detected: byId(facts.detected) };
      this.#takeFields(facts);
      this.#takeHistory(facts);
    }
    this.#changed();
  }

  /** Return the strokes of a layer ("played" or "detected") in order of time. */
  strokes(layer) {
    this.#sorted[layer] ??= [...this.#shown()[layer].values()].sort((a, b) => a.onset_s - b.onset_s);
    return this.#sorted[layer];
  }

  stroke(layer, id) {
    return this.#shown()[layer].get(id);
  }

  /** Return whether a stroke plays as it was detected. */
  isUntouched(stroke) {
    const other = this.#shown().detected.get(stroke.id);
    return Boolean(other) && Object.keys(stroke).every((name) => stroke[name] === other[name]);
  }

  /** Make edits, all or none; they show at once. Resolves to whether they made a step. */
  edit(edits) {
    this.#pending.push(edits);
    this.#changed();
    return this.#send("edits", { edits }, edits);
  }

  /** Take one step back and make edits in its place, without showing what is between; as `edit`. */
  async remake(edits) {
    this.#isHeld = true;
    await this.#send("undo", {});
    this.#isHeld = false;
    if (edits.length) return this.edit(edits);
    this.#changed();
    return false;
  }

  undo() {
    return this.#send("undo", {});
  }

  redo() {
    return this.#send("redo", {});
  }

  changeSettings(settings) {
    return this.#send("settings", settings);
  }

  changeGrid(change) {
    return this.#send("document", change);
  }

  /** Let a file that was dropped play; raises ApiError where it cannot. */
  import(file, placing) {
    return this.#upload("import", file, placing);
  }

  /** Let the hits of a recording join the kit of the newest version; raises ApiError where there are none. */
  async addToKit(file, signal) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#upload("kit", file, {}, signal);
      } catch (error) {
        if (error.status !== 409 || attempt > 4) throw error;
        await this.load();
      }
    }
  }

  async #upload(path, file, more = {}, signal = null) {
    const query = new URLSearchParams({ version: this.version, name: file.name, ...more });
    try {
      await this.#take(await this.#api.upload(`${path}?${query}`, file, signal));
    } finally {
      this.dispatchEvent(new Event("answered"));
    }
  }

  /** Go on from a version that is compared. */
  restore(slot) {
    return this.#send("compare", { slot, do: "restore" });
  }

  /** Return once the server has answered all that was sent so far. */
  async settle() {
    await this.#queue;
  }

  /** Take a step over that the event stream reports. */
  async receive(step) {
    const isOthers = this.#nInFlight === 0 && this.version !== null && step.version > this.version;
    await this.#take(step);
    if (isOthers) this.#say("Another tab changed this; you see its newest version.");
  }

  #send(path, body, edits = null) {
    this.#nInFlight += 1;
    const sent = this.#queue.then(() => this.#sendNow(path, body, edits));
    this.#queue = sent.catch(() => {});
    return this.#queue;
  }

  async #sendNow(path, body, edits) {
    const before = this.version;
    try {
      const answer = await this.#posted(path, body, edits);
      if (answer) await this.#take(answer);
      return Boolean(answer) && this.version !== before;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.dispatchEvent(new CustomEvent("refused", { detail: { error, isEdit: Boolean(edits) } }));
      return false;
    } finally {
      this.#nInFlight -= 1;
      this.dispatchEvent(new Event("answered"));
      if (edits) this.#pending.splice(this.#pending.indexOf(edits), 1);
      this.#changed();
    }
  }

  /** Return the answer to a step; null where another tab was faster and the step cannot be made again. */
  async #posted(path, body, edits) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#api.post(path, { version: this.version, ...body });
      } catch (error) {
        if (error.status !== 409 || attempt > 4) throw error;
        await this.load();
        if (!edits) {
          this.#say("Another tab changed this meanwhile. You see its newest version; press again if you still want to.");
          return null;
        }
        this.#say("Another tab changed this meanwhile; your edit was made on its newest version.");
      }
    }
  }

  async #take(step) {
    if (this.version === null || step.version > this.version + 1 || (step.version > this.version && !step.changes)) {
      await this.load();
    } else if (step.version === this.version + 1) {
      for (const [layer, name] of [["played", "events"], ["detected", "detected"]]) {
        for (const [id, stroke] of Object.entries(step.changes[name] || {})) {
          if (stroke) this.#confirmed[layer].set(id, stroke);
          else this.#confirmed[layer].delete(id);
        }
      }
      this.#takeFields(step.changes);
      this.#takeHistory(step);
      this.#changed();
    } else if (step.version === this.version) {
      this.#takeHistory(step);
      this.#changed();
    }
  }

  #takeHistory({ version, can_undo, can_redo }) {
    Object.assign(this, { version, canUndo: can_undo, canRedo: can_redo });
  }

  #takeFields({ mode, length_s, grid, sensitivity, lanes, sound }) {
    if (mode !== undefined) this.mode = mode;
    if (length_s !== undefined) this.lengthS = length_s;
    if (grid !== undefined) this.grid = new Grid(grid);
    if (lanes !== undefined) this.lanes = lanes;
    if (sound !== undefined) this.sound = sound;
    if (sensitivity !== undefined) this.sensitivity = sensitivity;
  }

  #shown() {
    this.#sorted.layers ??= this.#pending.length ? this.#withPending() : this.#confirmed;
    return this.#sorted.layers;
  }

  #withPending() {
    const layers = { played: new Map(this.#confirmed.played), detected: new Map(this.#confirmed.detected) };
    for (const edits of this.#pending) for (const edit of edits) applyEdit(layers, edit, this.mode);
    return layers;
  }

  #changed() {
    if (this.#isHeld) return;
    this.#sorted = {};
    this.dispatchEvent(new Event("change"));
  }

  #say(text) {
    this.dispatchEvent(new CustomEvent("message", { detail: text }));
  }
}

/** Do to layers what the server will do, so that an edit shows before its answer; what is of many strokes waits. */
function applyEdit({ played, detected }, { op, ...edit }, mode) {
  const { id } = edit;
  if (op === "add") {
    if (!played.has(id)) played.set(id, edit);
  } else if (op === "move" || op === "set") {
    if (played.has(id)) played.set(id, changed(played.get(id), edit));
  } else if (op === "delete") {
    played.delete(id);
  } else if (op === "dismiss") {
    detected.delete(id);
    played.delete(id);
  } else if (op === "detect") {
    detected.set(id, edit);
    if (mode === "edit") played.set(id, edit);
  } else if ((op === "relabel" || op === "shift") && detected.has(id)) {
    const before = detected.get(id);
    const plays = played.get(id);
    detected.set(id, changed(before, edit));
    if (plays && plays.class === before.class && plays.onset_s === before.onset_s) played.set(id, changed(plays, edit));
  }
}

function changed(stroke, edit) {
  const isOther = edit.class !== undefined && edit.class !== stroke.class;
  return { ...stroke, ...(isOther ? { articulation: "" } : {}), ...edit };
}

function byId(strokes) {
  return new Map(strokes.map((stroke) => [stroke.id, stroke]));
}
