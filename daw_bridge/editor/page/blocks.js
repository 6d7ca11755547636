// Fetches blocks of the recording, of the take and of versions that are compared, those that play soon first, and
// hands them to the player.
//
// The server tells in which regions a version differs from the one before: the blocks of these are fetched anew and
// staged together; every other block that the player holds stays.

const AHEAD_S = 12; // that are fetched before they play
const RUN_BLOCKS = 8; // that are fetched at once
const MOST_STAGED = 64; // blocks of a new version that are fetched before they are near the playhead
const MOST_BYTES = 96 * 2 ** 20; // of each sound that the player holds
const RETRY_MS = 250;

export class BlockFeed {
  #api;
  #player; // {isOpen, post, positionS, loop, which}
  #held = { source: new Map(), take: new Map() }; // numbers of blocks, with the count of fetches at their time
  #stale = new Set(); // blocks of the take that the player holds of an older version
  #staging = null; // {isWhole, blocks}: what has been fetched of the newest version
  #compared = {}; // by slot, as the server has it
  #isFetching = false;
  #nFetched = 0;
  #retry = 0;

  /** Begin without a take.
   *
   * source: as the server describes it; blockFrames: the length of a block; player: takes messages by `post`, and
   * says where it is; staged: called with a version whose blocks the player has.
   */
  constructor(api, { source, blockFrames, player, staged }) {
    this.#api = api;
    this.#player = player;
    this.staged = staged;
    this.blockFrames = blockFrames;
    this.sampleRate = source.sample_rate;
    this.nFrames = { source: source.n_samples, take: 0 };
    this.rendered = null; // the newest version that can be fetched
    this.bytesOfBlock = 4 * Math.min(2, source.channels) * blockFrames;
  }

  /** How long it plays, in frames. */
  get length() {
    return this.#compared[this.#player.which]?.n_samples ?? (this.nFrames.take || this.nFrames.source);
  }

