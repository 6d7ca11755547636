// What a pointer does in the lanes: take hold of strokes, mark some with a frame, paint new ones.

const DRAG_PX = 3; // from which a press is a drag

export class LanePointer {
  #drag = null; // {pull, release}: what is going on
  #lanes;

  constructor(root, frame, lanes, actions) {
    Object.assign(this, { root, frame, actions });
    this.#lanes = lanes;
    root.addEventListener("pointerdown", (event) => this.#press(event));
    root.addEventListener("pointermove", (event) => this.#drag && this.#pull(event));
    root.addEventListener("pointerup", (event) => this.#release(event));
    root.addEventListener("pointercancel", () => this.cancel());
    root.addEventListener("dblclick", (event) => this.#double(event));
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  /** Give a drag up; false where there is none. */
  cancel() {
    if (!this.#drag) return false;
    this.#drag = null;
    this.frame.hidden = true;
    this.#lanes.showPainted([]);
    this.actions.previews.clear();
    this.actions.changed();
    return true;
  }

  #x(event) {
    return event.clientX - this.root.getBoundingClientRect().left;
  }

  #y(event) {
    return event.clientY - this.root.getBoundingClientRect().top;
  }

  #timeAt(event) {
    return this.actions.view.timeAt(this.#x(event));
  }

  #classAt(event) {
    const inside = [...this.#lanes.lanes].find(([, lane]) => {
      const { top, bottom } = lane.getBoundingClientRect();
      return event.clientY >= top && event.clientY < bottom;
    });
    return inside ? inside[0] : null;
  }

  #press(event) {
    const lane = event.target.closest(".lane");
    if (event.button !== 0 || !lane) return;
    event.preventDefault();
    const button = event.target.closest(".stroke");
    const stroke = button && this.actions.doc.stroke(this.actions.layer, button.dataset.id);
    if (button && !stroke) return;
    const begin = { x: event.clientX, y: event.clientY, isMoving: false };
    if (this.actions.tool === "draw") this.#drag = { ...begin, ...this.#painting(event, lane.dataset.class, stroke) };
    else if (stroke) this.#drag = { ...begin, ...this.#holding(event, stroke, button) };
    else this.#drag = { ...begin, ...this.#framing(event, lane) };
  }

  #pull(event) {
    const drag = this.#drag;
    if (!drag.isMoving && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < DRAG_PX) return;
    if (!drag.isMoving) this.root.setPointerCapture(event.pointerId); // not before, or a double click is the root's
    drag.isMoving = true;
    drag.pull(event);
    this.actions.changed();
  }

