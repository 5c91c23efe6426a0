// No typed text is lost: each change is stored in the browser at once, and sent to the server at each pause.
//
//     change ── IndexedDB ── a pause of 500 ms, 2 s at the latest ── PUT files ── dropped from IndexedDB
//
// While the server is unreachable, changes stay in the browser, and are sent later; if this page is closed, by the next
// page. A save has an id, and is stored with it before it is sent. So a save whose answer was lost is not saved twice.

import { Problem } from "./api.js";
import * as local from "./local.js";

/** @typedef {Record<string, string | null>} Files texts by name; null for a file that was deleted */
/** @typedef {{version: number, at: number, conflict?: {at: number} | null}} Saved the server's answer to a save */
/** @typedef {{client: string, save: string, base: number, files: Files}} Save */
/** @typedef {(exercise: string, save: Save, last: boolean) => Promise<Saved>} Send */
/**
 * @typedef {{state: "saved" | "typing" | "sending" | "unsent" | "refused", problem: Problem | null, at: number | null}} DraftState
 */

const PAUSE = 500;
const LONGEST = 2_000;
const FIRST_RETRY = 1_000;
const LONGEST_RETRY = 15_000;
const MOST_WRITES = 8; // of one draft, at the same time
const ALIVE = 200; // ms that other tabs have to answer

// The changes of one exercise. changes: name -> text, or null for a deleted file. sending: the save that is being sent.
class Draft {
  /** @param {string} exercise */
  constructor(exercise) {
    this.exercise = exercise;
    this.base = 0;
    /** @type {Map<string, string | null>} */
    this.changes = new Map();
    /** @type {{save: string, base: number, files: Files} | null} */
    this.sending = null; // {save, base, files}
    this.since = 0; // when the oldest change was made that is not being sent; 0: none
    /** @type {number | undefined} */
    this.timer = undefined;
    this.failures = 0;
    this.writes = 0; // unfinished writes to IndexedDB
    /** @type {Promise<unknown> | null} */
    this.written = null; // the promise of the latest write
    this.late = false; // whether there is more to write
    /** @type {Promise<void> | null} */
    this.busy = null; // the promise of the request
    /** @type {Problem | null} */
    this.refused = null; // the Problem with which the server has refused the changes
  }

  get isEmpty() {
    return this.changes.size === 0 && this.sending === null;
  }

  // The files that the server may not have yet.
  get files() {
    return { ...this.sending?.files, ...Object.fromEntries(this.changes) };
  }
}

export class Drafts {
  // send(exercise, {client, base, files, save}) -> {version, at, conflict?}, or it throws a Problem. onState({state:
  // "saved" | "typing" | "sending" | "unsent" | "refused", problem, at}): called when the state changes.
  /**
   * @param {{seat: string, send: Send, onState?: (state: DraftState) => void, onSaved?: (exercise: string, answer: Saved, files: Files) => void}} options
   */
  constructor({ seat, send, onState = () => {}, onSaved = () => {} }) {
    this.seat = seat;
    this.send = send;
    this.onState = onState;
    this.onSaved = onSaved;
    this.client = local.newId();
    /** @type {Map<string, Draft>} */
    this.drafts = new Map();
    /** @type {number | null} */
    this.at = null;
    this.channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(`drafts ${seat}`);
    this.channel?.addEventListener("message", ({ data }) => this.#heard(data));
    /** @type {Set<string>} */
    this.alive = new Set();
  }

  /** @param {{ask?: string, alive?: string}} message */
  #heard({ ask, alive }) {
    if (ask && ask !== this.client) this.channel?.postMessage({ alive: this.client });
    if (alive) this.alive.add(alive);
  }

  // Takes over the unsent changes of closed pages. Returns whether there were any.
  async recover() {
    this.channel?.postMessage({ ask: this.client });
    const waited = new Promise((resolve) => setTimeout(resolve, this.channel ? ALIVE : 0));
    const [records] = await Promise.all([local.all("drafts"), waited]);
    const left = (records ?? []).filter((each) => each.seat === this.seat && !this.alive.has(each.client));
    left.sort((one, other) => one.at - other.at);
    for (const record of left) {
      if (record.client === this.client) continue;
      const draft = this.#draft(record.exercise);
      // A save that was being sent keeps its id, once; the other changes are added in their order.
      if (draft.isEmpty) draft.sending = record.sending;
      else this.#add(draft, record.sending?.files ?? {});
      this.#add(draft, record.changes);
      draft.base = Math.max(draft.base, record.base);
    }
    for (const draft of this.drafts.values()) await this.#write(draft);
    if (left.length > 0) await local.drop("drafts", ...left.map((each) => each.key));
    for (const draft of this.drafts.values()) if (!draft.isEmpty) this.#later(draft, 0);
    this.#tell();
    return left.length > 0;
  }

