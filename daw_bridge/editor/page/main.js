// Brings the page together: the server's events come in, changes go to the screen once a frame.

import { Actions } from "./actions.js";
import { Api, ApiError } from "./api.js";
import { onTheme } from "./canvas.js";
import { Dialogs } from "./dialogs.js";
import { byId, makeLanes } from "./dom.js";
import { EditorDocument } from "./document.js";
import { Drops } from "./drops.js";
import { Entrance } from "./entrance.js";
import { Feel } from "./feel.js";
import { Keys } from "./keys.js";
import { LaneHeads } from "./lane-heads.js";
import { LanePointer } from "./lane-pointer.js";
import { Lanes } from "./lanes.js";
import { Library, onDrop } from "./library.js";
import { Menu } from "./menu.js";
import { Repeats } from "./repeats.js";
import { Ruler } from "./ruler.js";
import { Sender } from "./send.js";
import { SoundPanel } from "./sound-panel.js";
import { Sound } from "./sound.js";
import { Spectrum } from "./spectrum.js";
import { Status } from "./status.js";
import { Toolbar } from "./toolbar.js";
import { Pinch } from "./touch.js";
import { Velocities } from "./velocity.js";
import { Versions } from "./versions.js";
import { View } from "./view.js";
import { Overview, Wave } from "./wave.js";
import { sentence, sentences } from "./words.js";

const LONGEST_FIRST_LOOP_S = 60; // a recording up to this long loops from the start
const GONE = "The editor's server has ended or does not answer. Every edit that was stored is safe: run redrum edit for this recording again, and it goes on where you are.";

const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";

makeLanes();
const api = new Api(token);
const doc = new EditorDocument(api);
const sound = new Sound(api);
const view = new View();
const actions = new Actions(doc, sound, view);
const status = new Status(actions);
const dialogs = new Dialogs(api, doc);
const lanes = new Lanes(byId("lanes"), actions);
const ruler = new Ruler({ ruler: byId("ruler"), lines: byId("lines"), loop: byId("loop-region"), time: byId("time") }, actions);
const overview = new Overview(api, byId("overview-wave"), view, byId("thumb"));
const wave = new Wave(api, byId("wave"), view, overview);
const spectrum = new Spectrum(api, byId("spectrum"), view, byId("spectrum-note"));
const pointer = new LanePointer(byId("lanes"), byId("marquee"), lanes, actions);
const velocities = new Velocities(byId("velocity"), lanes, actions);
const heads = new LaneHeads(actions);
const entrance = new Entrance(api);
const isEmpty = () => doc.facts.state === "empty";
const library = new Library(api, actions);
const feel = new Feel(actions);
const sender = new Sender(api, actions, status);
const repeats = new Repeats(actions);
const soundPanel = new SoundPanel(actions);
const versions = new Versions(api, actions);
const drops = new Drops(actions, library, soundPanel);
const commands = {
  export: () => dialogs.openExport(),
  help: () => dialogs.openHelp(),
  library: () => library.open(),
  feel: () => feel.toggle(),
  repeat: () => repeats.open(),
  sound: () => soundPanel.toggle(),
  versions: () => versions.toggle(),
  version: (slot) => versions.press(slot),
  send: () => (sender.host ? sender.send() : dialogs.openExport()),
};
const toolbar = new Toolbar(actions, commands);
const cancel = () => menu.close() || velocities.cancel() || pointer.cancel();
const menu = new Menu(actions, commands);
new Keys(actions, lanes, () => cancel() || soundPanel.panel.close() || versions.panel.close(), commands);
new Pinch(byId("time"), view, cancel);
onDrop((files) => (isEmpty() ? files[0] && entrance.take(files[0]) : drops.take(files)));

// What is out of date on the screen.

const stale = new Set();
let frame = 0;

function refresh(...parts) {
  for (const part of parts) stale.add(part);
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  if (sound.isMoving) view.follow(sound.positionS);
  const parts = new Set(stale);
  stale.clear();
  if (parts.has("view")) {
    wave.draw();
    spectrum.draw();
    overview.mark();
  }
  if (parts.has("strokes") || parts.has("sound")) {
    toolbar.draw();
    heads.draw();
    sender.draw();
    soundPanel.draw();
    versions.draw();
    status.draw();
  }
  if (parts.has("view") || parts.has("strokes")) {
    const isSettled = lanes.draw();
    ruler.draw(parts.has("view"));
    velocities.draw();
    if (isSettled) status.crowd(lanes.nHidden && lanes.inView.length);
  }
  drawPlayhead();
  if (sound.isMoving) refresh("playhead");
}

function drawPlayhead() {
  const x = view.xOf(sound.positionS);
  const playhead = byId("playhead");
  playhead.style.transform = `translateX(${x.toFixed(1)}px)`;
  playhead.hidden = x < 0 || x > view.widthPx;
  Object.assign(playhead.dataset, { seconds: sound.positionS.toFixed(4), peak: sound.peak.toFixed(6), context: sound.contextTimeS.toFixed(4) });
  toolbar.drawPosition();
}

