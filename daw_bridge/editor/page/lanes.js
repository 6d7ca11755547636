// The five lanes: a picture of the strokes in view, and over it a button for each, which is what can be taken hold of and
// reached by the keyboard. What a pointer does with them is in lane-pointer.js.

import { StrokePicture } from "./stroke-picture.js";
import { strokeLabel } from "./words.js";

const MOST_BUTTONS = 500;
const SETTLED_MS = 120; // without a change of the view
const OFF_MS = 4; // from the grid, from which a stroke shows that it is early or late

export class Lanes {
  #buttons = new Map(); // by the stroke's id
  #made = new Map(); // what each button shows, by the stroke's id
  #spare = []; // buttons that show no stroke any more
  #layers = new Map(); // that the buttons of a lane lie in, by class
  #settled = 0; // a timer
  #placed = { startS: 0, pxPerS: 1 }; // the view that the buttons are placed for
  #view = ""; // that was drawn last
  #timings = { grid: null, step: 0, found: new WeakMap() };

  constructor(root, actions) {
    Object.assign(this, { root, actions });
    this.lanes = new Map([...root.querySelectorAll(".lane")].map((lane) => [lane.dataset.class, lane]));
    for (const [drumClass, lane] of this.lanes) {
      const layer = document.createElement("div");
      layer.className = "strokes";
      lane.append(layer);
      this.#layers.set(drumClass, layer);
    }
    this.inView = [];
    this.nHidden = 0; // strokes in view without a button
    this.painted = []; // strokes that are being painted, and are none yet
    this.strokeWidth = 14;
    this.picture = new StrokePicture(this, actions);
    root.addEventListener("click", (event) => this.#click(event));
    root.addEventListener("focusin", (event) => this.#focused(event));
  }

  /** Show the strokes in view; return whether their buttons are up to date, which they are once the view rests. */
  draw(isUrgent = false) {
    const { startS, pxPerS } = this.actions.view;
    this.strokeWidth = this.#strokeWidth();
    this.inView = this.#find(this.strokeWidth);
    this.nHidden = Math.max(0, this.inView.length - MOST_BUTTONS);
    this.picture.draw();
    const isMoving = this.#view !== `${startS}/${pxPerS}` && !isUrgent;
    this.#view = `${startS}/${pxPerS}`;
    clearTimeout(this.#settled);
    if (isMoving) this.#settled = setTimeout(() => this.actions.changed(), SETTLED_MS);
    else this.#drawButtons(this.#shown());
    this.#moveButtons(isMoving);
    return !isMoving;
  }

  /** Move all buttons at once to where the view has them. */
  #moveButtons(isMoving) {
    const { startS, pxPerS } = this.actions.view;
    const placed = this.#placed;
    const shiftPx = (placed.startS - startS) * pxPerS;
    const transform = isMoving ? `translateX(${shiftPx}px) scaleX(${pxPerS / placed.pxPerS})` : "";
    for (const { style } of this.#layers.values()) {
      if (style.transform !== transform) style.transform = transform;
      if (isMoving !== (style.opacity === "0")) style.opacity = isMoving ? "0" : "";
    }
  }

  #drawButtons(shown) {
    const { actions } = this;
    this.#placed = { startS: actions.view.startS, pxPerS: actions.view.pxPerS };
    this.root.style.setProperty("--stroke-width", `${this.strokeWidth}px`);
    const ids = new Set(shown.map((stroke) => stroke.id));
    for (const [id, button] of this.#buttons) if (!ids.has(id)) this.#remove(id, button);
    const first = new Map();
    for (const stroke of shown) {
      const button = this.#button(stroke);
      this.#place(button, stroke);
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
    this.painted = strokes;
    this.actions.changed();
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
    const layer = this.#layers.get(stroke.class);
    if (button.parentElement !== layer) {
      const hadFocus = button === document.activeElement;
      layer.append(button);
      if (hadFocus) button.focus({ preventScroll: true });
    }
    return button;
  }

  #place(button, stroke) {
    const { actions } = this;
    const { grid } = actions.doc;
    const now = {
      stroke,
      grid,
      left: `${actions.view.xOf(stroke.onset_s).toFixed(1)}px`,
      timing: this.timingOf(stroke),
      isSelected: actions.selection.has(stroke.id),
      isDragged: actions.previews.has(stroke.id),
      isChanged: this.isChanged(stroke),
    };
    const made = this.#made.get(stroke.id);
    if (made && Object.keys(now).every((name) => now[name] === made[name])) return;
    this.#made.set(stroke.id, now);
    button.style.left = now.left;
    button.toggleAttribute("data-selected", now.isSelected);
    button.toggleAttribute("data-dragged", now.isDragged);
    button.toggleAttribute("data-changed", now.isChanged);
    if (made?.stroke === stroke && made.grid === grid && made.timing === now.timing) return;
    button.title = strokeLabel(stroke, grid);
    button.setAttribute("aria-label", button.title);
    Object.assign(button.dataset, {
      class: stroke.class,
      onset: String(stroke.onset_s),
      velocity: String(stroke.velocity),
      articulation: stroke.articulation,
      timing: now.timing,
    });
  }

  #remove(id, button) {
    const lane = button === document.activeElement ? button.closest(".lane") : null;
    this.#buttons.delete(id);
    this.#made.delete(id);
    this.#spare.push(button);
    lane?.focus({ preventScroll: true });
  }

  // What a stroke is.

  /** Return whether a stroke does not play as it was detected. */
  isChanged(stroke) {
    const { doc, layer } = this.actions;
    return layer === "played" && doc.mode === "edit" && !doc.isUntouched(stroke);
  }

  /** Return whether a stroke is "early" or "late" on the grid; "": neither. */
  timingOf(stroke) {
    const { grid } = this.actions.doc;
    const step = this.actions.snapBeats || 0.25;
    const isCurrent = this.#timings.grid === grid && this.#timings.step === step;
    if (!isCurrent) this.#timings = { grid, step, found: new WeakMap() };
    const { found } = this.#timings;
    if (!found.has(stroke)) {
      const offMs = 1000 * (stroke.onset_s - grid.snap(stroke.onset_s, step));
      found.set(stroke, Math.abs(offMs) < OFF_MS ? "" : offMs > 0 ? "late" : "early");
    }
    return found.get(stroke);
  }

  // What is done to buttons.

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
