// The spectrogram of the recording, in tiles that a worker computes as they come into view.

import { cleared, colour } from "./canvas.js";

const COLUMNS = 256; // of a tile
const ROWS = 96;
const HOPS = [64, 128, 256, 512, 1024, 2048, 4096]; // samples between columns
const MOST_TILES = 128;
const MOST_VIEW_SAMPLES = 2 ** 22; // in view; of more there is no picture
const REQUEST_MS = 120; // between two lots of tiles, so that a view that moves does not compute what it leaves again
const LEAD = 4096; // samples before and after a tile, for its first and last windows

export class Spectrum {
  #api;
  #tiles = new Map(); // by "hop/number": {levels, canvas}, the latest drawn last
  #requested = new Set();
  #requestedMs = -REQUEST_MS; // when tiles were requested last
  #mayRequest = false;
  #later = 0; // a timer
  #worker = new Worker("spectrum-worker.js");

  constructor(api, canvas, view, note) {
    this.#api = api;
    Object.assign(this, { canvas, view, note });
    this.#worker.onmessage = ({ data }) => this.#take(data);
  }

  open(source) {
    this.source = source;
    this.draw();
  }

  /** Forget how the tiles were coloured. */
  recolour() {
    for (const tile of this.#tiles.values()) tile.canvas = null;
    this.draw();
  }

  draw() {
    const { context, height } = cleared(this.canvas);
    if (!this.source) return;
    const { view } = this;
    const { sample_rate: rate, n_samples: n } = this.source;
    const isTooFar = (view.stopS - view.startS) * rate > MOST_VIEW_SAMPLES;
    this.note.hidden = !isTooFar;
    if (isTooFar) return;
    clearTimeout(this.#later);
    this.#later = 0;
    const now = performance.now();
    this.#mayRequest = now - this.#requestedMs >= REQUEST_MS;
    if (this.#mayRequest) this.#requestedMs = now;
    const hop = HOPS.findLast((h) => h <= (rate / view.pxPerS) * 1.5) ?? HOPS[0];
    const tileS = (COLUMNS * hop) / rate;
    const last = Math.min(Math.floor(view.stopS / tileS), Math.floor((n - 1) / (COLUMNS * hop)));
    for (let number = Math.floor(view.startS / tileS); number <= last; number++) {
      const tile = this.#tile(hop, number);
      if (!tile) continue;
      const x = view.xOf(number * tileS);
      context.drawImage(tile, x, 0, tileS * view.pxPerS, height);
    }
  }

  /** Return a tile's picture; without one, have it computed. */
  #tile(hop, number) {
    const key = `${hop}/${number}`;
    const tile = this.#tiles.get(key);
    if (!tile) {
      if (this.#mayRequest) this.#request(key, hop, number);
      else this.#later ||= setTimeout(() => this.draw(), REQUEST_MS);
      return null;
    }
    this.#tiles.delete(key);
    this.#tiles.set(key, tile);
    tile.canvas ??= coloured(tile.levels);
    return tile.canvas;
  }

  async #request(key, hop, number) {
    if (this.#requested.has(key)) return;
    this.#requested.add(key);
    const { sample_rate: sampleRate, n_samples: n } = this.source;
    const first = number * COLUMNS * hop;
    const start = Math.max(0, first - LEAD);
    const stop = Math.min(n, first + COLUMNS * hop + LEAD);
    try {
      const { channels } = await this.#api.samples("audio", { which: "source", start, stop });
      const about = { key, hop, sampleRate, nColumns: COLUMNS, nRows: ROWS, lead: first - start };
      this.#worker.postMessage({ ...about, channels: channels.map((channel) => channel.slice()) });
    } catch {
      this.#requested.delete(key); // the event stream reports what is wrong
    }
  }

  #take({ key, levels }) {
    this.#requested.delete(key);
    this.#tiles.set(key, { levels, canvas: null });
    for (const oldest of this.#tiles.keys()) {
      if (this.#tiles.size <= MOST_TILES) break;
      this.#tiles.delete(oldest);
    }
    this.draw();
  }
}

/** Return levels as a picture in the colours of the theme. */
function coloured(levels) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: COLUMNS, height: ROWS });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(COLUMNS, ROWS);
  const ramp = rampOf(["heat-0", "heat-1", "heat-2", "heat-3"].map(colour));
  levels.forEach((level, i) => picture.data.set(ramp[level], 4 * i));
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** Return 256 colours between some, as red, green, blue and opacity. */
function rampOf(colours) {
  const stops = colours.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * (stops.length - 1);
    const i = Math.min(Math.floor(at), stops.length - 2);
    return [...stops[i].map((from, c) => from + (stops[i + 1][c] - from) * (at - i)), 255];
  });
}
