// The keyboard.

import { SLOTS } from "./versions.js";
import { CLASSES } from "./words.js";

const SCALE = 1.1; // of velocities, at one key
const SLIDER_KEYS = new Set(["Home", "End", "PageUp", "PageDown"]);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Keys {
  /** Take keys; `cancel` gives a drag up, `commands` are what opens a dialog or a panel, by name. */
  constructor(actions, lanes, cancel, commands) {
    Object.assign(this, { actions, lanes, cancel, commands });
    addEventListener("keydown", (event) => this.#press(event));
  }

  #press(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const isControl = Boolean(event.target.closest("input, select, textarea"));
    const isTyping = isControl && event.target.type !== "range";
    const hasCommand = event.ctrlKey || event.metaKey;
    const done = hasCommand ? !isTyping && this.#command(event, isControl) : !isTyping && this.#key(event, isControl);
    if (done) event.preventDefault();
  }

  #command(event, isControl) {
    const { actions, commands } = this;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isStroke = event.target.classList?.contains("stroke");
    if (name in ARROWS) return !isControl && isStroke && this.#commandArrow(event);
    const done = {
      z: () => (event.shiftKey ? actions.redo() : actions.undo()),
      y: () => actions.redo(),
      a: () => actions.selectEverything(event.shiftKey),
      c: () => actions.copy(),
      x: () => actions.cut(),
      v: () => actions.paste(),
      d: () => actions.duplicate(),
      s: () => commands.send(),
    }[name];
    if (!done) return false;
    done();
    if ("axvd".includes(name)) this.lanes.focusSelected();
    return true;
  }

  /** Select the next stroke as well, or scale velocities. */
  #commandArrow(event) {
    const { actions, lanes } = this;
    const [along, across] = ARROWS[event.key];
    const before = [...actions.selection];
    if (across) actions.scaleVelocities(across < 0 ? SCALE : 1 / SCALE);
    else if (actions.step(along, 0)) actions.selectAll([...before, actions.selectedId]);
    lanes.focusSelected();
    return true;
  }

  #key(event, isControl) {
    const { target } = event;
    const isStroke = target.classList?.contains("stroke");
    const isLane = target.classList?.contains("lane");
    if (isControl && SLIDER_KEYS.has(event.key)) return false;
    if (event.key in ARROWS) return !isControl && this.#arrow(event, { isStroke, isLane });
    const digit = /^(?:Digit|Numpad)([1-5])$/.exec(event.code);
    const slot = /^(?:Digit|Numpad)([7-9])$/.exec(event.code);
    const place = /^(?:Digit|Numpad)([1-6])$/.exec(event.code);
    if (place && event.altKey) return run(() => this.actions.setArticulationAt(place[1] - 1));
    if (digit && !event.altKey) return run(() => this.#lane(CLASSES[digit[1] - 1], event.shiftKey));
    if (slot && !event.altKey && !event.shiftKey) return run(() => this.commands.version(SLOTS[slot[1] - 7]));
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
    if (this.cancel() || !actions.selected) return;
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
    d: () => this.actions.setTool(this.actions.tool === "draw" ? "select" : "draw"),
    f: () => this.commands.feel(),
    g: ({ shiftKey }) => this.actions.changeSnap(shiftKey ? -1 : 1),
    i: () => this.commands.library(),
    k: () => this.commands.sound(),
    m: () => this.actions.toggleLane(this.actions.lane, "muted"),
    r: () => this.commands.repeat(),
    s: () => this.actions.toggleLane(this.actions.lane, "soloed"),
    v: () => this.commands.versions(),
    ".": () => this.actions.accent(),
    ",": () => this.actions.ghost(),
    "/": () => this.actions.ramp(),
    e: () => this.commands.export(),
    "?": () => this.commands.help(),
    "+": () => this.actions.zoom(1.5),
    "=": () => this.actions.zoom(1.5),
    "-": () => this.actions.zoom(1 / 1.5),
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
