// Opens an exercise on everybody's screen.

import { send } from "../lib/api.js";
import { make } from "../lib/dom.js";
import { t } from "../lib/words.js";
import { attempt, field, formDialog } from "./parts.js";

/** @param {import("./room.js").Room} room @param {HTMLElement} control */
export function pushing(room, control) {
  control.addEventListener("click", () => {
    const select = make(
      "select",
      { required: true },
      ...room.course.exercises.map(({ id, title }) => make("option", { value: id, text: title })),
    );
    select.value = room.pushed ?? next(room);
    const about = make("p", {
      text: t(
        "It opens on the page of every student, now and when somebody joins, until you stop it. What they have written elsewhere is kept.",
      ),
    });
    formDialog({
      title: t("Push an exercise to all"),
      yes: t("Push to all"),
      fields: [about, field(t("Exercise"), select)],
      doing: () => push(select.value),
    });
  });
}

// The exercise that most seats have open.
/** @param {import("./room.js").Room} room */
function next(room) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { exercise } of room.seats) if (exercise) counts.set(exercise, (counts.get(exercise) ?? 0) + 1);
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  return most?.[0] ?? room.course.exercises[0]?.id ?? "";
}

/** @param {string | null} exercise */
function push(exercise) {
  return send("POST", "/api/teacher/push", { exercise });
}

export function stopPushing() {
  return attempt(() => push(null));
}
