// Requests to the editor's server: JSON, samples, and the lines of its event stream.

const ALIVE_MS = 40_000; // without a line, after which the stream counts as broken; a sign of life comes every 15 s
const RETRY_MS = 1_500;

/** An answer that is no success. `status` is 0 where no server answered. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.error || "the editor's server does not answer");
    this.status = status;
    this.hint = body.hint || "";
    this.version = body.version;
  }
}

export class Api {
  constructor(token) {
    this.headers = { Authorization: `Bearer ${token}` };
  }

  /** Return the JSON of an answer. */
  async get(path, query = {}) {
    return (await this.#fetch(`${path}?${new URLSearchParams(query)}`)).json();
  }

  /** Post JSON, and return the JSON of the answer; it is sent even while the page is being left. */
  async post(path, body) {
    const text = JSON.stringify(body);
    const keepalive = text.length < 60_000; // browsers send no more than 64 KiB of such requests
    return (await this.#fetch(path, { method: "POST", body: text, keepalive })).json();
  }

  /** Post the bytes of a file, and return the JSON of the answer; a signal cancels it. */
  async upload(path, file, signal = null) {
    return (await this.#fetch(path, { method: "POST", body: file, signal })).json();
  }

  /** Return samples as one Float32Array per channel, with the rate. */
  async samples(path, query) {
    const answer = await this.#fetch(`${path}?${new URLSearchParams(query)}`);
    const flat = new Float32Array(await answer.arrayBuffer());
    const nChannels = Number(answer.headers.get("Redrum-Channels"));
    const n = flat.length / nChannels;
    const channels = Array.from({ length: nChannels }, (_, c) => flat.subarray(c * n, (c + 1) * n));
    return { channels, sampleRate: Number(answer.headers.get("Redrum-Sample-Rate")) };
  }

  /** Call `receive` with every notice, for ever; `lose` is called when the stream breaks, with a refusal or null. */
  async listen(receive, lose) {
    for (;;) {
      let refusal = null;
      try {
        await this.#stream(receive);
      } catch (error) {
        if (error instanceof ApiError && error.status) refusal = error;
      }
      lose(refusal);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  async #stream(receive) {
    const stop = new AbortController();
    let timer = setTimeout(() => stop.abort(), ALIVE_MS);
    const answer = await this.#fetch("events", { signal: stop.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(), ALIVE_MS);
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) if (line) receive(JSON.parse(line));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async #fetch(path, options = {}) {
    let answer;
    try {
      answer = await fetch(`/api/${path}`, { ...options, headers: this.headers, cache: "no-store" });
    } catch {
      throw new ApiError(0, { hint: "run redrum edit again; every edit that was stored is safe" });
    }
    if (answer.ok) return answer;
    throw new ApiError(answer.status, await answer.json().catch(() => ({ error: `the answer is ${answer.status}` })));
  }
}