  /** @param {Draft} draft @param {Files} files */
  #add(draft, files) {
    for (const [name, text] of Object.entries(files)) draft.changes.set(name, text);
    if (draft.changes.size > 0 && draft.since === 0) draft.since = Date.now();
  }

  /** @param {string} exercise @returns {Draft} */
  #draft(exercise) {
    const draft = this.drafts.get(exercise) ?? new Draft(exercise);
    this.drafts.set(exercise, draft);
    return draft;
  }

  // Sets the version on which the texts of an exercise are based, as the server has reported it.
  /** @param {string} exercise @param {number} version */
  setBase(exercise, version) {
    this.#draft(exercise).base = version;
  }

  // The same for a version that may be another page's: unsent changes are not based on it.
  /** @param {string} exercise @param {number} version */
  learnBase(exercise, version) {
    if (this.isClean(exercise)) this.setBase(exercise, version);
  }

  /** @param {string} exercise */
  base(exercise) {
    return this.#draft(exercise).base;
  }

  // The files that the server may not have yet: {name: text | null}.
  /** @param {string} exercise */
  unsent(exercise) {
    return this.#draft(exercise).files;
  }

  /** @param {string} exercise */
  isClean(exercise) {
    return this.#draft(exercise).isEmpty;
  }

  // A file has changed; null: it was deleted.
  /** @param {string} exercise @param {string} name @param {string | null} text */
  change(exercise, name, text) {
    const draft = this.#draft(exercise);
    draft.refused = null;
    this.#add(draft, { [name]: text });
    this.#write(draft);
    if (draft.failures === 0) this.#later(draft, Math.max(0, Math.min(PAUSE, draft.since + LONGEST - Date.now())));
    this.#tell();
  }

  // Sends all changes. Resolves when the server has all of them; throws the Problem if it has not.
  /** @param {string} exercise */
  async flush(exercise) {
    const draft = this.#draft(exercise);
    while (!draft.isEmpty) await (draft.busy ?? this.#go(draft));
    return draft.base;
  }

  // The server may be back.
  wake() {
    for (const draft of this.drafts.values()) if (draft.failures > 0 && draft.busy === null) this.#later(draft, 0);
  }

  // The page goes away: the changes that fit into a last request are sent without waiting for the answer.
  leave() {
    for (const draft of this.drafts.values()) {
      if (draft.busy === null && !draft.isEmpty) this.#go(draft, true).catch(() => {});
      else if (draft.changes.size > 0) {
        // A save is being sent. The later changes are sent too, and stay in the browser as well.
        const files = Object.fromEntries(draft.changes);
        this.send(draft.exercise, { client: this.client, save: local.newId(), base: draft.base, files }, true).catch(
          () => {},
        );
      }
    }
  }

  /** @param {Draft} draft @param {number} pause */
  #later(draft, pause) {
    clearTimeout(draft.timer);
    draft.timer = setTimeout(() => {
      if (draft.busy === null) this.#go(draft).catch(() => {});
    }, pause);
  }

  /** @param {Draft} draft */
  #go(draft, last = false) {
    clearTimeout(draft.timer);
    draft.busy = this.#send(draft, last).finally(() => {
      draft.busy = null;
      if (draft.changes.size > 0 && draft.failures === 0 && draft.refused === null) this.#later(draft, PAUSE);
      this.#tell();
    });
    this.#tell();
    return draft.busy;
  }

  /** @param {Draft} draft @param {boolean} last */
  async #send(draft, last) {
    if (draft.sending === null) {
      if (draft.changes.size === 0) return;
      draft.sending = { save: local.newId(), base: draft.base, files: Object.fromEntries(draft.changes) };
      draft.changes.clear();
      draft.since = 0;
      const kept = this.#write(draft);
      if (!last) await kept;
    }
    try {
      const answer = await this.send(draft.exercise, { client: this.client, ...draft.sending }, last);
      this.#saved(draft.exercise, answer);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.passes) this.#again(draft, problem);
      else this.#refuse(draft, problem);
      throw problem;
    }
  }

  // The server has saved the files that were being sent.
  /** @param {string} exercise @param {Saved} answer */
  #saved(exercise, answer) {
    const draft = this.#draft(exercise);
    const files = draft.sending?.files ?? {};
    draft.sending = null;
    draft.failures = 0;
    draft.refused = null;
    draft.base = Math.max(draft.base, answer.version);
    this.at = answer.at;
    this.#write(draft);
    this.onSaved(exercise, answer, files);
  }

  /** @param {Draft} draft @param {Problem} problem */
  #again(draft, problem) {
    const pause = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** draft.failures) * (0.75 + Math.random() / 2);
    draft.failures = Math.min(draft.failures + 1, 8);
    this.#later(draft, Math.max(pause, problem.retryAfter * 1000));
  }

  // Changes that the server refuses stay in the browser, and are sent with the next change.
  /** @param {Draft} draft @param {Problem} problem */
  #refuse(draft, problem) {
    draft.changes = new Map(Object.entries(draft.files));
    draft.sending = null;
    draft.failures = 0;
    draft.refused = problem;
    this.#write(draft);
  }

  // Stores a draft in the browser. Each write begins at once, and the browser keeps their order: so it is stored even
  // if the page ends the next moment.
  /** @param {Draft} draft @returns {Promise<unknown>} */
  async #write(draft) {
    if (draft.writes >= MOST_WRITES) {
      draft.late = true; // the disk is slow: further changes become one write
      return draft.written;
    }
    draft.writes += 1;
    draft.written = this.#record(draft).finally(() => {
      draft.writes -= 1;
      if (!draft.late) return;
      draft.late = false;
      this.#write(draft);
    });
    return draft.written;
  }

  /** @param {Draft} draft @returns {Promise<unknown>} */
  #record(draft) {
    const key = `${this.seat}/${draft.exercise}/${this.client}`;
    if (draft.isEmpty) return local.drop("drafts", key);
    const { exercise, base, sending } = draft;
    const changes = Object.fromEntries(draft.changes);
    return local.keep("drafts", {
      key,
      seat: this.seat,
      client: this.client,
      exercise,
      base,
      sending,
      changes,
      at: Date.now(),
    });
  }

  #tell() {
    const all = [...this.drafts.values()];
    const refused = all.find((draft) => draft.refused !== null);
    /** @type {DraftState["state"]} */
    let state = "saved";
    if (refused) state = "refused";
    else if (all.some((draft) => draft.failures > 0)) state = "unsent";
    else if (all.some((draft) => draft.busy !== null && draft.sending !== null)) state = "sending";
    else if (all.some((draft) => !draft.isEmpty)) state = "typing";
    this.onState({ state, problem: refused?.refused ?? null, at: this.at });
  }
}
