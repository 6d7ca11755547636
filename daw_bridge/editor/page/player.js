// Plays a recording and the take of it, block by block, in the browser's audio thread.
//
// Both are tables of blocks, and so are versions that are compared, each with its gain. A new version of the take waits as `staged` until a bar or the loop begins, and is
// taken over by a cross-fade. Where a block is missing, the player waits for it and plays silence.

const FADE_FRAMES = 256;
const REPORT_FRAMES = 2048;

class Player extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.blockFrames = processorOptions.blockFrames;
    this.tables = { source: table(0), take: table(0) };
    this.which = "take";
    this.frame = 0;
    this.isPlaying = this.isWaiting = false;
    this.loop = null; // [start, stop) in frames
    this.bars = []; // frames at which bars begin
    this.staged = null; // a table with `isWhole`, `forget` and `version`
    this.fade = null; // {from, left, isLast}: the table that is faded out; without one, silence
    this.nUnreported = 0;
    this.peak = 0;
    this.port.onmessage = ({ data }) => this[data.do](data);
  }

  // What the page has it do.

  play() {
    this.isPlaying = true;
    this.fade = null;
    this.report();
  }

  pause() {
    if (this.isPlaying) this.fade = { from: null, left: FADE_FRAMES, isLast: true };
  }

  seek({ frame }) {
    if (this.isPlaying) this.fade = { from: null, left: FADE_FRAMES };
    this.frame = frame;
    this.report();
  }

  setLoop({ loop }) {
    this.loop = loop;
    if (loop && this.isPlaying && this.frame >= loop[1]) this.seek({ frame: loop[0] });
  }

  choose({ which }) {
    if (which === this.which || !(which in this.tables)) return;
    this.fade = { from: this.tables[this.which], left: FADE_FRAMES };
    this.which = which;
    if (which === "take" && this.staged) this.takeOver();
  }

  /** Take over which versions are compared: by slot the version, its length and its gain. */
  compare({ slots }) {
    for (const slot of Object.keys(this.tables)) {
      if (slot === "source" || slot === "take" || slot in slots) continue;
      if (this.which === slot) this.choose({ which: "take" });
      delete this.tables[slot];
    }
    for (const [slot, { version, nFrames, gain }] of Object.entries(slots)) {
      const present = this.tables[slot];
      this.tables[slot] = present?.version === version ? present : table(nFrames);
      Object.assign(this.tables[slot], { version, gain });
    }
  }

  /** Take blocks that were missing; of a take that is all new, into what is staged. */
  fill({ which, nFrames, blocks, forget }) {
    if (!(which in this.tables)) return;
    const isStaged = which === "take" && this.staged?.isWhole;
    const place = isStaged ? this.staged : this.tables[which];
    if (!isStaged) place.nFrames = nFrames;
    for (const number of forget) place.blocks.delete(number);
    for (const [number, channels] of blocks) {
      place.blocks.set(number, channels);
      if (which === "take") this.staged?.forget.delete(number);
    }
  }

  /** Take what is new in a version of the take; `bars` are the frames at which it may begin. */
  stage({ version, nFrames, isWhole, blocks, forget, bars }) {
    const staged = !isWhole && this.staged ? this.staged : { ...table(0), isWhole, forget: new Set() };
    for (const number of forget) {
      staged.forget.add(number);
      staged.blocks.delete(number);
    }
    for (const [number, channels] of blocks) staged.blocks.set(number, channels);
    this.staged = Object.assign(staged, { version, nFrames });
    this.bars = bars;
    if (!this.isPlaying || this.which !== "take") this.takeOver();
  }

  /** Let what is staged be the take. */
  takeOver() {
    const { isWhole, blocks, forget, nFrames, version } = this.staged;
    const taken = table(nFrames, isWhole ? [] : this.tables.take.blocks);
    for (const number of forget) taken.blocks.delete(number);
    for (const [number, channels] of blocks) taken.blocks.set(number, channels);
    this.tables.take = taken;
    this.staged = null;
    this.port.postMessage({ event: "taken", version });
  }

  // What the audio thread asks for.

  process(_, [output]) {
    const nFrames = output[0].length;
    for (let i = 0; i < nFrames && this.isPlaying; i++) if (!this.playFrame(output, i)) break;
    this.nUnreported += nFrames;
    if (this.nUnreported >= REPORT_FRAMES) this.report();
    return true;
  }

  /** Play one frame; false where there is none. */
  playFrame(output, i) {
    if (this.loop && this.frame === this.loop[1]) this.frame = this.loop[0];
    if (this.staged && this.which === "take" && this.mayTakeOver()) {
      this.fade = { from: this.tables.take, left: FADE_FRAMES };
      this.takeOver();
    }
    const played = this.tables[this.which];
    const whole = this.which === "source" ? this.tables.take : played;
    if (this.frame >= (whole.nFrames || Infinity)) {
      this.end();
      this.port.postMessage({ event: "ended" });
      return false;
    }
    const block = this.blockAt(played, this.frame);
    this.isWaiting = block === undefined;
    if (this.isWaiting) return false;
    for (let c = 0; c < output.length; c++) output[c][i] = this.mixed(played, block, c);
    this.peak = Math.max(this.peak, Math.abs(output[0][i]));
    this.frame += 1;
    if (this.fade && --this.fade.left <= 0) {
      if (this.fade.isLast) this.end();
      this.fade = null;
    }
    return true;
  }

  /** Return whether the version that is staged may begin here: at a bar, a loop, or where nothing else plays on. */
  mayTakeOver() {
    const { frame, bars } = this;
    if (frame === (this.loop ? this.loop[0] : 0) || this.blockAt(this.tables.take, frame) === undefined) return true;
    let low = 0;
    for (let high = bars.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (bars[middle] < frame) low = middle + 1;
      else high = middle;
    }
    return bars[low] === frame;
  }

  /** Return a sample of a channel, mixed with what is faded out. */
  mixed(played, block, channel) {
    const sample = played.gain * this.sampleOf(block, channel);
    if (!this.fade) return sample;
    const share = this.fade.left / FADE_FRAMES;
    if (this.fade.isLast) return sample * share;
    const { from } = this.fade;
    const before = from && from.gain * this.sampleOf(this.blockAt(from, this.frame), channel);
    return sample * (1 - share) + (before ?? 0) * share;
  }

  sampleOf(block, channel) {
    return block ? block[Math.min(channel, block.length - 1)][this.frame % this.blockFrames] : 0;
  }

  /** Return the channels of a block: null past the end, undefined where it is missing. */
  blockAt({ nFrames, blocks }, frame) {
    return frame < (nFrames || Infinity) ? blocks.get(Math.floor(frame / this.blockFrames)) : null;
  }

  end() {
    this.isPlaying = false;
    if (this.staged) this.takeOver();
    this.report();
  }

  report() {
    const { frame, isPlaying, isWaiting, peak } = this;
    this.port.postMessage({ event: "position", frame, isPlaying, isWaiting, peak, timeS: currentTime });
    this.nUnreported = this.peak = 0;
  }
}

function table(nFrames, blocks = []) {
  return { nFrames, blocks: new Map(blocks), gain: 1 };
}

registerProcessor("player", Player);
