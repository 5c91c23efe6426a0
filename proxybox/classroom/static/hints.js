// The hints of an exercise: one at a time, each on request. The teacher sees how many were shown.

import { send } from "./lib/api.js";
import { announce, byId, make, setTrusted } from "./lib/dom.js";
import { number, t } from "./lib/words.js";
import { path } from "./exercises.js";
import { complain } from "./notices.js";
import { exercise as openExercise, on, page } from "./page.js";

/** @param {string} html */
function item(html) {
  const row = make("li", { class: "prose" });
  setTrusted(row, html, { top: 4 });
  return row;
}

function draw() {
  const { total, shown } = openExercise().hints;
  byId("hints").hidden = total === 0;
  byId("hints-list").replaceChildren(...shown.map(item));
  const button = byId("hint");
  button.hidden = shown.length >= total;
  button.textContent = t("Show a hint ({number} of {total})", {
    number: number(shown.length + 1),
    total: number(total),
  });
}

async function next() {
  const exercise = openExercise();
  const button = byId("hint");
  button.disabled = true;
  try {
    const told = await send("POST", `${path(exercise.id)}/hint`);
    if (told.number > exercise.hints.shown.length) exercise.hints.shown.push(told.html);
    exercise.hints.total = told.total;
    if (page.exercise !== exercise) return;
    draw();
    const row = byId("hints-list").lastElementChild;
    if (!(row instanceof HTMLElement)) return;
    row.scrollIntoView({ block: "nearest" });
    announce(row.textContent ?? "");
    if (button.hidden) {
      row.tabIndex = -1;
      row.focus();
    }
  } catch (problem) {
    complain(problem);
  } finally {
    button.disabled = false;
    if (!button.hidden) button.focus();
  }
}

export function start() {
  byId("hint").addEventListener("click", next);
  on("exercise", draw);
}
