// The spectrogram of the recording, in tiles that a worker fetches and computes as they come into view.

import { cleared, colour } from "./canvas.js";

const COLUMNS = 256; // of a tile
const ROWS = 96;
const HOPS = [64, 128, 256, 512, 1024, 2048, 4096]; // samples between columns
const MOST_TILES = 128;
const MOST_VIEW_SAMPLES = 2 ** 22; // in view; of more there is no picture
const REQUEST_MS = 120; // between two lots of tiles, so that a view that moves does not compute what it leaves again

export class Spectrum {
  #api;
  #tiles = new Map(); // by "hop/number": {levels, canvas}, the latest drawn last
  #requested = new Set();
  #requestedMs = -REQUEST_MS; // when tiles were requested last
  #zoom = { pxPerS: 0, changedMs: 0 };
  #later = 0; // a timer
  #ramp = null; // colours by level
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
    this.#ramp = null;
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
    if (this.#zoom.pxPerS !== view.pxPerS) this.#zoom = { pxPerS: view.pxPerS, changedMs: performance.now() };
    const hop = HOPS.findLast((h) => h <= (rate / view.pxPerS) * 1.5) ?? HOPS[0];
    const tileS = (COLUMNS * hop) / rate;
    const last = Math.min(Math.floor(view.stopS / tileS), Math.floor((n - 1) / (COLUMNS * hop)));
    const missing = [];
    for (let number = Math.floor(view.startS / tileS); number <= last; number++) {
      const place = { x: view.xOf(number * tileS), width: tileS * view.pxPerS, height };
      if (this.#drawTile(context, hop, number, place)) continue;
      missing.push(number);
      this.#drawNearest(context, hop, number, place);
    }
    if (missing.length) this.#request(hop, missing);
  }

  /** Draw a tile, or a part of it from one fraction of its width on; false: it is not there. */
  #drawTile(context, hop, number, { x, width, height }, part = [0, 1]) {
    const key = `${hop}/${number}`;
    const tile = this.#tiles.get(key);
    if (!tile) return false;
    this.#tiles.delete(key);
    this.#tiles.set(key, tile);
    tile.canvas ??= this.#coloured(tile.levels);
    const [from, of] = part.map((fraction) => fraction * COLUMNS);
    context.drawImage(tile.canvas, from, 0, of, ROWS, x, 0, width, height);
    return true;
  }

  /** Draw what there is in the place of a tile: a part of a coarser one, else finer ones. */
  #drawNearest(context, hop, number, place) {
    for (let of = 2; HOPS.includes(hop * of); of *= 2) {
      const part = [(number % of) / of, 1 / of];
      if (this.#drawTile(context, hop * of, Math.floor(number / of), place, part)) return;
    }
    if (!HOPS.includes(hop / 2)) return;
    const width = place.width / 2;
    for (const i of [0, 1]) this.#drawTile(context, hop / 2, 2 * number + i, { ...place, x: place.x + i * width, width });
  }

  /** Have tiles computed, once those are there that were requested before, and the view does not zoom any more. */
  #request(hop, numbers) {
    if (this.#requested.size) return;
    clearTimeout(this.#later);
    const waitMs = Math.max(this.#requestedMs, this.#zoom.changedMs) + REQUEST_MS - performance.now();
    if (waitMs > 0) {
      this.#later = setTimeout(() => this.draw(), waitMs);
      return;
    }
    this.#requestedMs = performance.now();
    const { sample_rate: sampleRate, n_samples: nSamples } = this.source;
    const { headers } = this.#api;
    for (const number of numbers) {
      const key = `${hop}/${number}`;
      this.#requested.add(key);
      this.#worker.postMessage({ key, hop, number, sampleRate, nSamples, nColumns: COLUMNS, nRows: ROWS, headers });
    }
  }

  #take({ key, levels }) {
    this.#requested.delete(key);
    if (!levels) return; // the event stream reports what is wrong
    this.#tiles.set(key, { levels, canvas: null });
    for (const oldest of this.#tiles.keys()) {
      if (this.#tiles.size <= MOST_TILES) break;
      this.#tiles.delete(oldest);
    }
    this.draw();
  }

  /** Return levels as a picture in the colours of the theme. */
  #coloured(levels) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: COLUMNS, height: ROWS });
    const context = canvas.getContext("2d");
    const picture = context.createImageData(COLUMNS, ROWS);
    const pixels = new Uint32Array(picture.data.buffer);
    this.#ramp ??= rampOf(["heat-0", "heat-1", "heat-2", "heat-3"].map(colour));
    for (let i = 0; i < levels.length; i++) pixels[i] = this.#ramp[levels[i]];
    context.putImageData(picture, 0, 0);
    return canvas;
  }
}

/** Return 256 colours between some, each as the bytes of a pixel. */
function rampOf(colours) {
  const stops = colours.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const ramp = Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * (stops.length - 1);
    const i = Math.min(Math.floor(at), stops.length - 2);
    return [...stops[i].map((from, c) => Math.round(from + (stops[i + 1][c] - from) * (at - i))), 255];
  });
  return new Uint32Array(new Uint8Array(ramp.flat()).buffer);
}