  /** Take over which versions are compared. */
  compare(compared) {
    for (const slot of new Set([...Object.keys(compared), ...Object.keys(this.#compared)])) {
      if (compared[slot]?.version === this.#compared[slot]?.version) continue;
      this.#held[slot] = new Map();
      this.nFrames[slot] = compared[slot]?.n_samples ?? 0;
    }
    this.#compared = compared;
    this.fetch();
  }

  /** Take a version over that the server has rendered. */
  take({ version, base, changed, n_samples }) {
    if (this.rendered !== null && version <= this.rendered) return;
    const isWhole = this.rendered === null || base !== this.rendered || n_samples !== this.nFrames.take;
    this.#staging ??= { isWhole, blocks: new Map(), forget: new Set() };
    if (isWhole) {
      this.#staging = { isWhole, blocks: new Map(), forget: new Set() };
      this.#held.take.clear();
      this.#stale.clear();
    }
    for (const [start, stop] of isWhole ? [] : changed) {
      for (const n of this.#numbers(start, stop)) if (this.#held.take.has(n)) this.#stale.add(n);
    }
    this.rendered = version;
    this.nFrames.take = n_samples;
    if (this.#stale.size > MOST_STAGED) this.#forgetFar();
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.fetch();
  }

  /** Fetch what is missing, until nothing is. */
  async fetch() {
    if (this.#isFetching || this.#retry || !this.#player.isOpen) return;
    this.#isFetching = true;
    for (let run = this.#next(); run && !this.#retry; run = this.#next()) await this.#fetchRun(run);
    this.#isFetching = false;
  }

  /** Return which blocks to fetch next: {which, numbers}. */
  #next() {
    const near = this.#near();
    const first = near.find((n) => this.#stale.has(n)) ?? this.#stale.values().next().value;
    if (first !== undefined) return { which: "take", numbers: run(first, (n) => this.#stale.has(n)) };
    const urgent = this.#staging ? ["take", this.#player.which] : [this.#player.which];
    for (const which of new Set([...urgent, "take", "source", ...Object.keys(this.#compared)])) {
      if (which === "take" && this.rendered === null) continue;
      const isMissing = (n) => n * this.blockFrames < this.nFrames[which] && !this.#held[which].has(n);
      const missing = new Set(near.filter(isMissing));
      if (missing.size) return { which, numbers: run(missing.values().next().value, (n) => missing.has(n)) };
      if (which === "take" && this.#staging) this.#stage();
    }
    return null;
  }

  async #fetchRun({ which, numbers }) {
    const version = this.#versionOf(which);
    const start = numbers[0] * this.blockFrames;
    const stop = Math.min((numbers.at(-1) + 1) * this.blockFrames, this.nFrames[which]);
    let channels;
    try {
      ({ channels } = await this.#api.samples("audio", { which, start, stop, ...(which !== "source" && { version }) }));
    } catch {
      // A newer version is being rendered, or the server is gone; the event stream reports both.
      if (version === this.#versionOf(which)) this.#fetchLater();
      return;
    }
    if (version !== this.#versionOf(which)) return;
    const blocks = numbers.map((number, i) => [number, channels.map((channel) => this.#block(channel, i))]);
    for (const number of numbers) this.#held[which].set(number, ++this.#nFetched);
    if (which === "take" && this.#staging) {
      for (const [number, block] of blocks) this.#staging.blocks.set(number, block);
      for (const number of numbers) this.#stale.delete(number);
      if (this.#staging.isWhole || !this.#stale.size) this.#stage();
    } else {
      this.#player.post({ do: "fill", which, nFrames: this.nFrames[which], blocks, forget: this.#forgotten(which) });
    }
  }

  /** Return which version a sound is of; undefined: none, or not any more. */
  #versionOf(which) {
    return which === "take" ? this.rendered : this.#compared[which]?.version;
  }

  /** Hand over what is new in the newest version. */
  #stage() {
    const { isWhole, blocks, forget } = this.#staging;
    this.#staging = null;
    const message = { do: "stage", version: this.rendered, nFrames: this.nFrames.take, isWhole };
    this.#player.post({ ...message, blocks: [...blocks], forget: [...forget, ...this.#forgotten("take")] });
    this.staged(this.rendered);
  }

  /** Let blocks of an older version that do not play soon be fetched once they do. */
  #forgetFar() {
    const near = new Set(this.#near());
    for (const number of [...this.#stale].filter((n) => !near.has(n))) {
      this.#stale.delete(number);
      this.#held.take.delete(number);
      this.#staging.forget.add(number);
    }
  }

  /** Return the blocks that were fetched first, where the player holds too many. */
  #forgotten(which) {
    const held = this.#held[which];
    const most = Math.floor(MOST_BYTES / this.bytesOfBlock);
    if (held.size <= most) return [];
    const near = new Set(this.#near());
    const far = [...held].filter(([n]) => !near.has(n)).sort((a, b) => a[1] - b[1]);
    const numbers = far.slice(0, held.size - most).map(([number]) => number);
    for (const number of numbers) held.delete(number);
    return numbers;
  }

  /** Return the blocks that play soon, in order. */
  #near() {
    const { loop } = this.#player;
    const frame = Math.floor(this.#player.positionS * this.sampleRate);
    const ahead = AHEAD_S * this.sampleRate;
    const isInLoop = loop && frame < loop[1];
    const stop = Math.min(isInLoop ? loop[1] : this.length, frame + ahead);
    const found = new Set(this.#numbers(frame, stop));
    if (loop) for (const n of this.#numbers(loop[0], Math.min(loop[1], loop[0] + ahead - (stop - frame)))) found.add(n);
    return [...found];
  }

  *#numbers(start, stop) {
    if (stop <= start) return;
    const last = Math.floor((stop - 1) / this.blockFrames);
    for (let n = Math.floor(start / this.blockFrames); n <= last; n++) yield n;
  }

  #block(channel, i) {
    return channel.slice(i * this.blockFrames, (i + 1) * this.blockFrames);
  }

  #fetchLater() {
    this.#retry = setTimeout(() => {
      this.#retry = 0;
      this.fetch();
    }, RETRY_MS);
  }
}

/** Return numbers that follow each other from a first one, as many as are fetched at once. */
function run(first, isNeeded) {
  const numbers = [first];
  while (numbers.length < RUN_BLOCKS && isNeeded(numbers.at(-1) + 1)) numbers.push(numbers.at(-1) + 1);
  return numbers;
}
