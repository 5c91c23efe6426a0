// The state of the class in the teacher's browser: it is loaded, and updated by the event stream.

import { Problem, get } from "../lib/api.js";
import { subscribe } from "../lib/stream.js";

const AGAIN = 3_000; // ms between two attempts to load the state
const TOGETHER = 50; // ms within which changed rows are drawn together

// Events: "rows" (a set of ids, or null for all), "state" (frozen, pushed, joining, faults of the course, classes,
// whether this is the teacher of the whole classroom), "shares", "errors", "watched" ({seat, event, data}), "stream"
// (its id: a new one watches no seat), "status" ("open", "waiting", "closed"; HTTP status).
export class Room {
  /** @type {Map<string, ((...values: any[]) => unknown)[]>} */
  #listeners = new Map();
  /** @type {Set<string>} */
  #changed = new Set();
  /** @type {number | null} */
  #soon = null;

  constructor() {
    /** @type {Map<string, import("types").Row>} */
    this.rows = new Map();
    /** @type {Map<string, import("types").Share>} */
    this.shares = new Map();
    /** @type {import("types").Course} */
    this.course = { title: "", syllabus_html: "", exercises: [] };
    this.whole = true; // otherwise an instructor, who sees only these classes and not how to join
    /** @type {{code: string, addresses: string[], locked: boolean}} */
    this.join = { code: "", addresses: [], locked: false };
    this.frozen = false;
    /** @type {string | null} */
    this.pushed = null;
    this.courseFault = "";
    /** @type {Record<string, string>} */
    this.gradingFaults = {};
    /** @type {{id: string, title: string}[]} */
    this.classes = []; // of learning platforms
    /** @type {string | null} */
    this.chosen = null; // the id of the class that is shown; "": students who have joined by code; null: all
    /** @type {string | null} */
    this.stream = null;
    this.offset = 0;
  }

  /** @param {string} name @param {(...values: any[]) => unknown} call */
  on(name, call) {
    const calls = this.#listeners.get(name) ?? [];
    this.#listeners.set(name, [...calls, call]);
  }

  /** @param {string} name @param {any[]} values */
  #tell(name, ...values) {
    for (const call of this.#listeners.get(name) ?? []) call(...values);
  }

  // The server's time, in seconds: the clock of this computer may be wrong.
  get now() {
    return Date.now() / 1000 + this.offset;
  }

  // Seats of the class that is shown, without removed ones.
  get seats() {
    return [...this.rows.values()].filter((row) => !row.removed && (this.chosen === null || row.class === this.chosen));
  }

  // Shows only one class; null: all.
  /** @param {string | null} id */
  choose(id) {
    this.chosen = id;
    this.#tell("rows", null);
  }

  /** @param {string | null | undefined} exercise */
  title(exercise) {
    return this.course.exercises.find((each) => each.id === exercise)?.title ?? exercise ?? "";
  }

  /** @param {string} seat */
  name(seat) {
    return this.rows.get(seat)?.name ?? "";
  }

  async start() {
    const since = await this.#reload();
    subscribe(
      "/api/teacher/events",
      {
        hello: (data) => {
          this.offset = data.time - Date.now() / 1000;
          this.stream = data.stream;
          this.#tell("stream", data.stream);
        },
        row: (row) => this.put(row),
        state: (state) => this.#take(state),
        share: (share) => {
          this.shares.set(share.id, share);
          this.#tell("shares");
        },
        unshare: ({ id }) => {
          this.shares.delete(id);
          this.#tell("shares");
        },
        errors: () => this.#tell("errors"),
        course: () => this.#reload(),
        watched: (watched) => this.#tell("watched", watched),
        resync: () => this.#reload(),
      },
      { since, onStatus: (status, answer) => this.#tell("status", status, answer) },
    );
  }

  // Takes a row from an event or an answer; it is drawn with others that come at the same time.
  /** @param {import("types").Row} row */
  put(row) {
    this.rows.set(row.id, row);
    this.#changed.add(row.id);
    if (this.#soon !== null) return;
    this.#soon = setTimeout(() => {
      this.#soon = null;
      const changed = this.#changed;
      this.#changed = new Set();
      this.#tell("rows", changed);
    }, TOGETHER);
  }

  // An event for all instructors contains only the common state of all their classes.
  /** @param {import("types").RoomState} state */
  #take(state) {
    this.whole = state.whole ?? this.whole;
    this.join = state.join ?? this.join;
    this.classes = state.classes ?? this.classes;
    this.frozen = state.frozen;
    this.pushed = state.pushed;
    this.courseFault = state.course_fault ?? "";
    this.gradingFaults = state.grading_faults;
    this.#tell("state");
  }

  async #load() {
    const state = await get("/api/teacher/state");
    this.offset = state.time - Date.now() / 1000;
    this.course = state.course;
    this.rows = new Map(state.seats.map((/** @type {import("types").Row} */ row) => [row.id, row]));
    this.shares = new Map(state.shares.map((/** @type {import("types").Share} */ share) => [share.id, share]));
    this.#take(state);
    this.#tell("rows", null);
    this.#tell("shares");
    this.#tell("errors");
    return state.event;
  }

  // Loads the state, as soon as that is possible.
  async #reload() {
    for (;;) {
      try {
        return await this.#load();
      } catch (problem) {
        const known = problem instanceof Problem ? problem : new Problem(0);
        this.#tell("status", known.passes ? "waiting" : "closed", known.status);
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
  }
}
