// Nothing that was typed is lost: each change is kept in the browser at once, and sent to the server at each pause.
//
//     change ── IndexedDB ── a pause of 500 ms, 2 s at the latest ── PUT files ── dropped from IndexedDB
//
// While the server is away, changes stay in the browser, and are sent when it is back; by the page that is opened next,
// should this one be closed. A save has an id of its own, with which it is kept before it is sent, so that one whose answer
// was lost is not saved twice.

import { Problem } from "./api.js";
import * as local from "./local.js";

const PAUSE = 500;
const LONGEST = 2_000;
const FIRST_RETRY = 1_000;
const LONGEST_RETRY = 15_000;
const MOST_WRITES = 8; // of one draft, at the same time
const ALIVE = 200; // ms that other tabs have to say that they live

// One exercise's changes. changes: name -> text, or null for a file that was deleted. sending: what is on its way.
class Draft {
  constructor(exercise) {
    this.exercise = exercise;
    this.base = 0;
    this.changes = new Map();
    this.sending = null; // {save, base, files}
    this.since = 0; // when the oldest change was made that is not on its way; 0: none
    this.timer = null;
    this.failures = 0;
    this.writes = 0; // to IndexedDB, that have not ended
    this.written = null; // the promise of the latest of them
    this.late = false; // whether there is more to write
    this.busy = null; // the promise of what is being sent
    this.refused = null; // the Problem because of which the server does not take it
  }

  get isEmpty() {
    return this.changes.size === 0 && this.sending === null;
  }

  // What the server may not have: files over its own.
  get files() {
    return { ...this.sending?.files, ...Object.fromEntries(this.changes) };
  }
}

export class Drafts {
  // send(exercise, {client, base, files, save}) -> {version, at, conflict?}, or it throws a Problem.
  // onState({state: "saved" | "typing" | "sending" | "unsent" | "refused", problem, at}), whenever it changes.
  constructor({ seat, send, onState = () => {}, onSaved = () => {} }) {
    Object.assign(this, { seat, send, onState, onSaved });
    this.client = local.newId();
    this.drafts = new Map();
    this.at = null;
    this.channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(`drafts ${seat}`);
    this.channel?.addEventListener("message", ({ data }) => this.#heard(data));
    this.alive = new Set();
  }

  #heard({ ask, alive }) {
    if (ask && ask !== this.client) this.channel.postMessage({ alive: this.client });
    if (alive) this.alive.add(alive);
  }

  // Takes over what pages before this one could not send. Returns whether there was something.
  async recover() {
    this.channel?.postMessage({ ask: this.client });
    const waited = new Promise((resolve) => setTimeout(resolve, this.channel ? ALIVE : 0));
    const [records] = await Promise.all([local.all("drafts"), waited]);
    const left = (records ?? []).filter((each) => each.seat === this.seat && !this.alive.has(each.client));
    left.sort((one, other) => one.at - other.at);
    for (const record of left) {
      if (record.client === this.client) continue;
      const draft = this.#draft(record.exercise);
      // What was on its way keeps its id, once; the others' changes go in the order in which they were made.
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

  #add(draft, files) {
    for (const [name, text] of Object.entries(files)) draft.changes.set(name, text);
    if (draft.changes.size > 0 && draft.since === 0) draft.since = Date.now();
  }

  #draft(exercise) {
    if (!this.drafts.has(exercise)) this.drafts.set(exercise, new Draft(exercise));
    return this.drafts.get(exercise);
  }

  // The version on which the texts of an exercise stand, as the server said.
  setBase(exercise, version) {
    this.#draft(exercise).base = version;
  }

  // The same, of a version that may be another page's: what was typed and not sent does not stand on it.
  learnBase(exercise, version) {
    if (this.isClean(exercise)) this.setBase(exercise, version);
  }

  base(exercise) {
    return this.#draft(exercise).base;
  }

  // The files that the server may not have yet: {name: text | null}.
  unsent(exercise) {
    return this.#draft(exercise).files;
  }

  isClean(exercise) {
    return this.#draft(exercise).isEmpty;
  }

  // A file has changed; null: it was deleted.
  change(exercise, name, text) {
    const draft = this.#draft(exercise);
    draft.refused = null;
    this.#add(draft, { [name]: text });
    this.#write(draft);
    if (draft.failures === 0) this.#later(draft, Math.max(0, Math.min(PAUSE, draft.since + LONGEST - Date.now())));
    this.#tell();
  }

  // Sends what there is now. Resolves when the server has all of it; throws the Problem because of which it has not.
  async flush(exercise) {
    const draft = this.#draft(exercise);
    while (!draft.isEmpty) await (draft.busy ?? this.#go(draft));
    return draft.base;
  }

  // The server may be back.
  wake() {
    for (const draft of this.drafts.values()) if (draft.failures > 0 && draft.busy === null) this.#later(draft, 0);
  }

  // The page goes away: what still fits into a last request is sent without waiting for the answer.
  leave() {
    for (const draft of this.drafts.values()) {
      if (draft.busy === null && !draft.isEmpty) this.#go(draft, true).catch(() => {});
      else if (draft.changes.size > 0) {
        // Something is on its way; what came after it follows, and stays in the browser as well.
        const files = Object.fromEntries(draft.changes);
        this.send(draft.exercise, { client: this.client, save: local.newId(), base: draft.base, files }, true).catch(
          () => {},
        );
      }
    }
  }

  #later(draft, pause) {
    clearTimeout(draft.timer);
    draft.timer = setTimeout(() => {
      if (draft.busy === null) this.#go(draft).catch(() => {});
    }, pause);
  }

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

  // The server has what was on its way.
  #saved(exercise, answer) {
    const draft = this.#draft(exercise);
    const { files } = draft.sending;
    draft.sending = null;
    draft.failures = 0;
    draft.refused = null;
    draft.base = Math.max(draft.base, answer.version);
    this.at = answer.at;
    this.#write(draft);
    this.onSaved(exercise, answer, files);
  }

  #again(draft, problem) {
    const pause = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** draft.failures) * (0.75 + Math.random() / 2);
    draft.failures = Math.min(draft.failures + 1, 8);
    this.#later(draft, Math.max(pause, problem.retryAfter * 1000));
  }

  // What the server will not take stays in the browser, and goes with the next change.
  #refuse(draft, problem) {
    draft.changes = new Map(Object.entries(draft.files));
    draft.sending = null;
    draft.failures = 0;
    draft.refused = problem;
    this.#write(draft);
  }

  // Keeps a draft in the browser as it is. Each is handed to the browser at once, which keeps their order: a page that ends
  // the next moment has kept it.
  async #write(draft) {
    if (draft.writes >= MOST_WRITES) {
      draft.late = true; // a disk that does not follow: what comes meanwhile is one write
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
    let state = "saved";
    if (refused) state = "refused";
    else if (all.some((draft) => draft.failures > 0)) state = "unsent";
    else if (all.some((draft) => draft.busy !== null && draft.sending !== null)) state = "sending";
    else if (all.some((draft) => !draft.isEmpty)) state = "typing";
    this.onState({ state, problem: refused?.refused ?? null, at: this.at });
  }
}
