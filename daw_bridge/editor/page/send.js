// Sends the take to the DAW that the editor was opened from; the page stays open for more.

import { control } from "./dom.js";
import { sentence, sentences } from "./words.js";

export class Sender {
  #api;
  #isSending = false;

  constructor(api, actions, status) {
    this.#api = api;
    Object.assign(this, { actions, status });
    control("send").addEventListener("click", () => this.send());
  }

  /** What the DAW is called; null without one. */
  get host() {
    return this.actions.doc.facts.host ?? null;
  }

  draw() {
    const { doc } = this.actions;
    document.body.toggleAttribute("data-host", Boolean(this.host));
    if (this.host) control("send").textContent = `Send to ${this.host}`;
    control("send").disabled = !this.host || !doc.isReady || this.#isSending;
  }

  async send() {
    const { doc } = this.actions;
    if (this.#isSending || !doc.isReady || !this.host) return;
    this.#isSending = true;
    this.status.trouble("send", null);
    this.actions.say(`Sending to ${this.host}`);
    this.draw();
    try {
      await doc.settle();
      const sent = await this.#api.post("send", { version: doc.version });
      this.actions.say(`The take is on a new track in ${sent.host}, as one undo step there. ${sentences(sent.notes || [])}`);
    } catch (error) {
      this.status.trouble("send", sentence(error));
    } finally {
      this.#isSending = false;
      this.draw();
    }
  }
}