  #release(event) {
    const drag = this.#drag;
    if (!drag) return;
    const previews = new Map(this.actions.previews);
    this.cancel();
    drag.release(event, drag.isMoving, previews);
  }

  /** Move strokes, or with Shift change their velocities; with Ctrl copies are put where they are dropped. */
  #holding(event, stroke, button) {
    const { actions } = this;
    const isToggled = event.ctrlKey || event.metaKey;
    const wasSelected = actions.selection.has(stroke.id);
    if (!wasSelected) actions.select(stroke.id, isToggled || event.shiftKey);
    button.focus({ preventScroll: true });
    const { chosen } = actions;
    const offsetS = this.#timeAt(event) - stroke.onset_s;
    const isVelocity = event.shiftKey;
    const isOneClass = chosen.every((other) => other.class === stroke.class);
    let isAlong = false; // moved in time, not from lane to lane alone
    const pull = (move) => {
      isAlong ||= Math.abs(move.clientX - event.clientX) >= DRAG_PX;
      const height = this.#lanes.lanes.get(stroke.class).clientHeight;
      const louder = (event.clientY - move.clientY) / height;
      const toS = actions.snap(this.#timeAt(move) - offsetS, move.altKey);
      const drumClass = (isOneClass && this.#classAt(move)) || stroke.class;
      const along = isAlong ? actions.shifted(chosen, stroke, toS) : chosen;
      const placed = isVelocity ? chosen.map((s) => louderBy(s, louder)) : along;
      const moved = isVelocity || drumClass === stroke.class ? placed : placed.map((s) => inLane(s, drumClass));
      for (const after of moved) actions.previews.set(after.id, after);
    };
    const release = (up, isMoved, previews) => {
      if (isMoved && (up.ctrlKey || up.metaKey) && !isVelocity) actions.add([...previews.values()]);
      else if (isMoved) actions.become([...previews.values()]);
      else if ((isToggled || isVelocity) && wasSelected) actions.toggle(stroke.id);
      else if (!isToggled && !isVelocity) {
        actions.select(stroke.id);
        actions.playHit(stroke.id);
      }
    };
    return { pull, release };
  }

  /** Mark strokes with a frame; a click places the playhead. */
  #framing(event, lane) {
    const { actions } = this;
    const [x, y] = [this.#x(event), this.#y(event)];
    const isAdded = event.shiftKey || event.ctrlKey || event.metaKey;
    const before = isAdded ? [...actions.selection] : [];
    actions.lane = lane.dataset.class;
    lane.focus({ preventScroll: true });
    const pull = (move) => {
      const [left, right] = [x, this.#x(move)].sort((a, b) => a - b);
      const [top, bottom] = [y, this.#y(move)].sort((a, b) => a - b);
      Object.assign(this.frame.style, {
        transform: `translate(${left}px, ${top}px)`,
        width: `${right - left}px`,
        height: `${bottom - top}px`,
      });
      this.frame.hidden = false;
      const classes = this.#classesBetween(top, bottom);
      const [startS, stopS] = [actions.view.timeAt(left), actions.view.timeAt(right)];
      const isIn = (s) => s.onset_s >= startS && s.onset_s <= stopS && classes.has(s.class);
      actions.selectAll([...before, ...this.#lanes.inView.filter(isIn).map((s) => s.id)]);
    };
    const release = (up, isMoved) => {
      if (isMoved) return actions.selection.size > 1 && actions.say(`${actions.selection.size} strokes selected.`);
      if (!isAdded) actions.select(null);
      if (!actions.sound.isPlaying) actions.sound.seek(actions.snap(this.#timeAt(up), up.altKey));
    };
    return { pull, release };
  }

  /** Paint strokes along a lane, or take those out that are touched where it began on one. */
  #painting(event, drumClass, stroke) {
    const { actions } = this;
    const painted = new Map(); // by onset
    const erased = new Set();
    const velocity = actions.usualVelocity(drumClass);
    let lastS = null;
    const touch = (move) => {
      const at = actions.snap(this.#timeAt(move), move.altKey);
      if (stroke) {
        const reach = 6 / actions.view.pxPerS;
        const isTouched = (s) => s.class === drumClass && Math.abs(s.onset_s + reach / 2 - this.#timeAt(move)) < reach;
        for (const { id } of this.#lanes.inView.filter(isTouched)) erased.add(id);
        actions.selectAll([...erased]);
      } else {
        for (const onset_s of this.#linesBetween(lastS ?? at, at, move.altKey)) {
          painted.set(onset_s, { id: `paint-${onset_s}`, class: drumClass, onset_s, velocity, articulation: "" });
        }
        lastS = at;
        this.#lanes.showPainted([...painted.values()]);
      }
    };
    if (stroke) erased.add(stroke.id);
    touch(event);
    const release = () => {
      this.#lanes.showPainted([]);
      if (stroke) {
        actions.selectAll([...erased]);
        actions.remove();
      } else {
        actions.add([...painted.values()].map(({ id, ...drawn }) => drawn));
        actions.playHit(actions.selectedId);
      }
    };
    return { pull: touch, release };
  }

  /** Return the lines of the grid from one to another: a fast pointer leaves none out. */
  #linesBetween(fromS, toS, isFree) {
    const { doc, snapBeats } = this.actions;
    if (isFree || !snapBeats) return [toS];
    const [first, last] = [fromS, toS].sort((a, b) => a - b).map((s) => Math.round(doc.grid.beatAt(s) / snapBeats));
    const lines = Array.from({ length: last - first + 1 }, (_, i) => doc.grid.timeOf((first + i) * snapBeats));
    return lines.map((timeS) => this.actions.snap(timeS, true));
  }

  #classesBetween(top, bottom) {
    const { top: from } = this.root.getBoundingClientRect();
    const isTouched = ([, lane]) => {
      const place = lane.getBoundingClientRect();
      return place.top - from < bottom && place.bottom - from > top;
    };
    return new Set([...this.#lanes.lanes].filter(isTouched).map(([drumClass]) => drumClass));
  }

  #double(event) {
    const lane = event.target.closest(".lane");
    if (!lane || event.target.closest(".stroke") || this.actions.tool === "draw") return;
    this.actions.draw(lane.dataset.class, this.#timeAt(event), event.altKey);
    this.#lanes.focusSelected();
  }

  /** Change a stroke's velocity by the wheel with Alt; otherwise the wheel is the view's. */
  #wheel(event) {
    const button = event.target.closest(".stroke");
    if (!button || !event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (!this.actions.selection.has(button.dataset.id)) this.actions.select(button.dataset.id);
    this.actions.changeVelocity(event.deltaY < 0 ? 1 : -1);
  }
}

const louderBy = (stroke, louder) => ({
  ...stroke,
  velocity: Math.min(1, Math.max(1 / 127, stroke.velocity + louder)),
});

const inLane = (stroke, drumClass) => ({ ...stroke, class: drumClass, articulation: "" });
