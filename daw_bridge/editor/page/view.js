// Which part of the time axis is in view, and how far it is zoomed in.

const MOST_PX_PER_S = 4000;
const PAGE_MARGIN = 0.1; // of the width, at which the playhead appears after a page is turned

export class View extends EventTarget {
  #shown = ""; // when it changed last

  constructor() {
    super();
    this.startS = 0;
    this.pxPerS = 100;
    this.widthPx = 1000;
    this.lengthS = 1;
  }

  get stopS() {
    return this.startS + this.widthPx / this.pxPerS;
  }

  xOf(timeS) {
    return (timeS - this.startS) * this.pxPerS;
  }

  timeAt(x) {
    return this.startS + x / this.pxPerS;
  }

  /** Take a new width on the screen, or another length of what is shown. */
  resize(widthPx, lengthS = this.lengthS) {
    const isAll = this.pxPerS <= this.#leastPxPerS() * 1.001;
    this.widthPx = Math.max(1, widthPx);
    this.lengthS = lengthS;
    this.#set(this.startS, isAll ? 0 : this.pxPerS);
  }

  showAll() {
    this.#set(0, 0);
  }

  /** Zoom by a factor around a place on the screen, the middle without one. */
  zoom(factor, x = this.widthPx / 2) {
    const timeS = this.timeAt(x);
    const pxPerS = this.#within(this.pxPerS * factor);
    this.#set(timeS - x / pxPerS, pxPerS);
  }

  scrollTo(startS) {
    this.#set(startS, this.pxPerS);
  }

  scrollBy(px) {
    this.scrollTo(this.startS + px / this.pxPerS);
  }

  /** Scroll as far as it takes to have a time in view. */
  reveal(timeS) {
    const spanS = this.stopS - this.startS;
    if (timeS >= this.startS + 0.02 * spanS && timeS <= this.stopS - 0.04 * spanS) return;
    this.scrollTo(timeS - spanS / 2);
  }

  /** Turn the page where the playhead has left it. */
  follow(timeS) {
    if (timeS < this.startS || timeS > this.stopS) {
      this.scrollTo(timeS - (PAGE_MARGIN * this.widthPx) / this.pxPerS);
    }
  }

  #leastPxPerS() {
    return this.widthPx / this.lengthS;
  }

  #within(pxPerS) {
    return Math.min(Math.max(pxPerS, this.#leastPxPerS()), MOST_PX_PER_S);
  }

  #set(startS, pxPerS) {
    this.pxPerS = this.#within(pxPerS);
    const lastS = this.lengthS - this.widthPx / this.pxPerS;
    this.startS = Math.max(0, Math.min(startS, lastS));
    const shown = [this.startS, this.pxPerS, this.widthPx, this.lengthS].join("/");
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.dispatchEvent(new Event("change"));
  }
}
