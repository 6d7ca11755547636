// A menu at the pointer, or at what has the keyboard: a right click, a long touch, the menu key or Shift + F10.

import { byId } from "./dom.js";
import { CLASSES, CLASS_NAMES } from "./words.js";

export class Menu {
  #items = [];
  #before = null; // what had the keyboard

  constructor(actions, commands) {
    Object.assign(this, { actions, commands });
    this.root = byId("menu");
    byId("time").addEventListener("contextmenu", (event) => this.#open(event));
    addEventListener("pointerdown", (event) => !this.root.contains(event.target) && this.close(), { capture: true });
    addEventListener("blur", () => this.close());
    this.root.addEventListener("keydown", (event) => this.#press(event));
  }

  close() {
    if (this.root.hidden) return false;
    this.root.hidden = true;
    if (this.root.contains(document.activeElement)) this.#before?.focus({ preventScroll: true });
    return true;
  }

  #open(event) {
    event.preventDefault();
    const button = event.target.closest(".stroke");
    const lane = event.target.closest(".lane");
    const { actions } = this;
    if (!actions.doc.isReady) return;
    if (button && !actions.selection.has(button.dataset.id)) actions.select(button.dataset.id);
    else if (lane && !button) actions.lane = lane.dataset.class;
    this.#before = document.activeElement;
    const entries = button || actions.selection.size > 1 ? this.#ofStrokes() : lane ? this.#ofLane(event) : this.#ofTime();
    this.#items = entries.map(([name, key, act]) => menuItem(name, key, () => (this.close(), act())));
    this.root.replaceChildren(...this.#items);
    this.root.hidden = false;
    const isPointer = event.clientX || event.clientY;
    const place = isPointer ? { left: event.clientX, bottom: event.clientY } : this.#before.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.root;
    this.root.style.left = `${Math.max(0, Math.min(place.left, innerWidth - width - 4))}px`;
    this.root.style.top = `${Math.max(0, Math.min(place.bottom, innerHeight - height - 4))}px`;
    this.#items[0].focus();
  }

  #ofStrokes() {
    const { actions, commands } = this;
    const { selected, doc } = actions;
    const isPlayed = actions.layer === "played";
    const names = selected ? doc.facts.articulations[selected.class] : [];
    const kinds = names.length > 1 ? names.map((name, i) => [name || "plain", `Alt + ${i + 1}`, () => actions.setArticulation(name)]) : [];
    const others = CLASSES.filter((drumClass) => drumClass !== selected?.class);
    const classes = others.map((c) => [`Make it ${CLASS_NAMES[c]}`, `Shift + ${CLASSES.indexOf(c) + 1}`, () => actions.relabel(c)]);
    const loudness = [
      ["Accent", ".", () => actions.accent()],
      ["Ghost", ",", () => actions.ghost()],
      ["Ramp velocities", "/", () => actions.ramp()],
    ];
    return [
      ["Copy", "Ctrl + C", () => actions.copy()],
      ["Cut", "Ctrl + X", () => actions.cut()],
      ["Duplicate", "Ctrl + D", () => actions.duplicate()],
      ...(isPlayed ? loudness : []),
      ...kinds,
      ...classes,
      ["Export", "E", commands.export],
      [isPlayed ? "Delete" : "Dismiss", "Delete", () => actions.remove()],
    ];
  }

  #ofLane(event) {
    const { actions, commands } = this;
    const { lane, doc } = actions;
    const state = doc.lanes?.[lane] ?? {};
    const timeS = actions.view.timeAt(event.clientX - byId("time").getBoundingClientRect().left);
    return [
      ["Draw a stroke here", "P", () => actions.draw(lane, event.clientX ? timeS : actions.sound.positionS)],
      ["Paste at the playhead", "Ctrl + V", () => actions.paste()],
      [`Select all of the ${CLASS_NAMES[lane]} lane`, "Ctrl + Shift + A", () => actions.selectEverything(true)],
      [state.muted ? "Unmute" : "Mute", "M", () => actions.toggleLane(lane, "muted")],
      [state.soloed ? "Unsolo" : "Solo", "S", () => actions.toggleLane(lane, "soloed")],
      ["Repeat bars, or make a fill", "R", commands.repeat],
      ["This lane of another rhythm", "I", commands.library],
    ];
  }

  #ofTime() {
    const { actions, commands } = this;
    return [
      ["Loop on or off", "L", () => actions.toggleLoop()],
      ["Loop begins at the playhead", "[", () => actions.setLoopEdge("start")],
      ["Loop ends at the playhead", "]", () => actions.setLoopEdge("stop")],
      ["A bar begins at the playhead", "B", () => actions.setDownbeat()],
      ["Select everything", "Ctrl + A", () => actions.selectEverything(false)],
      ["Quantise", "Q", () => actions.quantise()],
      ["Feel", "F", commands.feel],
      ["Repeat bars, or make a fill", "R", commands.repeat],
    ];
  }

  #press(event) {
    const at = this.#items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (to !== undefined) this.#items.at(to % this.#items.length).focus();
    else if (event.key === "Escape" || event.key === "Tab") this.close();
    else if (event.key !== "Enter" && event.key !== " ") return;
    event.stopPropagation();
    if (event.key !== "Enter" && event.key !== " ") event.preventDefault();
  }
}

function menuItem(name, key, act) {
  const item = document.createElement("button");
  Object.assign(item, { type: "button", tabIndex: -1 });
  item.setAttribute("role", "menuitem");
  item.setAttribute("aria-keyshortcuts", key.replaceAll(" + ", "+").replace("Ctrl", "Control"));
  const [label, hint] = [document.createElement("span"), document.createElement("kbd")];
  label.textContent = name.charAt(0).toUpperCase() + name.slice(1);
  hint.textContent = key;
  hint.setAttribute("aria-hidden", "true");
  item.append(label, hint);
  item.addEventListener("click", act);
  return item;
}