doc.addEventListener("change", () => {
  if (doc.lengthS && doc.lengthS !== lengthS) takeLength();
  refresh("strokes");
});
doc.addEventListener("answered", () => (status.progress = null));
doc.addEventListener("message", ({ detail }) => status.say(detail));
doc.addEventListener("refused", ({ detail: { error, isEdit } }) => {
  if (error.status === 0) {
    lose();
    if (isEdit) status.say("The last edit was not stored.");
  } else {
    status.trouble("edit", `${isEdit ? "This edit was not made. " : ""}${sentence(error)}`);
    setTimeout(() => status.trouble("edit", null), 12_000);
    doc.load().catch(() => {});
  }
});
actions.addEventListener("change", () => refresh("strokes"));
actions.addEventListener("message", ({ detail }) => status.say(detail));
sound.addEventListener("change", () => refresh("sound"));
view.addEventListener("change", () => refresh("view"));
onTheme(() => {
  spectrum.recolour();
  overview.draw();
  refresh("view");
});
new ResizeObserver(() => {
  fit();
  overview.draw();
}).observe(byId("time"));

let lengthS = 0; // of what plays

/** Fit to another length of what plays; a loop of all of it stays one. */
function takeLength() {
  const isAll = sound.loopS && sound.loopS[0] === 0 && sound.loopS[1] === lengthS;
  lengthS = doc.lengthS;
  if (isAll) sound.setLoop([0, lengthS]);
  fit();
  overview.draw();
}

function fit() {
  const { source } = doc.facts;
  view.resize(byId("time").clientWidth, Math.max(doc.lengthS || 0, source ? source.duration_s : 1));
}

byId("time").addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    const x = event.clientX - byId("time").getBoundingClientRect().left;
    if (event.ctrlKey || event.metaKey) view.zoom(Math.exp(-event.deltaY * pixels * 0.003), x);
    else view.scrollBy((event.deltaX + event.deltaY) * pixels);
  },
  { passive: false },
);
for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => sound.unblock(), { capture: true });
addEventListener("beforeunload", (event) => doc.nUnstored && status.isGone && event.preventDefault());

// What the server reports.

let isOpen = false;

/** Load everything, and hand what is new to the pictures and the player. */
async function load() {
  await doc.load();
  const { facts } = doc;
  entrance.show(isEmpty());
  if (facts.source && facts.state !== "failed" && !isOpen) {
    isOpen = true;
    fit();
    view.showAll();
    for (const picture of [wave, spectrum, overview]) picture.open(facts.source);
    lengthS = facts.length_s ?? facts.source.duration_s;
    if (lengthS <= LONGEST_FIRST_LOOP_S) sound.loopS = [0, lengthS];
    sound.open(facts.source, facts.block_samples, () => doc.grid.bars(0, sound.lengthS)).then(takeRendered);
  } else {
    takeRendered();
  }
  versions.take(facts.compared ?? {});
  status.trouble("opening", facts.opening.length ? sentences(facts.opening) : null);
  if (facts.notes.length) status.note(sentences(facts.notes));
  if (facts.source_changed) status.trouble("source", `${facts.source.name} was changed or moved while it was edited; the edits are safe.`);
}

/** Have the version played that was rendered before this page listened. */
function takeRendered() {
  const { facts } = doc;
  if (!doc.isReady || facts.rendered === null || facts.rendered !== facts.version) return;
  sound.take({ version: facts.rendered, base: null, changed: [], n_samples: facts.rendered_samples });
}

function lose() {
  if (status.isGone || isEmpty()) return;
  status.isGone = true;
  status.trouble("server", GONE);
}

const handlers = {
  async state() {
    if (status.isGone) status.say("The server answers again.");
    status.isGone = false;
    await load();
  },
  async ready() {
    status.progress = null;
    await load();
    if (doc.facts.resumed) status.say("These are your edits of last time; Undo takes them back.");
  },
  async failed() {
    status.progress = null;
    await load();
  },
  noted({ notes }) {
    if (doc.strokes("detected").length) status.trouble("noted", sentences(notes));
  },
  version: (step) => doc.receive(step),
  compared: ({ compared }) => versions.take(compared),
  rendered(rendered) {
    status.progress = null;
    status.trouble("render", null);
    sound.take(rendered);
    if (rendered.notes.length) status.note(sentences(rendered.notes));
  },
  unrendered(failure) {
    status.progress = null;
    status.trouble("render", sentence(failure));
  },
  progress({ stage, fraction }) {
    status.progress = fraction < 1 ? { stage, fraction } : null;
  },
  "source-changed": (change) => status.trouble("source", sentence(change)),
  closed: () => lose(),
};

async function receive({ event, ...about }) {
  try {
    await handlers[event]?.(about);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 0) lose();
  }
  refresh("strokes");
}

fit();
refresh("view", "strokes");
if (token) {
  api.listen(receive, (refusal) => {
    if (!refusal && isEmpty()) return; // the editor of what was dropped begins
    status.isGone = true;
    status.trouble("server", refusal ? sentence(refusal) : GONE);
    refresh("strokes");
  });
} else {
  status.isGone = true;
  status.trouble("server", "This address lacks its token. Open the one that redrum edit printed, all of it.");
}
