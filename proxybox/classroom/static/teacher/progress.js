// How far each seat has come with each exercise: one table.

import { make } from "../lib/dom.js";
import { n, t } from "../lib/words.js";
import { setText } from "./parts.js";

const PAUSE = 1_000; // ms between two looks at what has changed

export class Progress {
  // table: an empty one. open(seat id, exercise id | null).
  constructor(room, table, open) {
    Object.assign(this, { room, table, open });
    this.cells = new Map();
    this.names = new Intl.Collator(document.documentElement.lang || "en", { numeric: true });
    this.timer = null;
    room.on("rows", () => {
      if (!table.closest("[hidden]")) this.timer ??= setTimeout(() => this.show(), PAUSE);
    });
  }

  show() {
    clearTimeout(this.timer);
    this.timer = null;
    const { exercises } = this.room.course;
    const rows = this.room.seats.sort((a, b) => this.names.compare(a.name, b.name));
    const layout = JSON.stringify([exercises.map(({ id }) => id), rows.map(({ id, name }) => [id, name])]);
    if (layout !== this.layout) this.#build(exercises, rows);
    this.layout = layout;
    for (const row of rows) for (const { id } of exercises) this.#cell(row, id);
    this.#sums(exercises, rows);
  }

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

  #cell(row, exercise) {
    const cell = this.cells.get(`${row.id} ${exercise}`);
    const [passed, total] = row.progress[exercise] ?? [0, 0];
    const handed = row.handed_in.includes(exercise);
    setText(cell, total ? (handed ? `${passed}/${total} ${t("in")}` : `${passed}/${total}`) : handed ? t("in") : "–");
    cell.title = handed ? t("Handed in") : "";
    cell.className = total === 0 && !handed ? "none" : total && passed >= total ? "done" : "part";
  }

  #sums(exercises, rows) {
    exercises.forEach(({ id }, index) => {
      const done = rows.filter((row) => row.progress[id]?.[1] && row.progress[id][0] >= row.progress[id][1]).length;
      setText(this.sums[index], n("{count} student", "{count} students", done));
    });
  }
}
