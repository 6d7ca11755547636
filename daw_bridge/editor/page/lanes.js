// The five lanes: a button for each stroke in view. What a pointer does with them is in lane-pointer.js.

import { signOf, strokeLabel } from "./words.js";

const MOST_BUTTONS = 500;
const SIGN_PX = 11; // width from which a stroke shows its articulation
const SETTLED_MS = 120; // without a change of the view
const OFF_MS = 4; // from the grid, from which a stroke shows that it is early or late

export class Lanes {
  #buttons = new Map(); // by the stroke's id
  #labels = new Map(); // what each button was made from
  #spare = []; // buttons that show no stroke any more
  #settled = 0; // a timer
  #view = ""; // that was drawn last

  constructor(root, actions) {
    Object.assign(this, { root, actions });
    this.lanes = new Map([...root.querySelectorAll(".lane")].map((lane) => [lane.dataset.class, lane]));
    this.inView = [];
    this.nHidden = 0; // strokes in view without a button
    root.addEventListener("click", (event) => this.#click(event));
    root.addEventListener("focusin", (event) => this.#focused(event));
  }

  /** Bring the buttons up to date with the strokes in view, at once where they are needed. */
  draw(isUrgent = false) {
    const { actions } = this;
    const width = this.#strokeWidth();
    this.root.style.setProperty("--stroke-width", `${width}px`);
    this.inView = this.#find(width);
    const shown = this.#shown();
    this.nHidden = this.inView.length - shown.length;
    toggle(this.root, "data-dense", this.nHidden > 0);
    const view = `${actions.view.startS}/${actions.view.pxPerS}`;
    const isMoving = view !== this.#view;
    this.#view = view;
    clearTimeout(this.#settled);
    // So many strokes show as ticks: their buttons follow once the view rests.
    if (this.nHidden && isMoving && !isUrgent) this.#settled = setTimeout(() => this.draw(), SETTLED_MS);
    else this.#drawButtons(shown, width);
  }

  #drawButtons(shown, width) {
    const { actions } = this;
    const ids = new Set(shown.map((stroke) => stroke.id));
    for (const [id, button] of this.#buttons) if (!ids.has(id)) this.#remove(id, button);
    const first = new Map();
    for (const stroke of shown) {
      const button = this.#button(stroke);
      this.#place(button, stroke, width);
      const isStop = stroke.id === actions.selectedId || !first.has(stroke.class);
      if (isStop) first.set(stroke.class, button);
    }
    for (const button of this.#buttons.values()) {
      const tab = first.get(button.dataset.class) === button ? 0 : -1;
      if (button.tabIndex !== tab) button.tabIndex = tab;
    }
    for (const button of this.#spare.splice(0)) button.remove();
  }

  /** Move the keyboard to the selected stroke. */
  focusSelected() {
    this.draw(true);
    this.#buttons.get(this.actions.selectedId)?.focus({ preventScroll: true });
  }

  /** Show strokes that are being painted, and are none yet. */
  showPainted(strokes) {
    for (const ghost of this.root.querySelectorAll(".painted")) ghost.remove();
    for (const stroke of strokes) {
      const ghost = document.createElement("span");
      ghost.className = "stroke painted";
      ghost.style.transform = `translateX(${this.actions.view.xOf(stroke.onset_s).toFixed(1)}px)`;
      ghost.style.setProperty("--velocity", stroke.velocity);
      this.lanes.get(stroke.class).append(ghost);
    }
  }

  focusLane(drumClass) {
    this.lanes.get(drumClass).focus();
  }

  // Buttons.

  #strokeWidth() {
    const { doc, view } = this.actions;
    const at = doc.grid.beatAt(view.startS);
    const sixteenthPx = (doc.grid.timeOf(at + 0.25) - view.startS) * view.pxPerS;
    return Math.round(Math.max(5, Math.min(16, sixteenthPx * 0.7)));
  }

  #find(width) {
    const { view, strokes } = this.actions;
    const fromS = view.startS - width / view.pxPerS;
    let low = 0;
    for (let high = strokes.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (strokes[middle].onset_s < fromS) low = middle + 1;
      else high = middle;
    }
    let end = low;
    while (end < strokes.length && strokes[end].onset_s <= view.stopS) end += 1;
    return strokes.slice(low, end);
  }

  /** Return the strokes in view that get a button: of many those around the selected one, or the middle. */
  #shown() {
    const { inView } = this;
    if (inView.length <= MOST_BUTTONS) return inView;
    const { view, selected } = this.actions;
    const centreS = selected && inView.includes(selected) ? selected.onset_s : (view.startS + view.stopS) / 2;
    const after = inView.findIndex((stroke) => stroke.onset_s >= centreS);
    const middle = after < 0 ? inView.length : after;
    const start = Math.max(0, Math.min(middle - MOST_BUTTONS / 2, inView.length - MOST_BUTTONS));
    return inView.slice(start, start + MOST_BUTTONS);
  }

  #button(stroke) {
    let button = this.#buttons.get(stroke.id);
    if (!button) {
      button = this.#spare.pop() ?? madeButton();
      button.dataset.id = stroke.id;
      this.#buttons.set(stroke.id, button);
    }
    const lane = this.lanes.get(stroke.class);
    if (button.parentElement !== lane) {
      const hadFocus = button === document.activeElement;
      lane.append(button);
      if (hadFocus) button.focus({ preventScroll: true });
    }
    return button;
  }

