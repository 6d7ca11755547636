// The keyboard.

import { CLASSES } from "./words.js";

export const KEYS = [
  ["Space", "play or pause"],
  ["Home", "go to the start"],
  ["A", "compare with the recording as it was"],
  ["L", "loop on or off"],
  ["[ and ]", "let the loop begin or end at the playhead"],
  ["1 to 5", "go to a lane: kick, snare, tom, hi-hat, cymbal"],
  ["← → in a lane", "move the playhead along the grid, with Alt by 10 ms"],
  ["P", "draw a stroke at the playhead"],
  ["Tab", "from a lane to its strokes, and on"],
  ["← → on a stroke", "to the stroke before or after"],
  ["↑ ↓ on a stroke", "to the nearest stroke of a lane above or below"],
  ["Enter", "play the stroke's sound"],
  ["Shift + ← →", "move the stroke along the grid, with Alt by 1 ms"],
  ["Shift + ↑ ↓", "louder or softer"],
  ["Shift + 1 to 5", "make the stroke a kick, snare, tom, hi-hat or cymbal"],
  ["O", "the next articulation: open, closed, pedal ..."],
  ["Delete", "delete what plays, or dismiss what was detected"],
  ["Escape", "leave the stroke; give a drag up"],
  ["W", "what plays, or what was detected"],
  ["Q", "quantise: the loop, or everything without one"],
  ["Ctrl + Z", "undo"],
  ["Ctrl + Shift + Z", "redo"],
  ["+ and -", "zoom in and out"],
  ["0", "show everything"],
  ["Page up and down", "scroll"],
  ["T", "tap the tempo, four times or more"],
  ["B", "let a bar begin at the playhead"],
  ["E", "export"],
  ["?", "show these keys"],
];

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Keys {
  constructor(actions, lanes, dialogs) {
    Object.assign(this, { actions, lanes, dialogs });
    addEventListener("keydown", (event) => this.#press(event));
  }

  #press(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const isControl = Boolean(event.target.closest("input, select, textarea"));
    const isTyping = isControl && event.target.type !== "range";
    const hasCommand = event.ctrlKey || event.metaKey;
    const done = hasCommand ? !isTyping && this.#command(event) : !isTyping && this.#key(event, isControl);
    if (done) event.preventDefault();
  }

  #command(event) {
    const { actions } = this;
    const key = event.key.toLowerCase();
    if (key === "z") return run(() => (event.shiftKey ? actions.redo() : actions.undo()));
    if (key === "y") return run(() => actions.redo());
    return false;
  }

  #key(event, isControl) {
    const { target } = event;
    const isStroke = target.classList?.contains("stroke");
    const isLane = target.classList?.contains("lane");
    if (event.key in ARROWS) return !isControl && this.#arrow(event, { isStroke, isLane });
    const digit = /^(?:Digit|Numpad)([1-5])$/.exec(event.code);
    if (digit && !event.altKey) return run(() => this.#lane(CLASSES[digit[1] - 1], event.shiftKey));
    if (event.key === " " && target.closest?.("button, [role=scrollbar]") && !isStroke) return false;
    if (event.key === "Enter") {
      if (!isStroke && !isLane) return false;
      return run(() => (isStroke ? this.actions.playHit(target.dataset.id) : this.#draw()));
    }
    const action = this.#actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    return Boolean(action) && !event.altKey && run(() => action(event));
  }

  /** Act on an arrow key: of a stroke, of a lane, or else the playhead. */
  #arrow(event, { isStroke, isLane }) {
    const { actions, lanes } = this;
    const [along, across] = ARROWS[event.key];
    if (isStroke && event.shiftKey) {
      if (along) actions.nudge(along, event.altKey);
      else actions.changeVelocity(-across);
      const stroke = actions.selected;
      if (stroke) actions.view.reveal(stroke.onset_s);
      lanes.focusSelected();
      return true;
    }
    if (event.shiftKey) return false;
    if (isStroke) {
      if (actions.step(along, across)) lanes.focusSelected();
      return true;
    }
    if (isLane && across) {
      const next = CLASSES[CLASSES.indexOf(event.target.dataset.class) + across];
      if (next) lanes.focusLane(next);
      return true;
    }
    if (event.target.closest?.("[role=radiogroup]")) return run(() => this.actions.setLayer(other(actions.layer)));
    if (event.target.closest?.("[role=scrollbar]")) return run(() => actions.view.scrollBy(60 * along));
    return along ? run(() => actions.movePlayhead(along, event.altKey)) : false;
  }

  #lane(drumClass, isRelabel) {
    if (!isRelabel) {
      this.lanes.focusLane(drumClass);
    } else if (this.actions.selected) {
      this.actions.relabel(drumClass);
      this.lanes.focusSelected();
    }
  }

  #draw() {
    const { actions, lanes } = this;
    actions.draw(actions.lane, actions.sound.positionS);
    lanes.focusSelected();
  }

  #remove() {
    const { actions, lanes } = this;
    if (!actions.selected) return;
    const { lane } = actions;
    actions.remove();
    if (actions.selected) lanes.focusSelected();
    else lanes.focusLane(lane);
  }

  #leave() {
    const { actions, lanes } = this;
    if (lanes.cancel() || !actions.selected) return;
    const { lane } = actions;
    actions.select(null);
    lanes.focusLane(lane);
  }

  #scroll(direction) {
    this.actions.view.scrollBy(direction * 0.8 * this.actions.view.widthPx);
  }

  #actions = {
    " ": () => this.actions.togglePlay(),
    Home: () => this.actions.goToStart(),
    a: () => this.actions.toggleSource(),
    l: () => this.actions.toggleLoop(),
    "[": () => this.actions.setLoopEdge("start"),
    "]": () => this.actions.setLoopEdge("stop"),
    p: () => this.#draw(),
    o: () => this.actions.nextArticulation(),
    Delete: () => this.#remove(),
    Backspace: () => this.#remove(),
    Escape: () => this.#leave(),
    w: () => this.actions.setLayer(other(this.actions.layer)),
    q: () => this.actions.quantise(),
    t: () => this.actions.tap(),
    b: () => this.actions.setDownbeat(),
    e: () => this.dialogs.openExport(),
    "?": () => this.dialogs.openHelp(),
    "+": () => this.actions.view.zoom(1.5),
    "=": () => this.actions.view.zoom(1.5),
    "-": () => this.actions.view.zoom(1 / 1.5),
    0: () => this.actions.view.showAll(),
    PageUp: () => this.#scroll(-1),
    PageDown: () => this.#scroll(1),
  };
}

function other(layer) {
  return layer === "played" ? "detected" : "played";
}

function run(action) {
  action();
  return true;
}
