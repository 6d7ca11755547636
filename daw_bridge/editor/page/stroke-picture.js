// The strokes in view as a picture: a bar for each, or a tick for each pixel where there are too many.

import { cleared, colour, pixelOf, useFont } from "./canvas.js";
import { CLASSES, signOf } from "./words.js";

const SIGN_PX = 11; // width from which a stroke shows its articulation, and is rounded
const RIM_PX = 4; // of which half is outside
const SIGN_FONT = "bold 11px system-ui, sans-serif";
const TOP_PX = 4; // between a lane's upper edge and its strokes
const BOTTOM_PX = 3;
const EDGE_PX = 2; // width of the left edge, which is the onset
const DASHES = { early: [2, 2], late: [5, 3] };

export class StrokePicture {
  #lanes;
  #ticks = new Map(); // as drawn last, by lane: {pixel, loudest, picture}
  #places = null; // of the lanes in the picture, by class: {top, height, bottom}

  constructor(lanes, actions) {
    this.#lanes = lanes;
    this.actions = actions;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "stroke-picture";
    this.canvas.setAttribute("aria-hidden", "true");
    lanes.root.append(this.canvas);
    new ResizeObserver(() => (this.#places = null)).observe(lanes.root);
  }

  draw() {
    const { context } = cleared(this.canvas);
    this.#places ??= this.#placesOfLanes();
    const { inView, nHidden, painted } = this.#lanes;
    for (const [drumClass, strokes] of byClass(inView)) {
      const place = { ...this.#places.get(drumClass), fill: colour(drumClass) };
      if (!nHidden) this.#drawBars(context, place, strokes);
      else this.#drawTicks(context, place, strokes);
    }
    for (const stroke of painted) {
      this.#drawBars(context, { ...this.#places.get(stroke.class), fill: colour(stroke.class), opacity: 0.6 }, [stroke]);
    }
  }

  #placesOfLanes() {
    const places = [...this.#lanes.lanes].map(([drumClass, lane]) => {
      const [top, bottom] = [lane.offsetTop + TOP_PX, lane.offsetTop + lane.offsetHeight - BOTTOM_PX];
      return [drumClass, { lane, top, bottom, height: bottom - top }];
    });
    return new Map(places);
  }

  /** Draw the loudest stroke of each pixel, and those that are selected as bars. */
  #drawTicks(context, place, strokes) {
    const { view, selection } = this.actions;
    const scale = context.getTransform().a;
    const [width, height] = [Math.ceil(view.widthPx * scale), Math.round(place.height * scale)];
    const loudest = new Float32Array(width);
    for (const stroke of strokes) {
      const x = Math.round(view.xOf(stroke.onset_s) * scale);
      if (x >= 0 && x < width) loudest[x] = Math.max(loudest[x], stroke.velocity);
    }
    const picture = this.#pictureOf(place, loudest, height);
    context.putImageData(picture, 0, Math.round(place.bottom * scale) - height);
    if (selection.size) this.#drawBars(context, place, strokes.filter((stroke) => selection.has(stroke.id)));
  }

