// How far each seat has come with each exercise: one table.

import { make } from "../lib/dom.js";
import { n, t, when } from "../lib/words.js";
import { gradeText, isDone, ofAll, progressOf } from "./help.js";
import { setText } from "./parts.js";

/** @import { Room } from "./room.js" */
/** @import { Listed, Row } from "types" */

const PAUSE = 1_000; // ms between two checks for changes

export class Progress {
  // table: an empty one. open(seat id, exercise id | null).
  /** @param {Room} room @param {HTMLTableElement} table @param {(seat: string) => void} open */
  constructor(room, table, open) {
    this.room = room;
    this.table = table;
    this.open = open;
    this.layout = "";
    /** @type {HTMLElement[]} */
    this.sums = [];
    /** @type {Map<string, HTMLElement>} */
    this.cells = new Map();
    this.names = new Intl.Collator(document.documentElement.lang || "en", { numeric: true });
    /** @type {number | null} */
    this.timer = null;
    room.on("rows", () => {
      if (!table.closest("[hidden]")) this.timer ??= setTimeout(() => this.show(), PAUSE);
    });
  }

  show() {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { exercises } = this.room.course;
    const rows = this.room.seats.sort((a, b) => this.names.compare(a.name, b.name));
    const layout = JSON.stringify([exercises.map(({ id }) => id), rows.map(({ id, name }) => [id, name])]);
    if (layout !== this.layout) this.#build(exercises, rows);
    this.layout = layout;
    for (const row of rows) for (const { id } of exercises) this.#cell(row, id);
    this.#sums(exercises, rows);
  }

  /** @param {Listed[]} exercises @param {Row[]} rows */
  #build(exercises, rows) {
    this.cells.clear();
    const head = make(
      "tr",
      {},
      make("th", { scope: "col", text: t("Name") }),
      ...exercises.map(({ title }) => make("th", { scope: "col", text: title })),
    );
    const body = rows.map((row) =>
      make(
        "tr",
        {},
        make(
          "th",
          { scope: "row" },
          make("button", { type: "button", class: "link", text: row.name, on: { click: () => this.open(row.id) } }),
        ),
        ...exercises.map(({ id }) => {
          const cell = make("td");
          this.cells.set(`${row.id} ${id}`, cell);
          return cell;
        }),
      ),
    );
    this.sums = exercises.map(() => make("td"));
    const foot = make("tr", {}, make("th", { scope: "row", text: t("All tests pass") }), ...this.sums);
    this.table.replaceChildren(
      make("caption", { class: "hidden", text: t("Tests passed, by student and exercise") }),
      make("thead", {}, head),
      make("tbody", {}, ...body),
      make("tfoot", {}, foot),
    );
  }

  /** @param {Row} row @param {string} exercise */
  #cell(row, exercise) {
    const cell = this.cells.get(`${row.id} ${exercise}`);
    if (cell === undefined) return;
    const { handed_in: handed } = progressOf(row, exercise);
    const text = gradeText(row, exercise);
    setText(cell, text || "–");
    cell.title = handed ? about(handed) : "";
    cell.className = text === "" ? "none" : isDone(row, exercise) ? "done" : "part";
    cell.classList.toggle("outdated", Boolean(handed?.is_outdated));
  }

  /** @param {Listed[]} exercises @param {Row[]} rows */
  #sums(exercises, rows) {
    exercises.forEach(({ id }, index) => {
      const done = rows.filter((row) => isDone(row, id)).length;
      setText(this.sums[index], n("{count} student", "{count} students", done));
    });
  }
}

// Further facts about a hand-in.
/** @param {import("types").Mark} handed */
function about(handed) {
  const facts = [handed.late ? t("Handed in {time}, late", { time: when(handed.at) }) : t("Handed in {time}", { time: when(handed.at) })];
  if (handed.has_failed) facts.push(t("It could not be graded."));
  if (handed.earlier?.score) facts.push(t("Graded again; before: {grade}", { grade: ofAll(handed.earlier.score) }));
  if (handed.is_due) facts.push(t("It is being graded."));
  else if (handed.is_outdated) facts.push(t("The tests have changed since."));
  return facts.join("\n");
}
