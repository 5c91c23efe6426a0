// The student's page: it loads its state, starts its parts, and listens to the server.

import { Problem, send } from "./lib/api.js";
import { byId } from "./lib/dom.js";
import { Drafts } from "./lib/drafts.js";
import { subscribe } from "./lib/stream.js";
import { t } from "./lib/words.js";
import { Editor, nonce } from "./editor.js";
import * as exercises from "./exercises.js";
import * as files from "./files.js";
import * as hand from "./hand.js";
import * as hints from "./hints.js";
import * as versions from "./history.js";
import * as menu from "./menu.js";
import { complain, notice } from "./notices.js";
import { exercise as opened, on, page, tell } from "./page.js";
import * as prompt from "./prompt.js";
import * as run from "./run.js";
import * as shares from "./shares.js";
import * as split from "./split.js";
import * as status from "./status.js";
import * as tests from "./tests.js";

const PAUSE = 3_000; // ms before the page tries again to load itself

// Events of runs that came while an exercise was loaded.
/** @type {[string, any, string | null][]} */
const held = [];

// Whether the loaded output contains an event. Ids are "boot-number".
/** @param {string | null} id */
function isShown(id) {
  const [boot, number] = String(id).split("-");
  const [loadedBoot, loaded] = String(page.exercise?.event).split("-");
  return boot === loadedBoot && Number(number) <= Number(loaded);
}

/** @param {string} name @param {any} data @param {string | null} id */
function ofRun(name, data, id) {
  if (exercises.isLoading()) held.push([name, data, id]);
  else /** @type {Record<string, run.Handler>} */ (run.events)[name](data, isShown(id));
}

async function loadMe() {
  try {
    page.me = await exercises.answer("/api/me");
    return true;
  } catch (problem) {
    const known = problem instanceof Problem ? problem : null;
    if (known?.status === 401 || known?.status === 403) await gone();
    else status.draftState({ state: "unsent", problem: known, at: null });
    return false;
  }
}

// The seat was taken away: its data is removed from this browser.
async function gone() {
  if (page.me) await menu.forget();
  location.replace(`${document.body.dataset.home}?removed`);
}

function makeEditor() {
  page.editor = new Editor(byId("editor"), {
    nonce: nonce(),
    label: (name) => t("Code of {name}", { name }),
    describedBy: "editor-help",
    onChange: files.changed,
    onTooLong: (name) =>
      notice(t("{name} would become too long: a file may have 1,048,576 characters.", { name }), { kind: "bad" }),
    complete: ({ code, cursor }) =>
      send("POST", "/api/complete", { exercise: opened().id, code, cursor }, { timeout: 4_000 }).catch(() => null),
    // Runs before the editor's own keys, which use some of these for other commands.
    keys: [
      { key: "Mod-Enter", run: () => Boolean(run.run()) },
      { key: "Shift-Mod-Enter", run: () => Boolean(run.check()) },
    ].map((key) => ({ ...key, preventDefault: true, stopPropagation: true })),
  });
}

function makeDrafts() {
  page.drafts = new Drafts({
    seat: page.me.seat.id,
    send: files.put,
    onState: status.draftState,
    onSaved: (exercise, answer, sent) => {
      exercises.saved(exercise, answer, sent);
      if (answer.conflict) files.tellConflict(answer.conflict);
    },
  });
  const leave = () => page.drafts.leave();
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", () => document.hidden && leave());
  addEventListener("online", () => page.drafts.wake());
}

// Loads everything again, after a gap that the server cannot fill. Resolves to the last event that the state contains.
async function reload() {
  for (;;) {
    if (await loadMe()) break;
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  tell("me");
  await openExercise(page.exercise?.id);
  return page.me.event;
}

/** @param {string | null | undefined} id */
async function openExercise(id) {
  const { course, pushed, seat } = page.me;
  /** @param {string} wanted */
  const known = (wanted) => course.exercises.some((each) => each.id === wanted);
  const wanted = [id, seat.exercise, pushed, course.exercises.at(0)?.id].find((each) => each && known(each));
  if (wanted) await exercises.open(wanted);
}

/** @type {import("types").Handlers} */
const handlers = {
  ...Object.fromEntries(
    Object.keys(run.events).map((name) => [
      name,
      /** @type {import("types").Handlers[import("types").EventName]} */ ((data, { id }) => ofRun(name, data, id)),
    ]),
  ),
  ...tests.events,
  ...shares.events,
  saved: files.savedElsewhere,
  push({ exercise }) {
    page.me.pushed = exercise;
    tell("me");
    if (exercise === null || exercise === page.exercise?.id) return;
    const before = page.exercise;
    exercises.open(exercise, { focus: true }).then((isOpen) => {
      if (!isOpen) return;
      const back = before !== null && {
        text: t("Back to {title}", { title: before.title }),
        run: () => exercises.open(before.id, { focus: true }),
      };
      notice(t("Your teacher has opened: {title}", { title: opened().title }), { action: back || null });
    });
  },
  // Exercises were corrected: unsaved text stays.
  async course({ changed }) {
    if (!(await loadMe())) return;
    tell("me");
    if (page.exercise !== null && changed.includes(page.exercise.id)) await openExercise(page.exercise.id);
  },
  freeze({ frozen }) {
    page.me.frozen = frozen;
    tell("me");
  },
  seat(seat) {
    page.me.seat = { ...page.me.seat, ...seat, exercise: page.me.seat.exercise };
    tell("me");
  },
  removed: gone,
  resync: reload,
};

function listen() {
  subscribe(`/api/events?seat=${encodeURIComponent(page.me.seat.id)}`, handlers, {
    since: page.me.event,
    onStatus(state, answer) {
      page.isConnected = state === "open";
      tell("connection");
      if (state === "closed" && (answer === 401 || answer === 403)) gone();
    },
  });
}

// The page's files are stored for loading it without a connection, if the browser allows that.
async function keepShell() {
  if (!isSecureContext || !("serviceWorker" in navigator) || document.body.dataset.home !== "/") return;
  try {
    await navigator.serviceWorker.register("/sw.js");
    const { active } = await navigator.serviceWorker.ready;
    const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
    active?.postMessage({ keep: ["/", "/static/stream-worker.js", ...loaded] });
  } catch {
    // the browser refuses a service worker
  }
}

async function start() {
  while (!(await loadMe())) await new Promise((resolve) => setTimeout(resolve, PAUSE));
  makeDrafts();
  makeEditor();
  on("loaded", () => held.splice(0).forEach((event) => ofRun(...event)));
  for (const part of [status, exercises, files, run, prompt, tests, hints, versions, hand, shares, menu, split])
    part.start();
  await page.drafts.recover();
  tell("me");
  await openExercise(document.body.dataset.exercise);
  listen();
  document.body.classList.add("ready");
  keepShell();
}

start().catch((problem) => {
  complain(problem);
  throw problem;
});
