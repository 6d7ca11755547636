// Fetches sound and computes tiles of its spectrogram, apart from the page: levels in dB over time, on a logarithmic scale
// of frequency.

const LOWEST_HZ = 40;
const HIGHEST_HZ = 18_000;
const WINDOW_S = 0.023;
const FLOOR_DB = -78;
const CEILING_DB = -15;
const MOST_WINDOWS = 4; // of a column; the loudest counts
const LEAD = 4096; // samples before and after a tile, for its first and last windows

const plans = new Map();

onmessage = async ({ data }) => {
  const { key, hop, number, sampleRate, nSamples, nColumns, nRows, headers } = data;
  const first = number * nColumns * hop;
  const start = Math.max(0, first - LEAD);
  const stop = Math.min(nSamples, first + nColumns * hop + LEAD);
  const mono = await fetched(start, stop, headers).catch(() => null);
  if (!mono) return postMessage({ key, levels: null });
  const plan = planOf(sampleRate, nRows);
  const levels = new Uint8Array(nColumns * nRows);
  for (let column = 0; column < nColumns; column += 2) {
    addPowers(mono, first - start + column * hop, hop, plan);
    plan.powers.forEach((power, i) => {
      for (let row = 0; row < nRows; row++) {
        levels[(nRows - 1 - row) * nColumns + column + i] = levelOf(power, plan.rows[row]);
      }
    });
  }
  postMessage({ key, levels }, [levels.buffer]);
};

/** Return samples [start, stop) of the recording as one channel; null where the server does not give them. */
async function fetched(start, stop, headers) {
  const answer = await fetch(`/api/audio?which=source&start=${start}&stop=${stop}`, { headers, cache: "no-store" });
  if (!answer.ok) return null;
  const flat = new Float32Array(await answer.arrayBuffer());
  if (answer.headers.get("Redrum-Channels") === "1") return flat;
  const n = flat.length / 2;
  return flat.subarray(0, n).map((sample, i) => (sample + flat[n + i]) / 2);
}

/** Return the level of the bins of a row, 0 to 255. */
function levelOf(power, [first, last]) {
  let most = 0;
  for (let bin = first; bin <= last; bin++) most = Math.max(most, power[bin]);
  const db = 10 * Math.log10(most + 1e-12);
  return Math.max(0, Math.min(255, (255 * (db - FLOOR_DB)) / (CEILING_DB - FLOOR_DB)));
}

/** Let `powers` be the most power of the windows of a column and the next one in each bin; 1 is a sine at full scale. */
function addPowers(mono, start, hop, plan) {
  const { size, powers } = plan;
  const nWindows = Math.max(1, Math.min(MOST_WINDOWS, Math.round(hop / size)));
  for (const power of powers) power.fill(0);
  for (let i = 0; i < nWindows; i++) {
    const at = start + ((i + 0.5) / nWindows) * hop - size / 2;
    transform(mono, Math.round(at), Math.round(at + hop), plan);
  }
}

/** Transform two windows at once: as they are real, their spectra are the even and the odd part of one. */
function transform(mono, start, next, { size, window, real, imaginary, powers, reversed, cosines, sines }) {
  for (let i = 0; i < size; i++) {
    real[reversed[i]] = (mono[start + i] || 0) * window[i];
    imaginary[reversed[i]] = (mono[next + i] || 0) * window[i];
  }
  for (let half = 1; half < size; half *= 2) {
    const step = size / (2 * half);
    for (let block = 0; block < size; block += 2 * half) {
      for (let k = 0; k < half; k++) {
        const a = block + k;
        const b = a + half;
        const c = cosines[k * step];
        const s = sines[k * step];
        const re = real[b] * c + imaginary[b] * s;
        const im = imaginary[b] * c - real[b] * s;
        real[b] = real[a] - re;
        imaginary[b] = imaginary[a] - im;
        real[a] += re;
        imaginary[a] += im;
      }
    }
  }
  const [power, nextPower] = powers;
  for (let bin = 0; bin < power.length; bin++) {
    const mirror = (size - bin) % size;
    const [re, im] = [real[bin] + real[mirror], imaginary[bin] - imaginary[mirror]];
    const [nextRe, nextIm] = [imaginary[bin] + imaginary[mirror], real[bin] - real[mirror]];
    power[bin] = Math.max(power[bin], (re * re + im * im) / 4);
    nextPower[bin] = Math.max(nextPower[bin], (nextRe * nextRe + nextIm * nextIm) / 4);
  }
}

/** Return what a transform of this rate needs. */
function planOf(sampleRate, nRows) {
  const key = `${sampleRate}/${nRows}`;
  if (plans.has(key)) return plans.get(key);
  const size = 2 ** Math.max(7, Math.round(Math.log2(WINDOW_S * sampleRate)));
  const bits = Math.log2(size);
  const index = Array.from({ length: size }, (_, i) => i);
  const reverse = (i) => index.slice(0, bits).reduce((found, bit) => found | (((i >> bit) & 1) << (bits - 1 - bit)), 0);
  const top = Math.min(HIGHEST_HZ, sampleRate / 2);
  const binOf = (row) => (LOWEST_HZ * (top / LOWEST_HZ) ** (row / nRows) * size) / sampleRate;
  const plan = {
    size,
    window: Float32Array.from(index, (i) => (2 / size) * (1 - Math.cos((2 * Math.PI * i) / size))),
    reversed: Uint16Array.from(index, reverse),
    cosines: Float32Array.from(index.slice(0, size / 2), (i) => Math.cos((2 * Math.PI * i) / size)),
    sines: Float32Array.from(index.slice(0, size / 2), (i) => Math.sin((2 * Math.PI * i) / size)),
    real: new Float32Array(size),
    imaginary: new Float32Array(size),
    powers: [new Float32Array(size / 2), new Float32Array(size / 2)],
    rows: Array.from({ length: nRows }, (_, row) => {
      const first = Math.min(Math.round(binOf(row)), size / 2 - 1);
      return [first, Math.min(Math.max(first, Math.round(binOf(row + 1)) - 1), size / 2 - 1)];
    }),
  };
  plans.set(key, plan);
  return plan;
}
