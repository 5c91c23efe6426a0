// Grades hand-ins again whose tests have changed since.

import { send } from "../lib/api.js";
import { n } from "../lib/words.js";
import { attempt, note } from "./parts.js";

// [exercise, how many grades are by earlier tests], without those that are being graded already.
/** @param {import("./room.js").Room} room */
export function outdated(room) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const row of room.rows.values())
    for (const [id, { handed_in: handed }] of Object.entries(row.progress))
      if (handed?.is_outdated && !handed.is_due) counts.set(id, (counts.get(id) ?? 0) + 1);
  return [...counts];
}

/** @param {string} exercise */
export function gradeAgain(exercise) {
  return attempt(
    () => send("POST", "/api/teacher/grade-again", { exercise }, { timeout: 60_000 }),
    ({ count }) => note(n("{count} hand-in is graded again.", "{count} hand-ins are graded again.", count)),
  );
}