  #place(button, stroke, width) {
    const { actions } = this;
    button.style.transform = `translateX(${actions.view.xOf(stroke.onset_s).toFixed(1)}px)`;
    const isChanged = actions.layer === "played" && actions.doc.mode === "edit" && !actions.doc.isUntouched(stroke);
    toggle(button, "data-selected", actions.selection.has(stroke.id));
    toggle(button, "data-dragged", actions.previews.has(stroke.id));
    toggle(button, "data-changed", isChanged);
    const made = this.#labels.get(stroke.id);
    const { grid } = actions.doc;
    const sign = width >= SIGN_PX ? signOf(stroke.articulation) : "";
    const step = actions.snapBeats || 0.25;
    if (made && made.stroke === stroke && made.grid === grid && made.sign === sign && made.step === step) return;
    this.#labels.set(stroke.id, { stroke, grid, sign, step });
    const offMs = 1000 * (stroke.onset_s - grid.snap(stroke.onset_s, step));
    button.setAttribute("aria-label", strokeLabel(stroke, grid));
    button.title = strokeLabel(stroke, grid);
    button.style.setProperty("--velocity", stroke.velocity.toFixed(3));
    Object.assign(button.dataset, {
      class: stroke.class,
      onset: String(stroke.onset_s),
      velocity: String(stroke.velocity),
      articulation: stroke.articulation,
      sign,
      timing: Math.abs(offMs) < OFF_MS ? "" : offMs > 0 ? "late" : "early",
    });
  }

  #remove(id, button) {
    const lane = button === document.activeElement ? button.parentElement : null;
    this.#buttons.delete(id);
    this.#labels.delete(id);
    this.#spare.push(button);
    lane?.focus({ preventScroll: true });
  }

  #focused({ target }) {
    const { actions } = this;
    if (target.dataset.id && !actions.selection.has(target.dataset.id)) actions.select(target.dataset.id);
    else if (target.classList.contains("lane")) {
      actions.lane = target.dataset.class;
      actions.changed();
    }
  }

  /** Play the stroke that a screen reader or a script clicks; a pointer has done so already. */
  #click(event) {
    const button = event.target.closest(".stroke");
    if (button && event.detail === 0) this.actions.playHit(button.dataset.id);
  }
}

function madeButton() {
  const button = document.createElement("button");
  button.className = "stroke";
  button.type = "button";
  button.dataset.testid = "stroke";
  return button;
}

function toggle(element, attribute, isOn) {
  if (element.hasAttribute(attribute) !== isOn) element.toggleAttribute(attribute, isOn);
}
