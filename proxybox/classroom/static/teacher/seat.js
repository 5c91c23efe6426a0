// One seat, read-only: its current code and output, its tests, its versions, and the actions for it.

import { get, send } from "../lib/api.js";
import { ask, byId, make } from "../lib/dom.js";
import { endOf } from "../lib/ends.js";
import { Terminal } from "../lib/terminal.js";
import { n, number, t, when } from "../lib/words.js";
import { Code } from "./code.js";
import { gradeText, isDone, lasted, needs, needsText, progressOf } from "./help.js";
import { attempt, choices, field, formDialog, note, setText } from "./parts.js";

/** @import { Row, Watched } from "types" */
/** @import { Room } from "./room.js" */

const OUTPUT = new Set(["run", "out", "given", "display", "clear", "value", "finished"]);
const PAGE = Math.random().toString(36).slice(2); // distinguishes the tabs that share one stream
const REFRESH = 3_000; // ms until the list of versions is loaded after a save
const LOADS = 3; // how often a seat is loaded while its output changes at the same time

export class SeatView {
  // steps(seat): the seats before and after this one. close(): back to the overview.
  /**
   * @param {Room} room
   * @param {{steps: (seat: string) => (string | null)[], open: (seat: string) => void, close: () => void}} ways
   */
  constructor(room, { steps, open, close }) {
    this.room = room;
    this.steps = steps;
    this.open = open;
    /** @type {string | null} */
    this.id = null;
    /** @type {string | null} */
    this.opened = null; // the exercise that is shown
    this.version = 0;
    /** @type {Record<string, string>} */
    this.files = {};
    /** @type {import("types").Version[]} */
    this.listed = [];
    /** @type {import("types").HandedIn | null} */
    this.handedIn = null;
    this.kind = "";
    /** @type {number | null} */
    this.refreshing = null;
    /** @type {Watched[] | null} */
    this.loading = null; // events that arrive while the seat is loaded
    this.code = new Code(byId("seat-code"), { label: (name) => t("{file}, as it is now; read-only", { file: name }) });
    this.terminal = new Terminal(byId("seat-output"));
    this.exercise = byId("seat-exercise");
    this.versions = byId("seat-version");
    byId("seat-back").addEventListener("click", close);
    byId("seat-before").addEventListener("click", () => this.#step(0));
    byId("seat-after").addEventListener("click", () => this.#step(1));
    this.exercise.addEventListener("change", () => this.#load());
    this.versions.addEventListener("change", () => this.#showVersion());
    this.#actions();
    room.on("rows", (changed) => (changed === null || changed.has(this.id)) && this.#row());
    room.on("watched", (watched) => this.#watched(watched));
    room.on("stream", () => this.id !== null && this.#watch().then(() => this.#load()));
    addEventListener("pagehide", () => {
      if (this.id !== null && room.stream !== null) this.#tell(null, { keepalive: true }).catch(() => {});
    });
    addEventListener("pageshow", (event) => event.persisted && this.id !== null && this.#watch());
    setInterval(() => this.id !== null && this.#facts(), 1_000);
  }

  get row() {
    return this.id === null ? undefined : this.room.rows.get(this.id);
  }

  // Shows a seat; null: none.
  /** @param {string | null} id */
  async show(id) {
    if (id === this.id) return;
    this.id = id;
    this.loading = null;
    this.opened = null;
    this.exercise.value = "";
    this.versions.value = "";
    await this.#watch();
    if (id === null) return;
    this.terminal.reset();
    this.#row();
    await this.#load();
  }

  async #watch() {
    if (this.room.stream === null) return;
    await attempt(() => this.#tell(this.id));
  }

  /** @param {string | null} seat */
  #tell(seat, options = {}) {
    return send("POST", "/api/teacher/watch", { stream: this.room.stream, seat, page: PAGE }, options);
  }

  /** @param {0 | 1} which */
  #step(which) {
    const seat = this.id === null ? null : this.steps(this.id)[which];
    if (seat) this.open(seat);
  }

  // --- display ------------------------------------------------------------------------------------------------------

  /** @param {string} id @param {string | null} exercise */
  #path(id, exercise) {
    const query = exercise ? `?exercise=${encodeURIComponent(exercise)}` : "";
    return `/api/teacher/seats/${encodeURIComponent(id)}${query}`;
  }

  async #load() {
    const { id } = this;
    if (id === null) return;
    const exercise = this.exercise.value;
    for (let time = 0; time < LOADS; time += 1) {
      /** @type {Watched[]} */
      const held = [];
      this.loading = held;
      /** @type {import("types").SeatSeen[]} */
      const answers = [];
      const done = await attempt(
        () => get(this.#path(id, exercise)),
        (answer) => answers.push(answer),
      );
      if (this.loading !== held) return; // another load has begun in the meantime
      this.loading = null;
      if (id !== this.id) return;
      if (!done) return;
      this.#take(answers[0]);
      const again = held.some(({ event }) => OUTPUT.has(event));
      for (const each of held) if (!again || !OUTPUT.has(each.event)) this.#watched(each);
      if (!again) return;
    }
  }

  /** @param {import("types").SeatSeen} told */
  #take(told) {
    const fresh = this.opened !== told.exercise;
    this.opened = told.exercise;
    if (fresh) this.versions.value = "";
    this.version = told.version;
    this.handedIn = told.handed_in;
    this.files = told.files;
    this.listed = told.versions;
    if (fresh) this.code.open(told.files, told.file);
    if (fresh || this.versions.value === "") this.code.update(told.files);
    this.#listVersions();
    this.#results(told.results, told.handed_in);
    this.terminal.reset();
    setText(byId("seat-run"), "");
    for (const { event, data } of told.output) this.#output(event, data);
    this.#row();
  }

  #row() {
    const { row, room, id } = this;
    if (!row || id === null) return;
    setText(byId("seat-name"), row.name);
    const current = row.exercise ? t("Open now: {title}", { title: room.title(row.exercise) }) : t("Open now");
    const all = room.course.exercises.map(({ id: exercise, title }) => {
      const how = gradeText(row, exercise);
      return [exercise, how ? `${title} (${how})` : title];
    });
    choices(this.exercise, [["", current], ...all]);
    // The view follows the exercise that the student opens.
    if (this.exercise.value === "" && this.loading === null && row.exercise && this.opened !== row.exercise) this.#load();
    byId("seat-lower").hidden = !row.hand;
    byId("seat-share").disabled = !this.opened;
    setText(byId("seat-lock"), row.locked ? t("Unlock") : t("Lock"));
    setText(byId("seat-remove"), row.removed ? t("Restore") : t("Remove…"));
    const [before, after] = this.steps(id);
    byId("seat-before").disabled = !before;
    byId("seat-after").disabled = !after;
    this.#facts();
  }

  #facts() {
    const { row } = this;
    if (!row) return;
    const { now } = this.room;
    const why = needs(row, now);
    /** @type {(string[] | false | "" | null | 0)[]} */
    const possible = [
      row.removed && [t("Removed"), "bad"],
      row.locked && [t("Locked"), "bad"],
      row.hand && [t("Hand raised for {time}", { time: lasted(now - row.hand) }), "hand"],
      !row.online && [row.exercise ? t("Away") : t("Not here yet"), ""],
      row.running
        ? [t("Program runs"), "good"]
        : row.active && [t("Last change {time} ago", { time: lasted(now - row.active) }), ""],
      why && why !== "hand" && [needsText(why), "warn"],
      progressOf(row, this.opened).handed_in && [t("Handed in"), "good"],
      isDone(row, this.opened) && [t("All tests pass"), "good"],
      row.hints > 0 && [n("{count} hint used", "{count} hints used", row.hints), ""],
    ];
    const facts = possible.filter((fact) => Array.isArray(fact));
    const place = byId("seat-facts");
    const told = JSON.stringify(facts);
    if (place.dataset.told === told) return;
    place.dataset.told = told;
    place.replaceChildren(...facts.map(([text, kind]) => make("li", { class: `badge ${kind}`.trim(), text })));
  }

  #listVersions() {
    /** @type {Record<string, string>} */
    const why = {
      saved: t("saved"),
      run: t("run"),
      "handed in": t("handed in"),
      elsewhere: t("saved on another page"),
      starter: t("as it was given"),
    };
    const pairs = this.listed.map((each) => {
      const told = why[each.why] ?? each.why;
      return [String(each.version), each.at ? `${when(each.at)}, ${told}` : told];
    });
    choices(this.versions, [["", t("As it is now")], ...pairs]);
    this.#old();
  }

  #old() {
    const isOld = this.versions.value !== "";
    byId("seat-panes").classList.toggle("old", isOld);
    setText(byId("seat-live"), isOld ? t("An earlier version") : t("Live"));
  }

  async #showVersion() {
    const { id, opened, versions } = this;
    const { value } = versions;
    if (id === null || opened === null) return;
    this.#old();
    if (value === "") {
      this.code.update(this.files);
      return;
    }
    const path = `/api/teacher/seats/${encodeURIComponent(id)}/exercises/${encodeURIComponent(opened)}/versions/${value}`;
    await attempt(
      () => get(path),
      ({ files }) => this.versions.value === value && this.code.update(files),
    );
  }

