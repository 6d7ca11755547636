// The five lanes: a button for each stroke in view, and what a pointer does with them.

import { signOf, strokeLabel } from "./words.js";

const MOST_BUTTONS = 500;
const SIGN_PX = 11; // width from which a stroke shows its articulation
const DRAG_PX = 3; // from which a press is a drag

export class Lanes {
  #buttons = new Map(); // by the stroke's id
  #labels = new Map(); // what each button was made from
  #drag = null;

  constructor(root, actions) {
    Object.assign(this, { root, actions });
    this.lanes = new Map([...root.querySelectorAll(".lane")].map((lane) => [lane.dataset.class, lane]));
    this.inView = [];
    this.nHidden = 0; // strokes in view without a button
    root.addEventListener("pointerdown", (event) => this.#press(event));
    root.addEventListener("pointermove", (event) => this.#pull(event));
    root.addEventListener("pointerup", (event) => this.#release(event));
    root.addEventListener("pointercancel", () => this.cancel());
    root.addEventListener("click", (event) => this.#click(event));
    root.addEventListener("dblclick", (event) => this.#double(event));
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("focusin", (event) => this.#focused(event));
  }

  /** Bring the buttons up to date with the strokes in view. */
  draw() {
    const { actions } = this;
    const width = this.#strokeWidth();
    this.root.style.setProperty("--stroke-width", `${width}px`);
    this.inView = this.#find(width);
    const shown = this.#shown();
    this.nHidden = this.inView.length - shown.length;
    toggle(this.root, "data-dense", this.nHidden > 0);
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
  }

  /** Move the keyboard to the selected stroke. */
  focusSelected() {
    this.draw();
    this.#buttons.get(this.actions.selectedId)?.focus({ preventScroll: true });
  }

  focusLane(drumClass) {
    this.lanes.get(drumClass).focus();
  }

  /** Give a drag up; false where there is none. */
  cancel() {
    if (!this.#drag) return false;
    this.#drag = null;
    this.actions.preview = null;
    this.actions.changed();
    return true;
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
      button = document.createElement("button");
      button.className = "stroke";
      button.type = "button";
      button.dataset.testid = "stroke";
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
    toggle(button, "data-selected", stroke.id === actions.selectedId);
    toggle(button, "data-dragged", stroke === actions.preview);
    toggle(button, "data-changed", isChanged);
    const made = this.#labels.get(stroke.id);
    const { grid } = actions.doc;
    const sign = width >= SIGN_PX ? signOf(stroke.articulation) : "";
    if (made && made.stroke === stroke && made.grid === grid && made.sign === sign) return;
    this.#labels.set(stroke.id, { stroke, grid, sign });
    button.setAttribute("aria-label", strokeLabel(stroke, grid));
    button.title = strokeLabel(stroke, grid);
    button.style.setProperty("--velocity", stroke.velocity.toFixed(3));
    Object.assign(button.dataset, {
      class: stroke.class,
      onset: String(stroke.onset_s),
      velocity: String(stroke.velocity),
      articulation: stroke.articulation,
      sign,
    });
  }

  #remove(id, button) {
    const lane = button === document.activeElement ? button.parentElement : null;
    this.#buttons.delete(id);
    this.#labels.delete(id);
    button.remove();
    lane?.focus({ preventScroll: true });
  }

  #focused({ target }) {
    const { actions } = this;
    if (target.dataset.id && target.dataset.id !== actions.selectedId) actions.select(target.dataset.id);
    else if (target.classList.contains("lane")) actions.lane = target.dataset.class;
  }

  // The pointer.

  #x(event) {
    return event.clientX - this.root.getBoundingClientRect().left;
  }

  #classAt(event) {
    const inside = [...this.lanes].find(([, lane]) => {
      const { top, bottom } = lane.getBoundingClientRect();
      return event.clientY >= top && event.clientY < bottom;
    });
    return inside ? inside[0] : null;
  }

  #press(event) {
    if (event.button !== 0) return;
    const { actions } = this;
    const button = event.target.closest(".stroke");
    event.preventDefault();
    if (!button) {
      const lane = event.target.closest(".lane");
      if (!lane) return;
      actions.select(null);
      lane.focus({ preventScroll: true });
      if (!actions.sound.isPlaying) actions.sound.seek(actions.snap(actions.view.timeAt(this.#x(event)), event.altKey));
      return;
    }
    const stroke = actions.doc.stroke(actions.layer, button.dataset.id);
    if (!stroke) return;
    actions.select(stroke.id);
    button.focus({ preventScroll: true });
    this.root.setPointerCapture(event.pointerId);
    const offsetS = actions.view.timeAt(this.#x(event)) - stroke.onset_s;
    this.#drag = { stroke, offsetS, x: event.clientX, y: event.clientY, isVelocity: event.shiftKey, isMoving: false };
  }

  #pull(event) {
    const drag = this.#drag;
    if (!drag) return;
    const { actions } = this;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.isMoving && Math.hypot(dx, dy) < DRAG_PX) return;
    drag.isMoving = true;
    if (drag.isVelocity) {
      const height = this.lanes.get(drag.stroke.class).clientHeight;
      const velocity = Math.min(1, Math.max(1 / 127, drag.stroke.velocity - dy / height));
      actions.preview = { ...drag.stroke, velocity };
    } else {
      const onsetS = actions.snap(actions.view.timeAt(this.#x(event)) - drag.offsetS, event.altKey);
      const drumClass = this.#classAt(event) ?? drag.stroke.class;
      const articulation = drumClass === drag.stroke.class ? drag.stroke.articulation : "";
      actions.preview = { ...drag.stroke, onset_s: onsetS, class: drumClass, articulation };
    }
    actions.changed();
  }

  #release() {
    const drag = this.#drag;
    if (!drag) return;
    const { actions } = this;
    const preview = actions.preview;
    this.cancel();
    if (!drag.isMoving) actions.playHit(drag.stroke.id);
    else if (drag.isVelocity) actions.setVelocity(drag.stroke.id, preview.velocity);
    else actions.move(drag.stroke.id, preview.onset_s, preview.class);
  }

  /** Play the stroke that a screen reader or a script clicks; a pointer has done so already. */
  #click(event) {
    const button = event.target.closest(".stroke");
    if (button && event.detail === 0) this.actions.playHit(button.dataset.id);
  }

  #double(event) {
    const lane = event.target.closest(".lane");
    if (!lane || event.target.closest(".stroke")) return;
    this.actions.draw(lane.dataset.class, this.actions.view.timeAt(this.#x(event)), event.altKey);
    this.focusSelected();
  }

  /** Change a stroke's velocity by the wheel with Alt; otherwise the wheel is the view's. */
  #wheel(event) {
    const button = event.target.closest(".stroke");
    if (!button || !event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.actions.select(button.dataset.id);
    this.actions.changeVelocity(event.deltaY < 0 ? 1 : -1);
  }
}

function toggle(element, attribute, isOn) {
  if (element.hasAttribute(attribute) !== isOn) element.toggleAttribute(attribute, isOn);
}
