// The sheet of all keys, by what they are for.

const SHEET = {
  "Play": [
    ["Space", "play or pause"],
    ["Home", "go to the start"],
    ["A", "compare with the recording as it was"],
    ["L", "loop on or off"],
    ["[ and ]", "let the loop begin or end at the playhead"],
    ["← → in a lane", "move the playhead along the grid, with Alt by 10 ms"],
    ["M, S", "mute, or solo, the lane that the keyboard is in"],
  ],
  "Go to and select": [
    ["1 to 5", "go to a lane: kick, snare, tom, hi-hat, cymbal"],
    ["Tab", "from a lane to its strokes, and on"],
    ["← → on a stroke", "to the stroke before or after; with Ctrl it is selected as well"],
    ["↑ ↓ on a stroke", "to the nearest stroke of a lane above or below"],
    ["Ctrl + A", "select everything, or what is in the loop"],
    ["Ctrl + Shift + A", "select all of a lane"],
    ["Escape", "select nothing; give a drag up"],
    ["W", "what plays, or what was detected"],
    ["Menu, Shift + F10", "what can be done here, as a right click"],
  ],
  "Strokes": [
    ["P", "draw a stroke at the playhead"],
    ["D", "draw with the pointer, or select again"],
    ["Enter", "play the stroke's sound"],
    ["Shift + ← →", "move along the grid, with Alt by 1 ms"],
    ["Shift + 1 to 5", "make it a kick, snare, tom, hi-hat or cymbal"],
    ["O", "the next articulation: open, closed, pedal ..."],
    ["Alt + 1 to 6", "an articulation by its place in the list"],
    ["Delete", "delete what plays, or dismiss what was detected"],
    ["Ctrl + C, X, V", "copy, cut, paste at the playhead"],
    ["Ctrl + D", "play what is selected once more, right after"],
    ["R", "repeat bars, or make a fill of them"],
  ],
  "Velocity": [
    ["Shift + ↑ ↓", "louder or softer"],
    ["Ctrl + ↑ ↓", "louder or softer in proportion"],
    [".", "accent"],
    [",", "ghost note"],
    ["Drag below the lanes", "paint velocities of a lane, with Shift a ramp"],
    ["/", "a ramp from the first that is selected to the last"],
  ],
  "Grid and feel": [
    ["G, Shift + G", "a finer, or a coarser, grid"],
    ["Q", "quantise: what is selected, the loop, or everything"],
    ["F", "strength, swing and humanise as sliders"],
    ["T", "tap the tempo, four times or more"],
    ["B", "let a bar begin at the playhead"],
  ],
  "Everything": [
    ["Ctrl + Z", "undo"],
    ["Ctrl + Shift + Z", "redo"],
    ["I", "rhythms: of the library, or from a file"],
    ["K", "sound: engine, balance, tail, more of the kit"],
    ["7, 8, 9", "store version A, B, C; then listen to it"],
    ["V", "versions: store anew, go on from one"],
    ["E", "export"],
    ["Ctrl + S", "send to REAPER or Live, where the editor was opened from one; else export"],
    ["+ and -", "zoom in and out"],
    ["0", "show everything"],
    ["Page up and down", "scroll"],
    ["?", "show these keys"],
  ],
};

/** Fill the sheet. */
export function fillSheet(root) {
  const sections = Object.entries(SHEET).map(([title, keys]) => {
    const section = element("section", "");
    const list = element("dl", "");
    list.append(...keys.flatMap(([key, does]) => [element("dt", key), element("dd", does)]));
    section.append(element("h3", title), list);
    return section;
  });
  root.replaceChildren(...sections);
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