  /** @param {import("types").Results | null} results @param {import("types").HandedIn | null} handedIn */
  #results(results, handedIn) {
    const place = byId("seat-tests");
    /** @type {HTMLElement[]} */
    const parts = handedIn ? handedParts(handedIn) : [];
    if (!results) parts.push(make("p", { class: "faint", text: t("The tests have not been run yet.") }));
    else {
      const passed = t("{passed} of {total} passed", { passed: results.passed, total: results.total });
      setText(byId("seat-passed"), handedIn ? t("Now: {results}", { results: passed }) : passed);
      if (results.is_outdated) parts.push(make("p", { class: "faint", text: t("The tests have changed since.") }));
      if (results.message) parts.push(make("p", { class: "message", text: results.message }));
      parts.push(make("ul", { class: "tests" }, ...results.tests.map(testOf)));
      if (results.hidden?.total) {
        const { passed, total } = results.hidden;
        parts.push(
          make("p", {
            class: "faint",
            text: t("Hidden tests: {passed} of {total} passed", { passed: number(passed), total: number(total) }),
          }),
        );
      }
    }
    if (!results) setText(byId("seat-passed"), "");
    place.replaceChildren(...parts);
  }

  // --- events -------------------------------------------------------------------------------------------------------

  /** @param {Watched} watched */
  #watched({ seat, event, data }) {
    if (seat !== this.id) return;
    if (this.loading !== null) {
      this.loading.push({ seat, event, data });
      return;
    }
    if (OUTPUT.has(event)) this.#output(event, data);
    else if (event === "text" && data.exercise === this.opened && data.version >= this.version) {
      this.version = data.version;
      this.files = data.files;
      if (this.versions.value === "") this.code.update(data.files);
      this.#refreshVersions();
    } else if (event === "checked" && data.exercise === this.opened) this.#results(data.results, this.handedIn);
    else if (event === "resync" || (event === "graded" && data.exercise === this.opened)) this.#load();
  }

  // The list of versions grows with each save; it is loaded from time to time, but not while the teacher chooses from
  // it.
  #refreshVersions() {
    this.refreshing ??= setTimeout(async () => {
      this.refreshing = null;
      const { id, opened, versions } = this;
      if (id === null) return;
      if (versions === document.activeElement) {
        this.#refreshVersions();
        return;
      }
      const told = await get(this.#path(id, opened)).catch(() => null); // the next save requests it again
      if (told === null || id !== this.id || opened !== this.opened) return;
      this.listed = told.versions;
      this.#listVersions();
    }, REFRESH);
  }

  /** @param {string} event @param {any} data */
  #output(event, data) {
    const { terminal } = this;
    if (event === "run") {
      this.kind = data.kind;
      if (data.kind === "check") return;
      if (data.kind === "run") terminal.reset();
      setText(byId("seat-run"), t("runs"));
    } else if (event === "out") terminal.write(data.stream, data.text);
    else if (event === "given") terminal.given(data.text);
    else if (event === "display") terminal.display(data.data, data.display_id, data.update);
    else if (event === "clear") terminal.clear(data.wait);
    else if (event === "value") terminal.value(data.text);
    else if (event === "finished" && data.kind !== "check") {
      if (data.error?.traceback) terminal.write("stderr", data.error.traceback);
      else if (data.error) terminal.write("stderr", `${data.error.type}: ${data.error.message}\n`);
      setText(byId("seat-run"), endOf(data));
    }
  }

  // --- actions ------------------------------------------------------------------------------------------------------

  /** @param {Partial<Omit<Row, "hand">> & {hand?: false}} changes */
  #change(changes, id = this.id) {
    return send("PATCH", `/api/teacher/seats/${encodeURIComponent(id ?? "")}`, changes).then((row) => this.room.put(row));
  }

  #actions() {
    /** @param {keyof import("types").Ids} id @param {(row: Row) => unknown} call */
    const on = (id, call) => byId(id).addEventListener("click", () => this.row && call(this.row));
    on("seat-lower", () => attempt(() => this.#change({ hand: false })));
    on("seat-rename", (row) => this.#rename(row));
    on("seat-personal", showPersonal);
    on("seat-share", () => this.#share());
    on("seat-lock", (row) => this.#lock(row));
    on("seat-remove", (row) => (row.removed ? restore(this.room, row.id) : this.#remove(row)));
  }

  /** @param {Row} row */
  #rename({ id, name }) {
    const input = make("input", { value: name, required: true, maxlength: 40, autocomplete: "off" });
    formDialog({
      title: t("Rename {name}", { name }),
      yes: t("Rename"),
      fields: [field(t("Name"), input)],
      doing: () => this.#change({ name: input.value }, id),
    });
    input.select();
  }

  #share() {
    const input = make("input", { value: this.room.title(this.opened), required: true, maxlength: 100, autocomplete: "off" });
    const about = make("p", {
      text: t(
        "All students see this code as it is now. They do not see whose it is. A name that is written in the code itself is not removed.",
      ),
    });
    const { id, opened } = this;
    formDialog({
      title: t("Share this code"),
      yes: t("Share with all"),
      fields: [about, field(t("Title"), input)],
      doing: () => send("POST", "/api/teacher/share", { seat: id, exercise: opened, title: input.value }),
    });
    input.select();
  }

  /** @param {Row} row */
  async #lock(row) {
    const { id } = row;
    const locked = !row.locked;
    const text = locked
      ? t("{name} is locked: nothing can be run.", { name: row.name })
      : t("{name} is unlocked.", { name: row.name });
    const undo = () => attempt(() => this.#change({ locked: !locked }, id));
    await attempt(
      () => this.#change({ locked }, id),
      () => note(text, { undo }),
    );
  }

  /** @param {Row} row */
  async #remove(row) {
    const { room } = this;
    const { id } = row;
    const about = make("p", { text: t("The student has to join again. All work is kept, and you can restore the seat.") });
    const sure = await ask({
      title: t("Remove {name}?", { name: row.name }),
      fields: [about],
      yes: t("Remove"),
      no: t("Cancel"),
      danger: true,
    });
    if (!sure) return;
    await attempt(
      () => this.#change({ removed: true }, id),
      () => {
        note(t("{name} is removed.", { name: row.name }), { undo: () => restore(room, id) });
      },
    );
  }
}

// The hand-in with its grade, which may differ from the test results of the current files.
/** @param {import("types").HandedIn} handed */
function handedParts(handed) {
  const time = when(handed.at);
  const head = handed.late ? t("Handed in {time}, late", { time }) : t("Handed in {time}", { time });
  /** @type {HTMLElement[]} */
  const parts = [make("p", { class: "handed", text: handed.score ? `${head}: ${passedOf(handed.score)}` : head })];
  if (handed.has_failed) parts.push(make("p", { class: "message", text: t("It could not be graded.") }));
  if (handed.earlier?.score)
    parts.push(make("p", { class: "faint", text: t("Graded again; before: {grade}", { grade: passedOf(handed.earlier.score) }) }));
  if (handed.is_due) parts.push(make("p", { class: "faint", text: t("It is being graded.") }));
  else if (handed.is_outdated) parts.push(make("p", { class: "faint", text: t("The tests have changed since.") }));
  if (handed.results?.tests.length)
    parts.push(
      make(
        "details",
        {},
        make("summary", { text: t("Tests of what was handed in") }),
        make("ul", { class: "tests" }, ...handed.results.tests.map(testOf)),
      ),
    );
  return parts;
}

/** @param {import("types").Score} score */
function passedOf({ passed, total, points, possible }) {
  const parts = [t("{passed} of {total} passed", { passed, total })];
  if (possible) parts.push(t("{points} of {possible} points", { points: number(points), possible: number(possible) }));
  return parts.join(" · ");
}

/** @param {import("types").TestResult} test */
function testOf(test) {
  const passed = test.status === "ok" || test.status === "passed";
  const details = [test.message, test.output].filter(Boolean).join("\n");
  const head = [
    make("span", { class: passed ? "badge good" : "badge bad", text: passed ? t("passed") : t("failed") }),
    make("span", { class: "test-name", text: test.name }),
  ];
  if (details === "") return make("li", {}, make("div", { class: "test" }, ...head));
  return make(
    "li",
    {},
    make(
      "details",
      { open: !passed },
      make("summary", { class: "test" }, ...head),
      make("pre", { text: details, tabindex: "0" }),
    ),
  );
}

// Shows the code by which a student comes back to this seat on another device.
/** @param {Row} row */
export function showPersonal(row) {
  ask({
    title: t("Personal code of {name}", { name: row.name }),
    yes: t("Close"),
    fields: [
      make("p", { text: t("With it the student takes this seat on another device. Show it to nobody else.") }),
      make("output", { class: "bigcode", text: row.personal }),
    ],
  });
}

// Gives a removed seat back.
/** @param {Room} room @param {string} id */
export function restore(room, id) {
  return attempt(
    () => send("PATCH", `/api/teacher/seats/${encodeURIComponent(id)}`, { removed: false }),
    (row) => {
      room.put(row);
      note(t("{name} has the seat again. The personal code leads to it: {code}", { name: row.name, code: row.personal }));
    },
  );
}
