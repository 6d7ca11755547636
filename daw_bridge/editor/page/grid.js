// Bars and beats over time: the page's counterpart of `Grid` in document.py.

const ON_LINE_BEATS = 1e-6;

export class Grid {
  /** Take a grid as the server describes it: tempo [[beat, BPM], ...] in order from beat 0. */
  constructor({ tempo, beats_per_bar, downbeat_s }) {
    Object.assign(this, { tempo, beatsPerBar: beats_per_bar, downbeatS: downbeat_s });
    let startS = 0;
    this.steps = tempo.map(([beat, bpm], i) => {
      if (i) startS += ((beat - tempo[i - 1][0]) * 60) / tempo[i - 1][1];
      return { beat, startS, pace: 60 / bpm };
    });
  }

  /** Return the position of a time in beats from the downbeat. */
  beatAt(timeS) {
    const step = this.#last((s) => s.startS <= timeS - this.downbeatS);
    return step.beat + (timeS - this.downbeatS - step.startS) / step.pace;
  }

  /** Return when a beat falls, in seconds. */
  timeOf(beat) {
    const step = this.#last((s) => s.beat <= beat);
    return this.downbeatS + step.startS + (beat - step.beat) * step.pace;
  }

  /** Return the nearest line of a grid of steps; 0 beats: the time itself. */
  snap(timeS, stepBeats) {
    return stepBeats ? this.timeOf(Math.round(this.beatAt(timeS) / stepBeats) * stepBeats) : timeS;
  }

  /** Return the time one line further, or back. */
  next(timeS, stepBeats, direction) {
    const at = this.beatAt(timeS) / stepBeats;
    const line = direction > 0 ? Math.floor(at + 1e-4) + 1 : Math.ceil(at - 1e-4) - 1;
    return this.timeOf(line * stepBeats);
  }

  /** Return the nearest sixteenth as bar, beat and part from 1, and how far off a time is. */
  position(timeS) {
    const sixteenth = Math.round(this.beatAt(timeS) * 4) / 4;
    const bar = Math.floor(sixteenth / this.beatsPerBar + ON_LINE_BEATS);
    const inBar = sixteenth - bar * this.beatsPerBar;
    const beat = Math.floor(inBar + ON_LINE_BEATS);
    const part = Math.floor((inBar - beat) * 4 + ON_LINE_BEATS);
    return { text: `${bar + 1}.${beat + 1}.${part + 1}`, offMs: (timeS - this.timeOf(sixteenth)) * 1000 };
  }

  /** Return the bar, beat and part that a time lies in, as a display of the position shows it. */
  counter(timeS) {
    const sixteenths = Math.floor(this.beatAt(timeS) * 4 + 1e-4) / 4;
    return this.position(this.timeOf(sixteenths)).text;
  }

  /** Return the lines of a region, each with its time, and its number if a bar begins there. */
  lines(startS, stopS, stepBeats) {
    const found = [];
    const first = Math.ceil(this.beatAt(startS) / stepBeats - ON_LINE_BEATS);
    for (let i = first; found.length < 4000; i++) {
      const timeS = this.timeOf(i * stepBeats);
      if (timeS > stopS) break;
      const bar = (i * stepBeats) / this.beatsPerBar;
      const isBar = Math.abs(bar - Math.round(bar)) < ON_LINE_BEATS;
      const isBeat = Math.abs(i * stepBeats - Math.round(i * stepBeats)) < ON_LINE_BEATS;
      found.push({ timeS, isBeat, bar: isBar ? Math.round(bar) + 1 : null });
    }
    return found;
  }

  /** Return when the bars of a region begin. */
  bars(startS, stopS) {
    return this.lines(startS, stopS, this.beatsPerBar).map((line) => line.timeS);
  }

  #last(isBefore) {
    let found = this.steps[0];
    for (const step of this.steps) {
      if (!isBefore(step)) break;
      found = step;
    }
    return found;
  }
}