  /** Return ticks as pixels, which takes less than thousands of rectangles do; made anew where they are others. */
  #pictureOf({ lane, fill }, loudest, height) {
    const pixel = pixelOf(fill, opacityOf({ lane }));
    const made = this.#ticks.get(lane);
    const isSame = made?.pixel === pixel && made.picture.height === height && made.loudest.length === loudest.length;
    if (isSame && made.loudest.every((velocity, x) => velocity === loudest[x])) return made.picture;
    const width = loudest.length;
    const picture = new ImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let x = 0; x < width; x++) {
      for (let y = Math.ceil(height * (1 - loudest[x])); y < height; y++) pixels[y * width + x] = pixel;
    }
    this.#ticks.set(lane, { pixel, loudest, picture });
    return picture;
  }

  #drawBars(context, place, strokes) {
    const { view, previews } = this.actions;
    const { strokeWidth: width } = this.#lanes;
    const bars = strokes.map((stroke) => {
      const opacity = opacityOf(place) * (previews.has(stroke.id) ? 0.8 : 1);
      return { stroke, opacity, x: view.xOf(stroke.onset_s) };
    });
    this.#drawBodies(context, place, bars, width);
    this.#drawEdges(context, place, bars, width);
    this.#drawMarks(context, place, bars, width);
    context.globalAlpha = 1;
  }

  /** Draw what is filled: faintly all of a stroke, and as far as it is loud. */
  #drawBodies(context, { top, bottom, height, fill }, bars, width) {
    const isDetected = this.actions.layer === "detected";
    const rounds = width >= SIGN_PX ? [2, 5, 5, 2] : null;
    for (const { stroke, opacity, x } of bars) {
      context.globalAlpha = opacity * (isDetected ? 1 : 0.2);
      context.fillStyle = isDetected ? colour("panel") : fill;
      fillBar(context, [x, top, width, height], rounds);
      context.globalAlpha = opacity * (isDetected ? 0.35 : 0.85);
      context.fillStyle = fill;
      const loud = height * stroke.velocity;
      fillBar(context, [x, bottom - loud, width, loud], rounds && [0, 0, 5, 2]);
    }
  }

  /** Draw onsets, dotted where they are early on the grid and dashed where they are late; what was detected has a frame. */
  #drawEdges(context, { top, height, fill }, bars, width) {
    const isDetected = this.actions.layer === "detected";
    context.fillStyle = context.strokeStyle = fill;
    context.lineWidth = EDGE_PX;
    const off = { early: [], late: [] };
    for (const bar of bars) {
      const timing = this.#lanes.timingOf(bar.stroke);
      context.globalAlpha = bar.opacity;
      if (isDetected) context.strokeRect(bar.x + 1, top + 1, width - EDGE_PX, height - EDGE_PX);
      else if (!timing) context.fillRect(bar.x, top, EDGE_PX, height);
      else off[timing].push(bar);
    }
    for (const [timing, dashes] of Object.entries(DASHES)) {
      context.setLineDash(dashes);
      context.beginPath();
      for (const { x } of off[timing]) {
        context.moveTo(x + EDGE_PX / 2, top);
        context.lineTo(x + EDGE_PX / 2, top + height);
      }
      context.stroke();
    }
    context.setLineDash([]);
  }

  /** Draw which strokes are changed, which are selected, and their articulations. */
  #drawMarks(context, { top, height }, bars, width) {
    const { selection } = this.actions;
    context.fillStyle = context.strokeStyle = colour("ink");
    useFont(context, SIGN_FONT);
    Object.assign(context, { textAlign: "center", textBaseline: "top" });
    for (const { stroke, opacity, x } of bars) {
      context.globalAlpha = opacity;
      if (this.#lanes.isChanged(stroke)) context.fillRect(x + EDGE_PX, top, width - EDGE_PX, 3);
      if (selection.has(stroke.id)) {
        context.beginPath();
        context.roundRect(x - 2, top - 2, width + 4, height + 4, 4);
        context.stroke();
      }
      const sign = width >= SIGN_PX && signOf(stroke.articulation);
      if (sign) drawSign(context, sign, x + EDGE_PX + (width - EDGE_PX) / 2, top + 4);
    }
  }
}

/** Write a sign with a rim, so that it can be read on any colour. */
function drawSign(context, sign, x, y) {
  Object.assign(context, { strokeStyle: colour("panel"), lineWidth: RIM_PX, lineJoin: "round" });
  context.strokeText(sign, x, y);
  Object.assign(context, { strokeStyle: colour("ink"), lineWidth: EDGE_PX });
  context.fillText(sign, x, y);
}

function byClass(strokes) {
  const found = new Map(CLASSES.map((drumClass) => [drumClass, []]));
  for (const stroke of strokes) found.get(stroke.class).push(stroke);
  return found;
}

const opacityOf = ({ lane, opacity = 1 }) => (lane.hasAttribute("data-silent") ? 0.3 : opacity);

function fillBar(context, [x, y, width, height], rounds) {
  if (!rounds) return context.fillRect(x, y, width, height);
  context.beginPath();
  context.roundRect(x, y, width, height, rounds);
  context.fill();
}
