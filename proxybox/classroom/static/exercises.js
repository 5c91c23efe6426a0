// The list of exercises with the student's progress, and the text of the open exercise.

import { Problem, get, send } from "./lib/api.js";
import { announce, byId, make, setTrusted, tabs } from "./lib/dom.js";
import * as local from "./lib/local.js";
import { number, t, when } from "./lib/words.js";
import { complain } from "./notices.js";
import { exercise as opened, on, page, tell } from "./page.js";

/** @type {(panel: string) => void} */
let showTab = () => {};
let asked = 0;
let loading = 0;

// Whether an exercise is being loaded: events of its run wait for "loaded".
export function isLoading() {
  return loading > 0;
}

// The server's answer; the stored one if the server cannot be reached.
/** @param {string} path @returns {Promise<any>} */
export async function answer(path) {
  const seat = page.me?.seat.id ?? "";
  try {
    const told = await get(path);
    await local.keep("answers", { key: path, seat: path === "/api/me" ? told.seat.id : seat, told });
    return told;
  } catch (problem) {
    if (!(problem instanceof Problem && problem.passes)) throw problem;
    const kept = await local.read("answers", path);
    if (kept === undefined || (seat && kept.seat !== seat)) throw problem;
    return kept.told;
  }
}

// Opens an exercise. The changes of the one before are sent independently. An exercise that is open already is loaded
// again, and unsaved text stays.
/** @param {string} id */
export async function open(id, { focus = false } = {}) {
  const turn = (asked += 1);
  loading += 1;
  try {
    return await load(id, turn, focus);
  } finally {
    loading -= 1;
    if (loading === 0) tell("loaded");
  }
}

/** @param {string} id @param {number} turn @param {boolean} focus */
async function load(id, turn, focus) {
  /** @type {import("types").Exercise} */
  let exercise;
  try {
    // An answer may be older than a save in the meantime: then it is requested again.
    exercise = await answer(path(id));
    for (let tries = 1; tries < 3 && exercise.version < page.drafts.base(id); tries += 1) exercise = await answer(path(id));
  } catch (problem) {
    complain(problem);
    return false;
  }
  if (turn !== asked) return false; // another exercise was chosen in the meantime
  const again = page.exercise?.id === id;
  const isBehind = exercise.version < page.drafts.base(id);
  page.exercise = exercise;
  page.me.seat.exercise = id;
  if (isBehind) page.drafts.setBase(id, exercise.version);
  else page.drafts.learnBase(id, exercise.version);
  tell("exercise", { focus, again, isBehind });
  send("POST", "/api/open", { exercise: id }).catch(() => {});
  return true;
}

// Stores saved files, for loading without a connection.
/** @param {string} id @param {{version: number}} answer @param {import("./lib/drafts.js").Files} files */
export async function saved(id, { version }, files) {
  const kept = await local.read("answers", path(id));
  if (kept === undefined || kept.seat !== page.me.seat.id || kept.told.version > version) return;
  kept.told.version = version;
  for (const [name, text] of Object.entries(files)) {
    if (text === null) delete kept.told.files[name];
    else kept.told.files[name] = text;
  }
  await local.keep("answers", kept);
}

export function path(id = opened().id) {
  return `/api/exercises/${encodeURIComponent(id)}`;
}

/** @param {{focus: boolean, again: boolean}} how */
function drawText({ focus, again }) {
  const exercise = opened();
  byId("title").textContent = exercise.title;
  document.title = `${exercise.title} · ${page.me.course.title}`;
  setTrusted(byId("text"), exercise.text_html);
  if (!again) byId("text-panel").scrollTop = 0;
  drawFacts();
  if (focus) {
    showTab("text-panel");
    announce(t("Exercise: {title}", { title: exercise.title }));
  }
}

function drawFacts() {
  const exercise = opened();
  const facts = [];
  if (exercise.handed_in) facts.push(t("Handed in {time}", { time: when(exercise.handed_in.at) }));
  if (exercise.deadline) facts.push(t("Due {time}", { time: when(exercise.deadline) }));
  if (exercise.others?.length)
    facts.push(t("Also there for your program: {names}", { names: exercise.others.join(", ") }));
  byId("facts").textContent = facts.join(" · ");
  byId("facts").hidden = facts.length === 0;
}

// Tests that have passed, of all tests.
/** @param {{passed: number, total: number}} score */
function ofAll({ passed, total }) {
  return `${number(passed)}/${number(total)}`;
}

function drawList() {
  const { course, pushed } = page.me;
  const open_ = page.exercise?.id;
  const rows = course.exercises.map((each) => {
    const facts = [];
    const { now, handed_in: handed } = each;
    const done = handed?.score ?? now;
    if (handed) facts.push(handed.score ? t("handed in: {grade}", { grade: ofAll(handed.score) }) : t("handed in"));
    if (now && handed) facts.push(t("now {grade}", { grade: ofAll(now) }));
    else if (now) facts.push(t("{passed} of {total} tests", { passed: number(now.passed), total: number(now.total) }));
    if (each.deadline) facts.push(t("due {time}", { time: when(each.deadline) }));
    if (each.id === pushed) facts.push(t("chosen by the teacher"));
    const state = handed || (done && done.total > 0 && done.passed === done.total) ? "done" : done?.passed ? "begun" : "new";
    return make(
      "li",
      {},
      make(
        "button",
        {
          type: "button",
          class: `exercise ${state}`,
          "aria-current": each.id === open_ && "true",
          on: { click: () => open(each.id, { focus: true }) },
        },
        make("span", { class: "ring", "aria-hidden": "true" }),
        make("span", { class: "name", text: each.title }),
        make("span", { class: "facts", text: facts.join(" · ") }),
      ),
    );
  });
  byId("exercises").replaceChildren(...rows);
  byId("course").textContent = course.title;
  const at = course.exercises.findIndex((each) => each.id === open_);
  byId("previous").disabled = at <= 0;
  byId("next").disabled = at < 0 || at >= course.exercises.length - 1;
}

/** @param {number} by */
function step(by) {
  const { exercises } = page.me.course;
  const to = exercises[exercises.findIndex((each) => each.id === opened().id) + by];
  if (to) open(to.id, { focus: true });
}

// Updates one exercise in the list.
/** @param {string} id @param {Partial<import("types").Listed>} facts */
function know(id, facts) {
  const row = page.me.course.exercises.find((each) => each.id === id);
  if (row) Object.assign(row, facts);
  drawList();
}

export function start() {
  showTab = tabs(/** @type {HTMLElement} */ (document.querySelector(".guide .tabs")));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  on("exercise", drawText);
  on("exercise", drawList);
  on("me", () => {
    drawList();
    const html = page.me.course.syllabus_html;
    byId("syllabus").hidden = !html;
    setTrusted(byId("syllabus-text"), html ?? "");
  });
  on("results", ({ exercise, results }) => know(exercise, { now: results }));
  on("handed-in", ({ exercise, handed_in }) => {
    know(exercise, { handed_in });
    if (page.exercise?.id !== exercise) return;
    opened().handed_in = handed_in;
    drawFacts();
  });
}
