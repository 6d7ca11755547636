// The ruler with bars, beats and the loop, and the lines of the grid over everything below it.

import { cleared, colour, useFont } from "./canvas.js";

const LEAST_LINE_PX = 9; // between two lines of the grid
const LEAST_NUMBER_PX = 44; // between two numbers of bars
const EDGE_PX = 6; // around an edge of the loop that takes hold of it
const DRAG_PX = 3;
const LINE_PX = 8; // around a bar line that Shift takes hold of

export class Ruler {
  #drag = null;
  #grid = null; // that was drawn last

  constructor({ ruler, lines, loop, time }, actions) {
    Object.assign(this, { ruler, lines, loop, actions });
    ruler.addEventListener("pointerdown", (event) => this.#press(event));
    ruler.addEventListener("pointermove", (event) => this.#pull(event));
    ruler.addEventListener("pointerup", (event) => this.#release(event));
    ruler.addEventListener("pointercancel", () => (this.#drag = null));
    time.addEventListener("pointerdown", (event) => this.#seek(event));
  }

  /** Show bars, lines and the loop; bars and lines stay where neither the view nor the grid is another. */
  draw(isOtherView) {
    const { grid } = this.actions.doc;
    if (isOtherView || grid !== this.#grid) {
      this.#grid = grid;
      const steps = this.#steps();
      this.#drawRuler(steps);
      this.#drawLines(steps);
    }
    this.#markLoop();
  }

  /** Return the distance in beats between lines, and between numbers of bars, at this zoom. */
  #steps() {
    const { doc, view } = this.actions;
    const { grid } = doc;
    const beatPx = (grid.timeOf(grid.beatAt(view.startS) + 1) - view.startS) * view.pxPerS;
    const barPx = beatPx * grid.beatsPerBar;
    const within = [0.25, 0.5, 1].find((beats) => beats * beatPx >= LEAST_LINE_PX);
    const nBars = 2 ** Math.max(0, Math.ceil(Math.log2(LEAST_NUMBER_PX / barPx)));
    const perLine = 2 ** Math.max(0, Math.ceil(Math.log2(LEAST_LINE_PX / barPx)));
    return { line: within && barPx >= LEAST_LINE_PX * 2 ? within : perLine * grid.beatsPerBar, number: nBars };
  }

  #drawRuler({ number }) {
    const { context, height } = cleared(this.ruler);
    const { doc, view } = this.actions;
    const { grid } = doc;
    useFont(context, "12px system-ui, sans-serif");
    context.textBaseline = "middle";
    for (const { timeS, bar } of grid.lines(view.startS - 2, view.stopS, number * grid.beatsPerBar)) {
      const x = Math.round(view.xOf(timeS));
      context.fillStyle = colour("grid-bar");
      context.fillRect(x, height - 12, 1, 12);
      context.fillStyle = colour("ink");
      context.fillText(String(bar), x + 5, height / 2);
    }
  }

  /** Draw the lines of the grid, as one row of pixels that the page stretches to the height of what lies below the ruler. */
  #drawLines({ line, number }) {
    const { context } = cleared(this.lines, 1);
    const { doc, view } = this.actions;
    for (const { timeS, isBeat, bar } of doc.grid.lines(view.startS, view.stopS, line)) {
      const isMain = bar !== null && (bar - 1) % number === 0;
      context.fillStyle = colour(isMain ? "grid-bar" : isBeat ? "grid-beat" : "grid-part");
      context.globalAlpha = isMain ? 0.75 : 0.6;
      context.fillRect(Math.round(view.xOf(timeS)), 0, 1, 1);
    }
    context.globalAlpha = 1;
  }

  #markLoop() {
    const { sound, view, lastLoopS } = this.actions;
    const region = this.#drag?.loopS ?? sound.loopS ?? lastLoopS;
    this.loop.hidden = !region;
    if (!region) return;
    const [left, right] = region.map((timeS) => view.xOf(timeS));
    this.loop.style.transform = `translateX(${left.toFixed(1)}px)`;
    this.loop.style.width = `${Math.max(2, right - left).toFixed(1)}px`;
    this.loop.toggleAttribute("data-off", !sound.loopS);
    this.loop.dataset.start = region[0];
    this.loop.dataset.stop = region[1];
  }

  #x(event) {
    return event.clientX - this.ruler.getBoundingClientRect().left;
  }

  #press(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const { view, sound, doc } = this.actions;
    const x = this.#x(event);
    this.ruler.setPointerCapture(event.pointerId);
    this.#drag = { x, fixedS: this.actions.snap(view.timeAt(x), event.altKey), isMoving: false };
    if (event.shiftKey) {
      const beat = Math.round(doc.grid.beatAt(view.timeAt(x)) / doc.grid.beatsPerBar) * doc.grid.beatsPerBar;
      const isNear = Math.abs(view.xOf(doc.grid.timeOf(beat)) - x) <= LINE_PX;
      this.#drag = isNear ? { ...this.#drag, beat } : null;
      return;
    }
    const edge = sound.loopS?.findIndex((timeS) => Math.abs(view.xOf(timeS) - x) <= EDGE_PX) ?? -1;
    if (edge >= 0) this.#drag = { x, fixedS: sound.loopS[1 - edge], isMoving: false };
  }

  #pull(event) {
    const drag = this.#drag;
    if (!drag) return;
    const x = this.#x(event);
    if (!drag.isMoving && Math.abs(x - drag.x) < DRAG_PX) return;
    drag.isMoving = true;
    const { actions } = this;
    drag.atS = actions.view.timeAt(x);
    if (drag.beat === undefined) {
      drag.loopS = [drag.fixedS, actions.snap(drag.atS, event.altKey)].sort((a, b) => a - b);
      if (drag.loopS[1] >= actions.endS - 0.001) drag.loopS[1] = actions.sound.lengthS;
    }
    actions.changed();
  }

  #release(event) {
    const drag = this.#drag;
    this.#drag = null;
    if (!drag) return;
    const { actions } = this;
    if (!drag.isMoving) actions.sound.seek(actions.snap(actions.view.timeAt(this.#x(event)), event.altKey));
    else if (drag.beat !== undefined) actions.doc.changeGrid({ line: { beat: drag.beat, time_s: drag.atS } });
    else actions.setLoop(...drag.loopS);
    actions.changed();
  }

  /** Place the playhead by a click on one of the pictures. */
  #seek(event) {
    if (event.button !== 0 || !["wave", "spectrum"].includes(event.target.id)) return;
    const { actions } = this;
    actions.sound.seek(Math.max(0, actions.view.timeAt(this.#x(event))));
  }
}
