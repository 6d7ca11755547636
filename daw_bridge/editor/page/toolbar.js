// The controls around the lanes: transport, history, layers, grid, sensitivities, and the selected stroke.

import { byId, control, setText } from "./dom.js";
import { CLASS_NAMES, clock, midiVelocity, sourceFacts, strokeLabel } from "./words.js";

const SNAP_VALUES = [...control("snap").options].map((option) => option.value);

export class Toolbar {
  constructor(actions, commands) {
    this.actions = actions;
    this.#bindButtons(commands);
    this.#bindFields();
    // A button that was clicked by a pointer gives the keyboard back, so that Space plays.
    document.addEventListener("click", (event) => {
      const button = event.target.closest(".top button, .bar button, .gutter button, .inspector button");
      if (button && event.detail > 0) button.blur();
    });
  }

  #bindButtons(commands) {
    const { actions } = this;
    const clicks = {
      "to-start": () => actions.goToStart(),
      play: () => actions.togglePlay(),
      loop: () => actions.toggleLoop(),
      ab: () => actions.toggleSource(),
      undo: () => actions.undo(),
      redo: () => actions.redo(),
      export: () => commands.export(),
      help: () => commands.help(),
      library: () => commands.library(),
      repeat: () => commands.repeat(),
      feel: () => commands.feel(),
      sound: () => commands.sound(),
      versions: () => commands.versions(),
      "tool-select": () => actions.setTool("select"),
      "tool-draw": () => actions.setTool("draw"),
      quantise: () => actions.quantise(),
      downbeat: () => actions.setDownbeat(),
      "layer-played": () => actions.setLayer("played"),
      "layer-detected": () => actions.setLayer("detected"),
      "zoom-in": () => actions.zoom(1.5),
      "zoom-out": () => actions.zoom(1 / 1.5),
      "zoom-all": () => actions.view.showAll(),
      "play-hit": () => actions.playHit(actions.selectedId),
      delete: () => actions.remove(),
    };
    for (const [testId, click] of Object.entries(clicks)) control(testId).addEventListener("click", click);
  }

  #bindFields() {
    const { actions } = this;
    const changes = {
      snap: (field) => (actions.snapBeats = Number(field.value)),
      tempo: (field) => actions.setTempo(Number(field.value)),
      metre: (field) => field.value >= 1 && field.value <= 64 && actions.setGrid({ beats_per_bar: Number(field.value) }),
      "stroke-class": (field) => actions.relabel(field.value),
      "stroke-articulation": (field) => actions.setArticulation(field.value),
      "stroke-velocity": (field) => actions.setVelocity(Number(field.value) / 127),
    };
    for (const [testId, change] of Object.entries(changes)) {
      const field = control(testId);
      field.addEventListener("change", () => {
        change(field);
        actions.changed();
      });
      field.addEventListener("keydown", (event) => event.key === "Enter" && field.blur());
    }
  }

  /** Show the state of everything but the playhead. */
  draw() {
    const { actions } = this;
    const { doc, sound, layer } = actions;
    const { source } = doc.facts;
    setText("name", source ? source.name : "Redrum");
    byId("name").title = source ? source.path : "";
    setText("facts", source ? sourceFacts(source) : doc.facts.state === "empty" ? "No recording is open" : "Opening the recording");
    document.title = source ? `${source.name} - Redrum` : "Redrum";
    document.body.toggleAttribute("data-playing", sound.isPlaying);
    document.body.dataset.layer = layer;
    const isReady = doc.isReady;
    pressed("loop", Boolean(sound.loopS));
    pressed("ab", sound.which === "source");
    const audible = { take: "the edited version", source: "the source" }[sound.which] ?? `version ${sound.which}`;
    control("ab").setAttribute("aria-label", `Edited or source: ${audible} plays`);
    control("ab").toggleAttribute("data-neither", sound.which !== "take" && sound.which !== "source");
    control("play").setAttribute("aria-label", sound.isPlaying ? "Pause" : "Play");
    control("undo").disabled = !isReady || !doc.canUndo;
    control("redo").disabled = !isReady || !doc.canRedo;
    for (const testId of ["export", "quantise", "downbeat", "library", "repeat", "feel", "sound"]) control(testId).disabled = !isReady;
    control("layer-played").setAttribute("aria-checked", String(layer === "played"));
    control("layer-detected").setAttribute("aria-checked", String(layer === "detected"));
    fill(control("tempo"), String(Math.round((60 / doc.grid.steps[0].pace) * 100) / 100));
    fill(control("metre"), String(doc.grid.beatsPerBar));
    fill(control("snap"), SNAP_VALUES.find((value) => Math.abs(Number(value) - actions.snapBeats) < 1e-9));
    for (const tool of ["select", "draw"]) {
      control(`tool-${tool}`).setAttribute("aria-checked", String(actions.tool === tool));
    }
    document.body.dataset.tool = actions.tool;
    this.#drawStroke();
  }

  /** Show where the playhead is. */
  drawPosition() {
    const { doc, sound } = this.actions;
    const timeS = sound.positionS;
    setText("counter", doc.grid.counter(timeS));
    setText("clock", clock(timeS));
  }

  #drawStroke() {
    const { actions } = this;
    const stroke = actions.previews.get(actions.selectedId) ?? actions.selected;
    const others = actions.selection.size - 1;
    const isPlayed = actions.layer === "played";
    for (const testId of ["stroke-class", "stroke-articulation", "play-hit", "delete"]) control(testId).disabled = !stroke;
    control("stroke-velocity").disabled = !stroke || !isPlayed;
    setText("delete-label", isPlayed ? "Delete" : "Dismiss");
    if (!stroke) {
      setText("stroke-name", "No stroke selected");
      setText("stroke-place", "");
      return;
    }
    const { grid, facts } = actions.doc;
    const { text: place, offMs } = grid.position(stroke.onset_s);
    const off = Math.abs(offMs) < 0.5 ? "on the grid" : `${Math.abs(offMs).toFixed(0)} ms ${offMs > 0 ? "late" : "early"}`;
    const name = strokeLabel(stroke, grid).split(",")[0];
    setText("stroke-name", others > 0 ? `${others + 1} selected: ${name}` : name);
    setText("stroke-place", `${place}, ${off}, ${clock(stroke.onset_s)}`);
    fill(control("stroke-class"), stroke.class);
    fillArticulations(control("stroke-articulation"), stroke.class, facts.articulations[stroke.class]);
    fill(control("stroke-articulation"), stroke.articulation);
    fill(control("stroke-velocity"), String(midiVelocity(stroke.velocity)));
  }
}

function fillArticulations(field, drumClass, names) {
  if (field.dataset.class === drumClass) return;
  field.dataset.class = drumClass;
  field.replaceChildren(...names.map((name) => new Option(name || `plain ${CLASS_NAMES[drumClass]}`, name)));
}

/** Set a field that nobody is typing in. */
function fill(field, value) {
  if (field.value !== value && field !== document.activeElement) field.value = value;
}

function pressed(testId, isPressed) {
  control(testId).setAttribute("aria-pressed", String(isPressed));
}
