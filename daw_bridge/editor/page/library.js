// Other rhythms: those of the library, auditioned in the open recording's sound, and files that are dropped on the page.

import { byId, control } from "./dom.js";
import { CLASSES, sentence } from "./words.js";

const ALL = "";

export class Library {
  #api;
  #rhythms = null;
  #file = null; // that was dropped or chosen, instead of a rhythm of the library

  constructor(api, actions) {
    this.#api = api;
    this.actions = actions;
    this.dialog = byId("library-dialog");
    this.list = byId("library-list");
    control("library-style").addEventListener("change", () => this.#show());
    control("library-search").addEventListener("input", () => this.#show());
    control("library-audition").addEventListener("click", () => this.#audition());
    control("library-file").addEventListener("change", ({ target }) => target.files[0] && this.#takeFile(target.files[0]));
    this.list.addEventListener("change", () => {
      this.#file = null;
      this.#report("");
      this.#draw();
    });
    this.list.addEventListener("dblclick", () => this.#audition());
    this.dialog.addEventListener("change", () => this.#draw());
    this.dialog.addEventListener("close", () => this.actions.sound.stopAudition());
    byId("library-form").addEventListener("submit", (event) => {
      if (event.submitter?.value === "close") return;
      event.preventDefault();
      this.#use();
    });
    byId("library-form").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.closest("button")) return;
      event.preventDefault();
      this.#audition();
    });
  }

  /** Open the list; `file` is one that was dropped on the page. */
  async open(file = null) {
    const { doc } = this.actions;
    if (!doc.isReady) return;
    this.#file = null;
    this.#report("");
    if (!this.dialog.open) this.dialog.showModal();
    try {
      this.#rhythms ??= (await this.#api.get("rhythms")).rhythms;
    } catch (error) {
      return this.#report(sentence(error));
    }
    const styles = [...new Set(this.#rhythms.map((rhythm) => rhythm.style))].sort();
    control("library-style").replaceChildren(new Option("All styles", ALL), ...styles.map((name) => new Option(name, name)));
    this.#show();
    if (file) this.#takeFile(file);
  }

  get #name() {
    return this.list.value;
  }

  get #classes() {
    return CLASSES.filter((drumClass) => control(`library-${drumClass}`).checked);
  }

  #show() {
    const style = control("library-style").value;
    const words = control("library-search").value.toLowerCase().split(/\s+/);
    const isFound = (rhythm) =>
      (style === ALL || rhythm.style === style) && words.every((word) => `${rhythm.name} ${rhythm.style}`.includes(word));
    const found = this.#rhythms.filter(isFound);
    const text = ({ name, style, bpm, beats }) => [name, style || "your own", bpm ? `${Math.round(bpm)} BPM` : "no tempo", beats ? `${beats} beats` : ""].filter(Boolean).join(" · ");
    this.list.replaceChildren(...found.map((rhythm) => new Option(text(rhythm), rhythm.name)));
    if (found.length) this.list.selectedIndex = 0;
    this.#draw();
  }

  #draw() {
    const isChosen = Boolean(this.#file || this.#name) && this.#classes.length > 0;
    control("library-use").disabled = !isChosen;
    control("library-audition").disabled = Boolean(this.#file) || !this.#name;
    const isAll = this.#classes.length === CLASSES.length;
    byId("library-effect").textContent = isAll
      ? "It plays in the place of all that plays, on the recording's own drums."
      : "These lanes play it; the other lanes stay as they are.";
  }

  #takeFile(file) {
    this.#file = file;
    this.list.selectedIndex = -1;
    this.#report(`${file.name}: ${/\.midi?$/i.test(file.name) ? "its drums" : "it is transcribed, which takes a moment; correct it afterwards like anything else"}.`);
    this.#draw();
  }

  async #audition() {
    const name = this.#name;
    if (!name || this.#file) return;
    const { sound } = this.actions;
    if (sound.isPlaying) sound.pause();
    this.#report("Preparing ten seconds of it");
    try {
      const samples = await this.#api.samples("audition", { name });
      if (!this.dialog.open || this.#name !== name) return;
      await sound.audition(samples);
      this.#report("This is it on the drums of your recording, at your tempo.");
    } catch (error) {
      this.#report(sentence(error));
    }
  }

  async #use() {
    const { doc } = this.actions;
    const isAll = this.#classes.length === CLASSES.length;
    const placing = { tempo: control("library-tempo").value, length: control("library-length").value };
    if (!isAll) placing.classes = this.#classes.join(",");
    this.actions.sound.stopAudition();
    this.#report(this.#file ? "Reading it" : "");
    control("library-use").disabled = true;
    try {
      await doc.settle();
      if (this.#file) await doc.import(this.#file, placing);
      else await doc.changeGrid({ rhythm: this.#name, ...placing });
      this.dialog.close();
    } catch (error) {
      this.#report(sentence(error));
    } finally {
      this.#draw();
    }
  }

  #report(text) {
    byId("library-report").textContent = text;
  }
}

/** Call a function with the files that are dropped anywhere on the page; the page shows that it takes some. */
export function onDrop(take) {
  let depth = 0;
  const mark = (isOver) => document.body.toggleAttribute("data-dropping", isOver);
  addEventListener("dragenter", (event) => {
    depth += 1;
    mark(event.dataTransfer?.types.includes("Files"));
  });
  addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) mark(false);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    mark(false);
    take([...event.dataTransfer.files]);
  });
}
