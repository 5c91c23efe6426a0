// One event stream of the server, kept open: it connects, reads, notices silence, and connects again at the last event.
// It uses fetch and not EventSource. So it sees the comments that show that the server is alive, can send Last-Event-ID
// after an error too, and can distinguish a refusal from an unreachable server.
// The format: https://html.spec.whatwg.org/multipage/server-sent-events.html

const SILENCE = 30_000; // ms without a byte after which the connection counts as dead
const FIRST_PAUSE = 500; // ms before the second attempt; doubled for each one after it
const LONGEST_PAUSE = 10_000;
const LONGEST_EVENT = 8 * 1024 * 1024; // characters; no event of our server is longer
const FOR_EVER = new Set([204, 401, 403, 404, 410]); // answers that another attempt would not change

// Whether an event is not later than `last`. An id contains the name of the server's run and a growing number:
// "3fa9-17".
/** @param {string | null} id @param {string | null} last */
export function isCovered(id, last) {
  if (id === null || last === null) return false;
  const [[life, number], [lastLife, lastNumber]] = [split(id), split(last)];
  return life === lastLife && number <= lastNumber;
}

/** @param {string} id @returns {[string, number]} */
function split(id) {
  const at = id.lastIndexOf("-");
  return [id.slice(0, Math.max(at, 0)), Number(id.slice(at + 1))];
}

export class Feed {
  // `since` is the id of the last known event (null: begin with the next one). onEvent({id: string|null, event, data});
  // onStatus("open" | "waiting" | "closed", HTTP status or 0).
  /** @param {string} url @param {import("types").Ears} ears */
  constructor(url, { since = null, onEvent, onStatus }) {
    this.url = url;
    this.last = since;
    /** @type {import("types").Status} */
    this.status = "waiting";
    this.answer = 0;
    this.onEvent = onEvent;
    this.onStatus = onStatus;
    this.failures = 0;
    /** @type {(() => void) | null} */
    this.pause = null; // ends the pause early
    /** @type {AbortController | null} */
    this.abort = null; // ends the open connection
    this.ended = false;
    this.#run();
  }

  close() {
    this.ended = true;
    this.abort?.abort();
    this.pause?.();
  }

  // Ends the pause before the next attempt, for example when the network is back.
  wake() {
    this.pause?.();
  }

  /** @param {import("types").Status} status */
  #tell(status, answer = 0) {
    if (this.ended || (this.status === status && this.answer === answer)) return;
    this.status = status;
    this.answer = answer;
    this.onStatus(status, answer);
  }

  async #run() {
    while (!this.ended) {
      const answer = await this.#connect().catch(() => ({ status: 0, after: 0 }));
      if (this.ended) return;
      if (FOR_EVER.has(answer.status)) {
        this.#tell("closed", answer.status);
        this.ended = true;
        return;
      }
      this.#tell("waiting", answer.status);
      const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(this.failures, 6));
      this.failures += 1;
      // A whole class loses its connections at the same moment: the pauses differ, so that not all come back at once.
      await this.#wait(Math.max(answer.after, pause * (0.5 + Math.random() / 2)));
    }
  }

  /** @param {number} ms @returns {Promise<void>} */
  #wait(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.pause = null;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.pause = done;
    });
  }

  async #connect() {
    const abort = new AbortController();
    this.abort = abort;
    let watch = setTimeout(() => abort.abort(), SILENCE);
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort(), SILENCE);
    };
    try {
      /** @type {Record<string, string>} */
      const headers = { Accept: "text/event-stream" };
      if (this.last !== null) headers["Last-Event-ID"] = this.last;
      const response = await fetch(this.url, { headers, cache: "no-store", signal: abort.signal });
      const stream = (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");
      if (!response.ok || response.status === 204 || !stream) {
        const after = Math.min(60, Number(response.headers.get("Retry-After")) || 0) * 1000;
        return { status: response.ok && !stream && response.status !== 204 ? 0 : response.status, after };
      }
      this.failures = 0;
      this.#tell("open", response.status);
      if (response.body !== null) await this.#read(response.body, alive);
      return { status: 0, after: 0 };
    } finally {
      clearTimeout(watch);
      abort.abort();
    }
  }

  /** @param {ReadableStream<Uint8Array<ArrayBuffer>>} body @param {() => void} alive */
  async #read(body, alive) {
    const parser = new Parser((event) => {
      if (this.ended) return;
      if (event.id !== null) this.last = event.id;
      this.onEvent(event);
    });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || this.ended) return;
      alive();
      parser.feed(value);
    }
  }
}

// A parser of the stream: it takes text in pieces of any size, and emits events.
export class Parser {
  /** @param {(event: import("types").StreamEvent) => void} onEvent */
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.event = "";
    /** @type {string | null} */
    this.id = null;
    /** @type {string[]} */
    this.data = [];
    this.size = 0;
  }

  #clear() {
    this.event = "";
    this.id = null;
    this.data = [];
    this.size = 0;
  }

  /** @param {string} text */
  feed(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop() ?? "";
    this.size += text.length;
    for (const line of lines) this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
    if (this.size > LONGEST_EVENT) throw new RangeError("an event is longer than any that this server sends");
  }

  /** @param {string} line */
  #line(line) {
    if (line === "") {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: only its arrival counts
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "event") this.event = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id" && value !== "" && !value.includes("\0")) this.id = value;
  }

  #dispatch() {
    const { event, id, data } = this;
    this.#clear();
    if (data.length === 0 && event === "" && id === null) return;
    let value = null;
    if (data.length > 0) value = JSON.parse(data.join("\n"));
    this.onEvent({ id, event: /** @type {import("types").EventName} */ (event || "message"), data: value });
  }
}
