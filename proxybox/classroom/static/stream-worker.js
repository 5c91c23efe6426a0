// The browser's one connection for each event stream, shared by its tabs: browsers open six HTTP/1.1 connections to a
// server, and six tabs with one each would leave none for other requests.
//
// From a tab: {say: "hear", url, since}, {say: "here"} (the answer to a ping), {say: "wake"}, {say: "bye"}.
// To a tab: {say: "event", id, event, data}, {say: "status", status, answer}, {say: "ping"}, {say: "again"} (this worker
// had given up the tab: send "hear" again).

import { Feed, isCovered } from "./lib/feed.js";

/** @import { StreamEvent } from "types" */

const KEPT = 400; // events that a later tab can still get
const PING = 15_000;
const SILENT = 3 * PING; // a tab that answers no ping for so long is closed, or frozen: it has to send "hear" again

/** @type {Map<string, SharedFeed>} */
const shared = new Map(); // url -> SharedFeed

class SharedFeed {
  /** @param {string} url @param {string | null} since */
  constructor(url, since) {
    this.url = url;
    /** @type {Set<Tab>} */
    this.tabs = new Set();
    /** @type {StreamEvent | null} */
    this.hello = null;
    /** @type {StreamEvent[]} */
    this.kept = [];
    this.from = since; // everything after this id is in `kept`; null before the first hello of a stream that began now
    this.feed = new Feed(url, {
      since,
      onEvent: (event) => this.#arrived(event),
      onStatus: (status, answer) => this.#tell({ say: "status", status, answer }),
    });
  }

  /** @param {import("types").ToTab} message */
  #tell(message) {
    for (const tab of this.tabs) tab.port.postMessage(message);
  }

  /** @param {StreamEvent} event */
  #arrived(event) {
    if (event.event === "hello") {
      this.hello = event;
      this.from ??= event.data?.event ?? null;
    } else if (event.event === "resync") {
      this.kept = [];
      this.from = this.hello?.data?.event ?? null;
    } else if (event.id !== null) {
      this.kept.push(event);
      if (this.kept.length > KEPT) this.from = this.kept.shift()?.id ?? null;
    }
    for (const tab of this.tabs) tab.give(event);
  }

  /** @param {Tab} tab */
  add(tab) {
    this.tabs.add(tab);
    tab.port.postMessage({ say: "status", status: this.feed.status, answer: this.feed.answer });
    if (this.hello !== null) tab.give(this.hello);
    if (tab.since === null) return;
    if (!isCovered(this.from, tab.since)) tab.give({ id: null, event: "resync", data: {} });
    else for (const event of this.kept) if (!isCovered(event.id, tab.since)) tab.give(event);
  }

  /** @param {Tab} tab */
  remove(tab) {
    this.tabs.delete(tab);
    if (this.tabs.size > 0) return;
    this.feed.close();
    if (shared.get(this.url) === this) shared.delete(this.url);
  }
}

class Tab {
  /** @param {MessagePort} port */
  constructor(port) {
    this.port = port;
    /** @type {SharedFeed | null} */
    this.feed = null;
    /** @type {string | null} */
    this.since = null;
    this.heard = Date.now();
    port.onmessage = ({ data }) => this.#said(data);
  }

  /** @param {StreamEvent} event */
  give({ id, event, data }) {
    this.port.postMessage({ say: "event", id, event, data });
  }

  leave() {
    this.feed?.remove(this);
    this.feed = null;
    tabs.delete(this);
  }

  /** @param {import("types").FromTab} message */
  #said(message) {
    this.heard = Date.now();
    if (message.say === "hear") this.#hear(message);
    else if (message.say === "bye") this.leave();
    else if (this.feed === null) this.port.postMessage({ say: "again" });
    else if (message.say === "wake") this.feed.feed.wake();
  }

  /** @param {{url: string, since: string | null}} what */
  #hear({ url, since }) {
    this.leave();
    tabs.add(this);
    this.since = since;
    let feed = shared.get(url);
    // A stream that the server has refused is requested again for a new tab: it may have a cookie by now.
    if (feed === undefined || feed.feed.status === "closed") {
      feed = new SharedFeed(url, since);
      shared.set(url, feed);
      this.feed = feed;
      feed.tabs.add(this);
      return;
    }
    this.feed = feed;
    feed.add(this);
  }
}

/** @type {Set<Tab>} */
const tabs = new Set();

/** @type {SharedWorkerGlobalScope} */ (/** @type {unknown} */ (self)).onconnect = ({ ports: [port] }) => {
  new Tab(port);
  port.start();
};

setInterval(() => {
  for (const tab of tabs) {
    if (Date.now() - tab.heard > SILENT) tab.leave();
    else tab.port.postMessage({ say: "ping" });
  }
}, PING);
