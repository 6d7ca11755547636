// The state of everything in words: what is going on, what just happened, and what is wrong.

import { byId, setText } from "./dom.js";
import { sentence, stageName } from "./words.js";

const MODES = { edit: "The recording, edited", replay: "Its kit plays a rhythm" };
const HINTS = {
  played: "Edits change what plays: click a stroke, drag it, double-click a lane to draw.",
  detected: "Say what is in the recording: relabel, shift, dismiss, add. It changes how strokes are cut, not what plays.",
};
const MESSAGE_MS = 9000;

export class Status {
  #timer = 0;
  #message = ""; // what just happened
  #noted = ""; // the last note on what was rendered
  #crowded = "";
  #closed = new Set(); // notices that the user has closed

  constructor(actions) {
    this.actions = actions;
    this.isGone = false; // the server does not answer
    this.progress = null; // {stage, fraction} of what takes long
    this.troubles = new Map(); // sentences by what they are about
    byId("notice-close").addEventListener("click", () => {
      this.#closed.add(byId("notice-text").textContent);
      this.draw();
    });
  }

  /** Show a sentence for some seconds. */
  say(text) {
    this.#message = text;
    clearTimeout(this.#timer);
    if (text) this.#timer = setTimeout(() => this.say(""), MESSAGE_MS);
    this.draw();
  }

  /** Show a note on what was rendered: once, and not in the place of what just happened. */
  note(text) {
    if (this.#message || text === this.#noted) return;
    this.#noted = text;
    this.say(text);
  }

  /** Say that more strokes are in view than can be taken hold of; 0: no longer. */
  crowd(n) {
    const text = n ? `${n.toLocaleString("en")} strokes are in view; zoom in to take hold of each.` : "";
    const wasSaid = this.#crowded && this.#message === this.#crowded;
    this.#crowded = text;
    if (text || wasSaid) this.say(text);
  }

  /** Show what is wrong until it is no more; null: it is no more. */
  trouble(about, text) {
    if (text !== this.troubles.get(about)) this.#closed.delete(this.troubles.get(about));
    if (text) this.troubles.set(about, text);
    else this.troubles.delete(about);
    this.draw();
  }

  draw() {
    const { doc, sound } = this.actions;
    const [state, isBusy] = this.#state();
    const { body } = document;
    setText("state", state);
    setText("message", this.#message || (doc.isReady ? HINTS[this.actions.layer] : ""));
    byId("message").title = byId("message").textContent;
    body.toggleAttribute("data-busy", isBusy);
    body.toggleAttribute("data-trouble", this.isGone || doc.facts.state === "failed");
    body.dataset.state = this.isGone ? "gone" : doc.facts.state;
    body.dataset.version = doc.version ?? "";
    body.dataset.audioVersion = sound.version ?? "";
    body.dataset.audibleVersion = sound.audible ?? "";
    const text = doc.version === null ? "" : `${MODES[doc.mode]}, ${count(doc.strokes("played").length, "stroke")}, version ${doc.version}`;
    setText("version", text);
    byId("no-drums").hidden = !(doc.isReady && !doc.strokes("detected").length && !doc.strokes("played").length);
    this.#drawNotice();
  }

  /** Return what is going on in words, and whether the user waits for it. */
  #state() {
    const { doc, sound } = this.actions;
    const { facts } = doc;
    if (this.isGone) return ["The editor's server does not answer", false];
    if (facts.state === "failed") return ["The recording could not be opened", false];
    if (this.progress) {
      const { stage, fraction } = this.progress;
      return [stageName(stage) + (fraction ? `: ${Math.round(100 * fraction)} %` : ""), true];
    }
    if (facts.state === "empty") return ["Nothing is open yet", false];
    if (!doc.isReady) return ["Opening the recording", true];
    if (doc.nUnstored) return ["Storing the edit", true];
    if (this.troubles.has("render")) return ["This version cannot be rendered", false];
    if (sound.rendered === null || sound.rendered < doc.version) return [`Rendering version ${doc.version}`, true];
    if (sound.isPlaying && sound.isWaiting) return ["Waiting for sound", true];
    if (sound.isPlaying && sound.which === "take" && sound.audible !== null && sound.audible < sound.version) {
      return [`Version ${sound.version} begins at the next bar`, false];
    }
    if (sound.which === "take") return ["Ready; every edit is stored", false];
    return [sound.which === "source" ? "The source is audible" : `Version ${sound.which} is audible`, false];
  }

  #drawNotice() {
    const { doc, sound } = this.actions;
    const troubles = [
      this.isGone && this.troubles.get("server"),
      doc.facts.state === "failed" && sentence(doc.facts),
      this.troubles.get("source"),
      this.troubles.get("render"),
      sound.isBlocked && "The browser lets no sound begin before you click or press a key on this page: do so, and it plays.",
      sound.error,
      this.troubles.get("send"),
      this.troubles.get("edit"),
      this.troubles.get("opening"),
      this.troubles.get("noted"),
    ];
    const text = troubles.find((trouble) => trouble && !this.#closed.has(trouble)) || "";
    byId("notice").hidden = !text;
    setText("notice-text", text);
  }
}

function count(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}
