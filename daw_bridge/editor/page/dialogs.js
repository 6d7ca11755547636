// The dialogs: what is exported, and the sheet of keys.

import { byId, control } from "./dom.js";
import { fillSheet } from "./key-sheet.js";
import { sentence, sentences } from "./words.js";

const ENDINGS = { wav: "_edited.wav", stems: "_stems", midi: "_edited.mid", kit: "_kit", rhythm: "", session: "_session.json" };
const OF_ONE = ["stems", "kit", "session"]; // which several microphones do not have

export class Dialogs {
  #api;
  #isTyped = false; // the name is the user's own

  constructor(api, doc) {
    this.#api = api;
    this.doc = doc;
    this.form = byId("export-form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#write(false);
    });
    this.form.addEventListener("change", ({ target }) => target.name === "what" && this.#propose());
    byId("export-name").addEventListener("input", () => {
      this.#isTyped = true;
      this.#report("");
    });
    byId("export-replace").addEventListener("click", () => this.#write(true));
    byId("export-close").addEventListener("click", () => byId("export-dialog").close());
    fillSheet(byId("key-sheet"));
  }

  openExport() {
    if (!this.doc.isReady) return;
    this.#isTyped = false;
    for (const what of OF_ONE) control(`export-${what}`).closest("label").hidden = this.#isOfMicrophones;
    this.#propose();
    byId("export-dialog").showModal();
  }

  openHelp() {
    byId("help-dialog").showModal();
  }

  get #what() {
    return new FormData(this.form).get("what");
  }

  get #isOfMicrophones() {
    return Boolean(this.doc.facts.source.microphones);
  }

  #propose() {
    const { source, folder } = this.doc.facts;
    const what = this.#what;
    const stem = source.name.replace(/^\.+|[/\\:]/g, "") || "recording";
    const rhythm = `${stem.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 40) || "my"}-edited`;
    if (!this.#isTyped) byId("export-name").value = what === "rhythm" ? rhythm : stem + (what === "wav" && this.#isOfMicrophones ? "_edited" : ENDINGS[what]);
    byId("export-folder").textContent =
      what === "rhythm" ? "It will be in the list of redrum rhythms." : `In the folder ${folder}`;
    this.#report("");
  }

  async #write(overwrite) {
    const what = this.#what;
    const buttons = this.form.querySelectorAll(".buttons button");
    this.#report("Writing");
    for (const button of buttons) button.disabled = true;
    try {
      await this.doc.settle();
      const body = { version: this.doc.version, what, path: byId("export-name").value.trim(), overwrite };
      const written = await this.#api.post("export", body);
      this.#report(`Written: ${written.path}. ${sentences(written.notes || [])}`);
    } catch (error) {
      const isThere = error.status === 409 && error.version === undefined;
      this.#report(sentence(error), isThere && what !== "rhythm");
    } finally {
      for (const button of buttons) button.disabled = false;
      if (!this.form.contains(document.activeElement)) control("export-write").focus();
    }
  }

  #report(text, mayReplace = false) {
    byId("export-result").textContent = text;
    byId("export-replace").hidden = !mayReplace;
  }
}
