// What things are called on the page.

export const CLASSES = ["KD", "SD", "TT", "HH", "CY"];

export const CLASS_NAMES = { KD: "kick", SD: "snare", TT: "tom", HH: "hi-hat", CY: "cymbal" };

const STAGES = {
  open: "Reading the recording",
  transcribe: "Transcribing the recording",
  "transcribe source": "Transcribing the recording",
  "separate source": "Separating the drums",
  prepare: "Cutting the hits",
  "transcribe rhythm": "Transcribing the rhythm",
  "transcribe kit": "Transcribing more of the kit",
  "cut kit": "Cutting the hits",
  separate: "Separating the drums",
  render: "Rendering",
  compare: "Measuring the version",
  export: "Writing the export",
  kit: "Cutting the kit",
};

// One sign for each articulation, which a stroke shows where there is room.
const SIGNS = {
  open: "○", closed: "×", pedal: "p", sidestick: "s", clap: "c", rim: "r", brush: "b",
  floor: "F", low: "1", "low-mid": "2", mid: "3", "high-mid": "4", high: "5",
  crash: "c", ride: "r", bell: "b", china: "h", splash: "s",
};

export const signOf = (articulation) => SIGNS[articulation] || "";

export const stageName = (stage) => STAGES[stage] || stage.charAt(0).toUpperCase() + stage.slice(1);

/** Return a velocity as MIDI has it, 1 to 127. */
export const midiVelocity = (velocity) => Math.max(1, Math.round(velocity * 127));

/** Return what a stroke is: "snare at 1.2.3, velocity 80". */
export function strokeLabel(stroke, grid) {
  const name = CLASS_NAMES[stroke.class] + (stroke.articulation ? ` (${stroke.articulation})` : "");
  return `${name} at ${grid.position(stroke.onset_s).text}, velocity ${midiVelocity(stroke.velocity)}`;
}

/** Return a time as 1:02.345. */
export function clock(timeS) {
  const ms = Math.max(0, Math.round(timeS * 1000));
  const seconds = String(Math.floor(ms / 1000) % 60).padStart(2, "0");
  const minutes = Math.floor(ms / 60_000);
  return `${minutes}:${seconds}.${String(ms % 1000).padStart(3, "0")}`;
}

/** Return an error as one or two sentences; a first word that is a name stays as it is. */
export function sentence(error) {
  const parts = [error.message ?? error.error, error.hint].filter(Boolean).map((text) => text.trim());
  const begun = parts.map((text) => (/^[a-z]+(?= |$)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text));
  return `${begun.join(". ")}.`;
}

/** Return notes of the server in a row. */
export function sentences(notes) {
  return notes.map((error) => sentence({ error })).join(" ");
}

/** Return what a recording is: "44.1 kHz, stereo, 0:08.000". */
export function sourceFacts(source) {
  const channels = { 1: "mono", 2: "stereo" }[source.channels] || `${source.channels} channels, monitored in stereo`;
  const layout = source.microphones ? `${source.microphones} microphones, played as their sum` : channels;
  return `${source.sample_rate / 1000} kHz, ${layout}, ${clock(source.duration_s)}`;
}
