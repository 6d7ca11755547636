// The waveform of the recording: the part in view, and a small one of all of it.

import { cleared, colour } from "./canvas.js";

const MOST_COLUMNS = 8192; // that the server gives at once
const WAIT_MS = 40; // after a change of the view
const RETRY_MS = 800;
const MARGIN = 1; // of the view, that is fetched beyond either edge
const NEAR = 0.4; // of the view, that is there beyond either edge before more is fetched

/** Peaks of a region of the recording, of which more are fetched as the view asks for them. */
class Peaks {
  #api;
  #timer = 0;
  #requested = null;

  constructor(api, draw) {
    this.#api = api;
    this.draw = draw;
    this.found = null; // {startS, stopS, low, high}
  }

  /** Take the facts of the recording. */
  open(source) {
    this.source = source;
  }

  /** Have at least so many peaks a second from startS to stopS before long. */
  request(startS, stopS, perS) {
    if (!this.source || this.#isThere(startS, stopS, perS)) return;
    this.#requested = { startS, stopS, perS };
    this.#timer ||= setTimeout(() => this.#fetch(), this.found ? WAIT_MS : 0);
  }

  /** Return whether all of a region is there, however coarse. */
  covers(startS, stopS) {
    const { found, source } = this;
    const isIn = found && found.startS <= Math.max(0, startS) + 1e-6;
    return isIn && found.stopS >= Math.min(stopS, source.duration_s) - 1e-6;
  }

  #isThere(startS, stopS, perS) {
    if (!this.found) return false;
    const { found, source } = this;
    const spanS = stopS - startS;
    if (!this.covers(startS - NEAR * spanS, stopS + NEAR * spanS)) return false;
    const has = found.low.length / (found.stopS - found.startS);
    const most = Math.min(source.sample_rate, MOST_COLUMNS / ((1 + 2 * MARGIN) * spanS));
    return has > 0.6 * Math.min(perS, most) && (has < 4 * perS || found.low.length < MOST_COLUMNS / 2);
  }

  async #fetch() {
    const requested = this.#requested;
    const { startS, stopS, perS } = requested;
    const { sample_rate: rate, n_samples: n } = this.source;
    const margin = MARGIN * (stopS - startS);
    const start = Math.max(0, Math.floor((startS - margin) * rate));
    const stop = Math.min(n, Math.ceil((stopS + margin) * rate));
    const columns = Math.max(1, Math.min(MOST_COLUMNS, stop - start, Math.ceil(((stop - start) / rate) * perS)));
    let isBroken = false;
    try {
      const { channels } = await this.#api.samples("peaks", { which: "source", start, stop, columns });
      this.found = { startS: start / rate, stopS: stop / rate, low: channels[0], high: channels[1] };
      this.draw();
    } catch {
      isBroken = true; // the event stream reports what is wrong
    }
    const isNew = requested !== this.#requested;
    this.#timer = isBroken || isNew ? setTimeout(() => this.#fetch(), isBroken ? RETRY_MS : 0) : 0;
  }
}

/** Draw peaks of a time axis into a canvas. */
function drawPeaks({ context, width, height }, found, { startS, pxPerS }, fill) {
  const { low, high } = found;
  const perS = low.length / (found.stopS - found.startS);
  const middle = height / 2;
  const scale = 0.94 * middle;
  context.fillStyle = fill;
  for (let x = 0; x < width; x++) {
    const first = Math.floor((startS + x / pxPerS - found.startS) * perS);
    const last = Math.max(first + 1, Math.floor((startS + (x + 1) / pxPerS - found.startS) * perS));
    if (first >= low.length || last <= 0) continue;
    let [bottom, top] = [Infinity, -Infinity];
    for (let i = Math.max(0, first); i < Math.min(last, low.length); i++) {
      bottom = Math.min(bottom, low[i]);
      top = Math.max(top, high[i]);
    }
    const y = middle - Math.min(1, top) * scale;
    context.fillRect(x, y, 1, Math.max(1, middle - Math.max(-1, bottom) * scale - y));
  }
}

/** The part in view; until its own peaks are there, those of the overview. */
export class Wave {
  constructor(api, canvas, view, overview) {
    Object.assign(this, { canvas, view, overview });
    this.peaks = new Peaks(api, () => this.draw());
  }

  open(source) {
    this.peaks.open(source);
    this.draw();
  }

  draw() {
    const place = cleared(this.canvas);
    const { view } = this;
    this.peaks.request(view.startS, view.stopS, view.pxPerS * (window.devicePixelRatio || 1));
    const found = this.peaks.covers(view.startS, view.stopS) ? this.peaks.found : this.overview.peaks.found;
    if (found) drawPeaks(place, found, view, colour("wave"));
  }
}

/** The whole recording, with the part in view marked; dragging it scrolls. */
export class Overview {
  constructor(api, canvas, view, thumb) {
    Object.assign(this, { canvas, view, thumb });
    this.peaks = new Peaks(api, () => this.draw());
    this.drawn = "";
    canvas.parentElement.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  open(source) {
    this.peaks.open(source);
    this.draw();
  }

  draw() {
    const place = cleared(this.canvas);
    const pxPerS = place.width / this.view.lengthS;
    this.peaks.request(0, this.view.lengthS, pxPerS);
    if (this.peaks.found) drawPeaks(place, this.peaks.found, { startS: 0, pxPerS }, colour("wave-far"));
  }

  /** Show which part is in view. */
  mark() {
    const { startS, stopS, lengthS } = this.view;
    const [from, to] = [startS / lengthS, Math.min(1, stopS / lengthS)];
    this.thumb.style.left = `${100 * from}%`;
    this.thumb.style.width = `${100 * (to - from)}%`;
    this.thumb.setAttribute("aria-valuenow", String(Math.round(100 * from)));
  }

  #drag(down) {
    const { canvas, view } = this;
    const secondsAt = (event) => ((event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth) * view.lengthS;
    const spanS = view.stopS - view.startS;
    const at = secondsAt(down);
    const isOnThumb = at >= view.startS && at <= view.stopS;
    const offsetS = isOnThumb ? at - view.startS : spanS / 2;
    const move = (event) => view.scrollTo(secondsAt(event) - offsetS);
    const strip = canvas.parentElement;
    strip.setPointerCapture(down.pointerId);
    strip.addEventListener("pointermove", move);
    strip.addEventListener("lostpointercapture", () => strip.removeEventListener("pointermove", move), { once: true });
    move(down);
  }
}
