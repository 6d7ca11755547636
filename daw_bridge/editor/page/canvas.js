// A canvas that is as sharp as the screen, and the colours of the present theme.

// To read a size makes the browser lay the page out at once, so it is read again only after it has changed.
const sizes = new WeakMap();
const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => sizes.delete(target)));

function sizeOf(canvas) {
  if (!sizes.has(canvas)) {
    sizes.set(canvas, { width: canvas.clientWidth, height: canvas.clientHeight });
    observer.observe(canvas);
  }
  return sizes.get(canvas);
}

/**
 * Fit a canvas to its place on the page, clear it, and return its context with its size in CSS pixels. One of another
 * `height` is stretched by the page.
 */
export function cleared(canvas, height = sizeOf(canvas).height) {
  const { width } = sizeOf(canvas);
  const scale = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Set the font of a context; to set the one that it has would make the browser style the page at once. */
export function useFont(context, font) {
  if (context.font !== font) context.font = font;
}

let cache = null;

/** Return a colour of the style sheet by the name of its property, without the dashes. */
export function colour(name) {
  cache ??= new Map();
  if (!cache.has(name)) cache.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return cache.get(name);
}

/** Return a colour "#rrggbb" as the bytes of a pixel. */
export function pixelOf(hex, opacity = 1) {
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return new Uint32Array(new Uint8Array([red, green, blue, Math.round(255 * opacity)]).buffer)[0];
}

/** Call a function whenever the theme changes. */
export function onTheme(change) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    cache = null;
    change();
  });
}
