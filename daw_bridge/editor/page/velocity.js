// The velocities of one lane as bars: painted, or with Shift drawn as a ramp. Of several selected strokes these alone.

import { cleared, colour } from "./canvas.js";
import { byId, setText } from "./dom.js";
import { CLASS_NAMES, midiVelocity } from "./words.js";

const MARGIN_PX = 4;
const REACH_PX = 7; // around a bar, in which it is painted

export class Velocities {
  #drag = null; // {x, y, fromX, fromY}

  constructor(canvas, lanes, actions) {
    Object.assign(this, { canvas, lanes, actions });
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#drag && this.#paint(event));
    canvas.addEventListener("pointerup", () => this.#release());
    canvas.addEventListener("pointercancel", () => this.cancel());
  }

  draw() {
    const { context, height } = cleared(this.canvas);
    const { actions } = this;
    setText("velocity-lane", `${CLASS_NAMES[actions.lane]} velocity`);
    const isMany = actions.selection.size > 1;
    context.fillStyle = colour("grid-part");
    for (const part of [0.25, 0.5, 0.75]) context.fillRect(0, Math.round(height * part), actions.view.widthPx, 1);
    context.fillStyle = colour(actions.lane);
    for (const stroke of this.lanes.inView) {
      if (stroke.class !== actions.lane) continue;
      const x = actions.view.xOf(stroke.onset_s);
      const tall = Math.max(1, (height - MARGIN_PX) * stroke.velocity);
      context.globalAlpha = isMany && !actions.selection.has(stroke.id) ? 0.35 : 1;
      context.fillRect(x, height - tall, 3, tall);
      if (!this.lanes.nHidden) context.fillRect(x - 2, height - tall, 7, 4);
    }
    context.globalAlpha = 1;
  }

  /** Give a drag up; false where there is none. */
  cancel() {
    if (!this.#drag) return false;
    this.#drag = null;
    this.actions.previews.clear();
    this.actions.changed();
    return true;
  }

  #place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #velocityAt(y) {
    const height = this.canvas.clientHeight - MARGIN_PX;
    return Math.min(1, Math.max(1 / 127, (height + MARGIN_PX - y) / height));
  }

  #press(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const { actions } = this;
    if (actions.layer === "detected") return actions.setVelocities(() => 0); // which says why it cannot be
    const place = this.#place(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.#drag = { ...place, from: place };
    this.#paint(event);
  }

  #paint(event) {
    const { actions } = this;
    const drag = this.#drag;
    const to = this.#place(event);
    const isRamp = event.shiftKey;
    const begin = isRamp ? drag.from : drag;
    if (isRamp) actions.previews.clear();
    const [left, right] = [begin.x, to.x].sort((a, b) => a - b);
    const isMany = actions.selection.size > 1;
    for (const stroke of this.lanes.inView) {
      if (stroke.class !== actions.lane || (isMany && !actions.selection.has(stroke.id))) continue;
      const x = actions.view.xOf(stroke.onset_s);
      if (x < left - REACH_PX || x > right + REACH_PX) continue;
      const part = right - left < 1 ? 1 : Math.min(1, Math.max(0, (x - begin.x) / (to.x - begin.x)));
      const velocity = this.#velocityAt(begin.y + part * (to.y - begin.y));
      actions.previews.set(stroke.id, { ...actions.doc.stroke("played", stroke.id), velocity });
    }
    Object.assign(drag, to);
    const shown = [...actions.previews.values()].at(-1);
    byId("velocity-value").textContent = shown ? midiVelocity(shown.velocity) : "";
    actions.changed();
  }

  #release() {
    if (!this.#drag) return;
    const changed = [...this.actions.previews.values()];
    this.cancel();
    byId("velocity-value").textContent = "";
    this.actions.become(changed);
  }
}
