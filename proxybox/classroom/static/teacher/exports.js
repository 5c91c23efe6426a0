// Downloads: grades in a format for a gradebook, all code, records of runs.

import { get } from "../lib/api.js";
import { byId } from "../lib/dom.js";
import { attempt, choices } from "./parts.js";
import { gradeAgain } from "./regrading.js";

export class Exports {
  /** @param {import("./room.js").Room} room */
  constructor(room) {
    this.exercise = byId("export-exercise");
    this.format = byId("export-format");
    this.room = room;
    for (const select of [this.exercise, this.format]) select.addEventListener("change", () => this.#link());
    byId("grade-again").addEventListener("click", () => gradeAgain(this.exercise.value));
    room.on("rows", () => {
      choices(
        this.exercise,
        room.course.exercises.map(({ id, title }) => [id, title]),
      );
      this.#link();
    });
  }

  // Requests the list of formats once.
  async show() {
    if (this.format.options.length > 0) return;
    await attempt(
      () => get("/api/teacher/formats"),
      ({ formats }) =>
        choices(
          this.format,
          formats.map((/** @type {{name: string, title: string}} */ { name, title }) => [name, title]),
        ),
    );
    this.#link();
  }

  #link() {
    const query = new URLSearchParams({ exercise: this.exercise.value, format: this.format.value });
    if (this.room.chosen !== null) query.set("class", this.room.chosen);
    byId("export-grades").href = `/api/teacher/export/grades?${query}`;
  }
}
