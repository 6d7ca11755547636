// What is audible: the player in the audio thread with its feed of blocks, and single hits.

import { BlockFeed } from "./blocks.js";

const REFUSED_MS = 500; // that a browser has to let sound begin

export class Sound extends EventTarget {
  #api;
  #context = null;
  #node = null;
  #feed = null;
  #auditioned = null;
  #anchor = { frame: 0, timeS: 0 }; // where the player was at a time of the context
  #bars = () => [];
  #compared = {}; // versions, by slot

  constructor(api) {
    super();
    this.#api = api;
    this.isPlaying = false; // as the user has it
    this.isMoving = false; // the player reads
    this.isBlocked = false; // the browser lets no sound begin without a click
    this.which = "take"; // or "source", or the slot of a version that is compared
    this.loopS = null; // [start, stop) in seconds
    this.version = null; // of the take that the player has
    this.audible = null; // of the take that the player plays; the newer one begins at the next bar
    this.peak = 0; // of what played in the last moment
    this.error = "";
  }

  /** Make ready to play; where a browser cannot, `error` says so.
   *
   * source, blockFrames: as the server describes them; bars: returns when bars begin, in seconds.
   */
  async open(source, blockFrames, bars) {
    this.#bars = bars;
    this.sampleRate = source.sample_rate;
    const staged = (version) => {
      this.version = version;
      this.#changed();
    };
    this.#feed = new BlockFeed(this.#api, { source, blockFrames, player: this, staged });
    try {
      this.#context = new AudioContext({ sampleRate: source.sample_rate, latencyHint: "interactive" });
      await this.#context.audioWorklet.addModule("player.js");
      const options = { outputChannelCount: [2], numberOfInputs: 0, processorOptions: { blockFrames } };
      this.#node = new AudioWorkletNode(this.#context, "player", options);
    } catch (error) {
      this.error = `This browser cannot play sound at ${source.sample_rate} Hz (${error.message}). Edits and exports work.`;
      this.#changed();
      return;
    }
    this.#node.connect(this.#context.destination);
    this.#node.port.onmessage = ({ data }) => this.#receive(data);
    this.#node.onprocessorerror = () => {
      this.error = "The player has failed; load the page again. Every edit that was stored is safe.";
      this.#changed();
    };
    this.compare(this.#compared);
    this.post({ do: "setLoop", loop: this.loop });
    this.#feed.fetch();
    if (this.isPlaying) this.play();
  }

  get isOpen() {
    return Boolean(this.#node);
  }

  get contextTimeS() {
    return this.#context ? this.#context.currentTime : 0;
  }

  get lengthS() {
    return this.#feed ? this.#feed.length / this.sampleRate : 0;
  }

  /** The newest version that the server has rendered. */
  get rendered() {
    return this.#feed ? this.#feed.rendered : null;
  }

  /** The loop in frames, null without one. */
  get loop() {
    if (!this.loopS || !this.sampleRate) return null;
    const [start, stop] = this.loopS.map((timeS) => Math.round(timeS * this.sampleRate));
    return stop > start ? [start, Math.min(stop, this.#feed.length)] : null;
  }

  /** Where the playhead is, in seconds. */
  get positionS() {
    const { frame, timeS } = this.#anchor;
    if (!this.isMoving) return frame / (this.sampleRate || 1);
    const passedS = Math.max(0, this.#context.currentTime - timeS - (this.#context.outputLatency || 0));
    const now = frame + passedS * this.sampleRate;
    const loop = this.loop;
    const isPast = loop && frame < loop[1] && now >= loop[1];
    const shown = isPast ? loop[0] + ((now - loop[0]) % (loop[1] - loop[0])) : Math.min(now, this.#feed.length);
    return shown / this.sampleRate;
  }

  async play() {
    this.isPlaying = !this.error;
    this.#changed();
    if (!this.#node) return; // it plays once it is open
    if (this.positionS >= (this.loopS ? this.loopS[1] : this.lengthS) - 1e-4) this.seek(this.loopS ? this.loopS[0] : 0);
    this.post({ do: "play" });
    await this.#start();
  }

  pause() {
    this.isPlaying = false;
    this.post({ do: "pause" });
    this.#changed();
  }

  seek(timeS) {
    if (!this.#feed) return;
    const frame = Math.round(Math.min(Math.max(timeS, 0), this.lengthS) * this.sampleRate);
    this.#anchor = { frame, timeS: this.contextTimeS };
    this.post({ do: "seek", frame });
    this.#feed.fetch();
    this.#changed();
  }

  setLoop(loopS) {
    this.loopS = loopS;
    this.post({ do: "setLoop", loop: this.loop });
    this.#feed?.fetch();
    this.#changed();
  }

  /** Have versions ready to be played, each at its gain. */
  compare(compared) {
    this.#compared = compared;
    const message = ({ version, n_samples: nFrames, gain_db }) => ({ version, nFrames, gain: 10 ** (gain_db / 20) });
    const slots = Object.entries(compared).map(([slot, found]) => [slot, message(found)]);
    this.post({ do: "compare", slots: Object.fromEntries(slots) });
    if (!(this.which in compared) && this.which !== "source") this.which = "take";
    this.#feed?.compare(compared);
    this.#changed();
  }

  /** Play the take ("take"), the recording as it was ("source") or a version by its slot, from now on. */
  choose(which) {
    this.which = which;
    this.post({ do: "choose", which });
    this.#feed?.fetch();
    this.#changed();
  }

  /** Take a version over that the server has rendered. */
  take(rendered) {
    this.#feed?.take(rendered);
    this.#changed();
  }

  /** Play the sound of one stroke. */
  async playHit(id, version) {
    if (this.#node) await this.#playOnce(await this.#api.samples("hit", { id, version }));
  }

  /** Play samples apart from what plays, in the place of those before. */
  async audition(samples) {
    this.stopAudition();
    if (this.#node) this.#auditioned = await this.#playOnce(samples);
  }

  stopAudition() {
    this.#auditioned?.stop();
    this.#auditioned = null;
  }

  async #playOnce({ channels, sampleRate }) {
    if (!channels[0]?.length) return null;
    const buffer = this.#context.createBuffer(channels.length, channels[0].length, sampleRate);
    channels.forEach((channel, c) => buffer.copyToChannel(channel, c));
    const once = new AudioBufferSourceNode(this.#context, { buffer });
    once.connect(this.#context.destination);
    once.start();
    await this.#start();
    return once;
  }

  /** Begin the sound that a browser has not let begin; called for every click and key. */
  unblock() {
    if (this.isBlocked) this.#start();
  }

  /** Send something to the player. */
  post(message) {
    if (message.do === "stage") {
      message.bars = Array.from(this.#bars(), (timeS) => Math.round(timeS * this.sampleRate));
    }
    this.#node?.port.postMessage(message);
  }

  async #start() {
    if (this.#context.state !== "running") {
      const refused = new Promise((resolve) => setTimeout(resolve, REFUSED_MS));
      await Promise.race([this.#context.resume().catch(() => {}), refused]);
    }
    this.isBlocked = this.#context.state !== "running";
    this.#changed();
  }

  #receive(data) {
    if (data.event === "taken") this.audible = data.version;
    if (data.event === "ended") this.isPlaying = false;
    if (data.event === "position") {
      this.#anchor = { frame: data.frame, timeS: data.timeS };
      this.isMoving = data.isPlaying && !data.isWaiting;
      this.isWaiting = data.isPlaying && data.isWaiting;
      this.peak = data.peak;
      this.#feed.fetch();
    }
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
