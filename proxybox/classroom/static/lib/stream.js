// The server's event stream for a page: `subscribe` uses the browser's shared connection (stream-worker.js), or a connection
// of its own if there is no SharedWorker.

import { Feed, isCovered } from "./feed.js";

/** @typedef {(status: import("types").Status, answer: number) => void} OnStatus */

const WORKER = new URL("../stream-worker.js", import.meta.url);
const LOOK = 15_000; // ms between two checks whether the worker still pings
const SILENT = 60_000; // a worker that has not pinged for so long has ended

// Calls `handlers[event](data, {id, event})` for each event of the stream at `url`.
//
// options.since: the last event that the page's state already contains (`event` of /api/me and /api/teacher/state): events up
// to it are left out, events after it come even if they happened before this call. Without it: events from now on.
// options.onStatus(status, answer): "open"; "waiting" (not connected, tries again); "closed" (the server refuses: `answer` is
// its HTTP status, such as 401). Called when it changes, and once at the start.
//
// If the server cannot fill a gap, handlers.resync is called, to load everything again. It may return a promise of the last
// event that the loaded state contains: events that arrive meanwhile wait for it, and those that the state contains are left
// out. The handler itself repeats a failed load.
//
// Different seats in one browser: give the URL a query of its own (`/api/events?seat=ID`), which keeps their streams apart.
//
// Returns {close(), wake()}: `wake` tries to connect now instead of at the next attempt.
/**
 * @param {string} url
 * @param {import("types").Handlers} handlers
 * @param {{since?: string | null, onStatus?: OnStatus}} options
 */
export function subscribe(url, handlers, { since = null, onStatus = () => {} } = {}) {
  const listener = new Listener(new URL(url, location.href).href, handlers, since, onStatus);
  return { close: () => listener.close(), wake: () => listener.wake() };
}

class Listener {
  /**
   * @param {string} url
   * @param {import("types").Handlers} handlers
   * @param {string | null} since
   * @param {OnStatus} onStatus
   */
  constructor(url, handlers, since, onStatus) {
    this.url = url;
    this.handlers = handlers;
    this.last = since;
    this.onStatus = onStatus;
    /** @type {import("types").Status | null} */
    this.status = null;
    this.answer = 0;
    /** @type {import("types").StreamEvent[] | null} */
    this.waiting = null; // events that arrived while the page loads its state again
    /** @type {Feed | SharedLine | null} */
    this.line = null; // {close(), wake()}: the connection to the server
    /** @type {[EventTarget, string, (event: any) => void][]} */
    this.listeners = [
      [window, "pagehide", () => this.#leave()],
      [window, "pageshow", (event) => event.persisted && this.#open()],
      [window, "online", () => this.wake()],
      [document, "visibilitychange", () => document.visibilityState === "visible" && this.wake()],
    ];
    for (const [target, name, call] of this.listeners) target.addEventListener(name, call);
    this.#open();
  }

  close() {
    for (const [target, name, call] of this.listeners) target.removeEventListener(name, call);
    this.#leave();
  }

  wake() {
    this.line?.wake();
  }

  #leave() {
    this.line?.close();
    this.line = null;
  }

  #open() {
    this.#leave();
    /** @type {import("types").Ears} */
    const ears = {
      since: this.last,
      onEvent: (event) => this.#arrived(event),
      onStatus: (status, answer) => this.#tell(status, answer),
    };
    if (typeof SharedWorker === "undefined") this.line = new Feed(this.url, ears);
    else
      this.line = new SharedLine(
        this.url,
        ears,
        () => this.last,
        () => this.#direct(ears),
      );
    this.#tell(this.line instanceof Feed ? this.line.status : "waiting", 0);
  }

  // The worker cannot be started: this page has a connection of its own.
  /** @param {import("types").Ears} ears */
  #direct(ears) {
    this.#leave();
    this.line = new Feed(this.url, { ...ears, since: this.last });
  }

  /** @param {import("types").Status} status @param {number} answer */
  #tell(status, answer) {
    if (this.status === status && this.answer === answer) return;
    this.status = status;
    this.answer = answer;
    this.onStatus(status, answer);
  }

  /** @param {import("types").StreamEvent} event */
  #arrived(event) {
    if (event.event === "resync") this.#resync(event);
    else if (this.waiting !== null) this.waiting.push(event);
    else this.#give(event);
  }

  /** @param {import("types").StreamEvent} event */
  #give(event) {
    if (event.id !== null) {
      if (isCovered(event.id, this.last)) return;
      this.last = event.id;
    }
    try {
      this.handlers[event.event]?.(event.data, { id: event.id, event: event.event });
    } catch (error) {
      reportError(error); // an event that cannot be shown does not end the stream
    }
  }

  /** @param {import("types").StreamEvent} event */
  async #resync(event) {
    this.last = null;
    if (this.waiting !== null) {
      this.waiting.push(event); // the current load began before this gap: another one follows
      return;
    }
    this.waiting = [];
    let known = null;
    try {
      known = (await this.handlers.resync?.(event.data, { id: event.id, event: "resync" })) ?? null;
    } catch (error) {
      reportError(error);
    }
    this.last = known;
    const held = this.waiting;
    this.waiting = null;
    for (const each of held) this.#arrived(each);
  }
}

// The connection through the worker.
class SharedLine {
  /**
   * @param {string} url
   * @param {import("types").Ears} ears
   * @param {() => string | null} last
   * @param {() => void} onBroken
   */
  constructor(url, ears, last, onBroken) {
    this.url = url;
    this.ears = ears;
    this.last = last;
    this.onBroken = onBroken;
    this.heard = Date.now();
    /** @type {number | null} */
    this.looking = setInterval(() => this.#look(), LOOK);
    /** @type {SharedWorker | null} */
    this.worker = null;
    this.#start(ears.since ?? null);
  }

  /** @param {string | null} since */
  #start(since) {
    try {
      this.worker = new SharedWorker(WORKER, { type: "module", name: "proxybox events" });
    } catch {
      queueMicrotask(() => this.#broken());
      return;
    }
    this.worker.onerror = () => this.#broken();
    this.worker.port.onmessage = ({ data }) => this.#said(data);
    this.worker.port.start();
    this.#say({ say: "hear", url: this.url, since });
  }

  /** @param {import("types").FromTab} message */
  #say(message) {
    this.worker?.port.postMessage(message);
  }

  /** @param {import("types").ToTab} message */
  #said(message) {
    this.heard = Date.now();
    if (message.say === "event") this.ears.onEvent(message);
    else if (message.say === "status") this.ears.onStatus(message.status, message.answer);
    else if (message.say === "ping") this.#say({ say: "here" });
    else if (message.say === "again") this.#say({ say: "hear", url: this.url, since: this.last() });
  }

  #broken() {
    if (this.looking === null) return;
    this.close();
    this.onBroken();
  }

  // The browser may end a worker; then a new one continues after this page's last event.
  #look() {
    if (Date.now() - this.heard < SILENT) return;
    this.heard = Date.now();
    this.worker?.port.close();
    this.#start(this.last());
  }

  wake() {
    this.#say({ say: "wake" });
  }

  close() {
    if (this.looking !== null) clearInterval(this.looking);
    this.looking = null;
    this.#say({ say: "bye" });
    this.worker?.port.close();
    this.worker = null;
  }
}
