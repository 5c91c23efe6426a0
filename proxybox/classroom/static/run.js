// Runs: the program, its tests, or a statement of the prompt. One at a time; its events come by the stream.

import { Problem, send } from "./lib/api.js";
import { announce, byId, make, tabs } from "./lib/dom.js";
import { endOf } from "./lib/ends.js";
import * as local from "./lib/local.js";
import { Terminal } from "./lib/terminal.js";
import { number, t } from "./lib/words.js";
import { path } from "./exercises.js";
import { InputLine } from "./inputline.js";
import { complain, notice } from "./notices.js";
import { exercise, isHeld, on, page } from "./page.js";

/** @typedef {{terminal: Terminal, input: InputLine}} Place where a kind of run shows its output, and takes its input */
/** @import { RunKind as Kind } from "types" */
/**
 * asked: this page began it.
 * @typedef {{run: string | null, kind: Kind, exercise: string, stops: number, asked: boolean, at: number}} Current
 */

const places = /** @type {{run: Place, repl: Place}} */ ({}); // set by start()
/** @type {Current | null} */
let current = null;
/** @type {number | undefined} */
let ticking;
let typedAt = 0;

/** @type {(panel: string) => void} */
export let showResult = () => {}; // shows the panel with an id: "output-panel", "prompt-panel", "tests-panel"

export function isBusy() {
  return current !== null;
}

/** @param {Kind} kind */
function place(kind) {
  return kind === "repl" ? places.repl : places.run;
}

function draw() {
  const held = isHeld() || page.exercise === null;
  byId("run").disabled = byId("check").disabled = held || isBusy();
  byId("hand-in").disabled = held;
  byId("stop").disabled = !isBusy();
  /** @type {HTMLButtonElement} */ (byId("prompt").querySelector("button")).disabled = held || isBusy();
  document.body.classList.toggle("running", isBusy());
  let text = "";
  if (current !== null) {
    const seconds = Math.floor((Date.now() - current.at) / 1000);
    if (current.stops > 0) text = t("Stopping …");
    else if (current.kind === "check") text = t("Testing …");
    else text = t("Running …");
    if (seconds > 1) text += ` ${t("{seconds} s", { seconds: number(seconds) })}`;
  }
  byId("activity").textContent = text;
}

// since: when it began, by this browser's clock.
/** @param {{run: string | null, kind: Kind, exercise: string, asked?: boolean}} what */
function begin({ run: id, kind, exercise, asked = false }, since = Date.now()) {
  current = { run: id, kind, exercise, asked, stops: 0, at: since };
  clearInterval(ticking);
  ticking = setInterval(draw, 1000);
  draw();
}

function end() {
  current = null;
  clearInterval(ticking);
  draw();
}

// Sends the unsent changes, then begins a run. request: sends the request, and resolves to its answer.
/** @param {Kind} kind @param {(exercise: string) => Promise<{run: string, version?: number}>} request */
async function ask(kind, request) {
  if (isBusy()) {
    notice(t("Something runs already. Stop it first."));
    return false;
  }
  if (isHeld()) return false;
  const { id } = exercise();
  begin({ run: null, kind, exercise: id, asked: true });
  try {
    await page.drafts.flush(id);
    const told = await request(id);
    if (current?.run === null) current.run = told.run;
    else if (current === null && !ended.has(told.run)) begin({ run: told.run, kind, exercise: id, asked: true });
    if (told.version) page.drafts.learnBase(id, told.version);
    return true;
  } catch (problem) {
    if (current?.run === null) end();
    if (problem instanceof Problem && problem.status === 0)
      notice(t("Not connected: your program can run when the connection is back. Your code is kept."), { kind: "bad" });
    else complain(problem);
    return false;
  }
}

// The fields of a save in a request, without files: all changes were sent before.
export function body() {
  const { id } = exercise();
  return { client: page.drafts.client, base: page.drafts.base(id), save: local.newId(), files: {} };
}

export function run() {
  showResult("output-panel");
  return ask("run", (id) => send("POST", `${path(id)}/run`, body()));
}

export function check() {
  showResult("tests-panel");
  return ask("check", (id) => send("POST", `${path(id)}/check`, body()));
}

/** @param {string} code */
export function statement(code) {
  return ask("repl", (exercise) => send("POST", "/api/repl", { code, exercise }));
}

export async function stop() {
  if (!current?.run) return;
  current.stops += 1;
  draw();
  if (current.stops > 1) announce(t("The program is ended."));
  await send("POST", "/api/stop", { run: current.run }).catch(
    (problem) => problem.status !== 404 && complain(problem),
  );
}

// --- events ---------------------------------------------------------------------------------------------------------

/** @type {Set<string>} */
const ended = new Set(); // the latest runs that have ended

// isShown: the loaded output contains the event already; it only changes whether something runs.
/** @typedef {(told: any, isShown: boolean) => void} Handler */

/** @satisfies {Record<string, Handler>} */
export const events = {
  /** @param {import("types").RunBegun} told @param {boolean} isShown */
  run(told, isShown) {
    page.me.run = told;
    if (current?.run === null && current.kind === told.kind) current.run = told.run;
    else if (current?.run !== told.run) begin(told);
    if (isShown || told.exercise !== page.exercise?.id) return;
    if (told.kind === "run") {
      places.run.terminal.reset();
      byId("output-empty").hidden = true;
      page.editor.clearMarks();
    }
    if (told.kind !== "check") shown = told;
  },
  /** @param {{run: string, stream: string, text: string}} told @param {boolean} isShown */
  out: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.write(told.stream, told.text)),
  /** @param {{run: string, text: string}} told @param {boolean} isShown */
  given: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.given(told.text)),
  /** @param {{run: string, text: string}} told @param {boolean} isShown */
  value: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.value(told.text)),
  /**
   * @param {{run: string, data: Record<string, string>, display_id?: string | null, update?: boolean}} told
   * @param {boolean} isShown
   */
  display: (told, isShown) =>
    of(told, isShown, ({ terminal }) => terminal.display(told.data, told.display_id, told.update)),
  /** @param {{run: string, wait: boolean}} told @param {boolean} isShown */
  clear: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.clear(told.wait)),
  /** @param {{run: string}} told @param {boolean} isShown */
  input: (told, isShown) =>
    of(told, isShown, ({ input }) => {
      if (!replaying && current?.run !== told.run) return;
      showResult(shown?.kind === "repl" ? "prompt-panel" : "output-panel");
      input.open(told.run, {
        focus: !replaying && current !== null && current.asked && typedAt < current.at && !document.querySelector("dialog[open]"),
      });
    }),
  /** @param {import("types").Finished} told @param {boolean} isShown */
  finished(told, isShown) {
    page.me.run = null;
    ended.add(told.run);
    const [oldest] = ended;
    if (ended.size > 100) ended.delete(oldest);
    const mine = current !== null && (current.run === told.run || (current.run === null && current.kind === told.kind));
    const asked = mine && current !== null && current.asked;
    if (mine) end();
    if (told.kind === "check" && ["cancelled", "overloaded", "internal_error", "crashed"].includes(told.status)) {
      notice(endOf(told));
    }
    if (isShown || told.kind === "check" || shown?.run !== told.run) return;
    const { terminal, input } = place(told.kind);
    if (input.close()) (told.kind === "repl" ? byId("prompt-text") : page.editor).focus();
    finish(told, terminal, asked);
  },
};

/** @type {import("types").RunBegun | null} */
let shown = null; // the run whose output is shown: {run, kind, exercise}
let replaying = false;

// Calls `work` with the place of a run if its output is shown.
/** @param {{run: string}} told @param {boolean} isShown @param {(place: Place) => void} work */
function of(told, isShown, work) {
  if (!isShown && shown !== null && shown.run === told.run) work(place(shown.kind));
}

/** @param {import("types").Finished} told @param {Terminal} terminal @param {boolean} asked */
function finish(told, terminal, asked) {
  const { status, error, hint, truncated, kind, seconds } = told;
  const isGood = status === "ok";
  const isStopped = status === "cancelled";
  const isInterrupted = status === "time_limit" || status === "call_limit"; // its error is the interrupt
  const line = told.loop ?? told.line ?? error?.line;
  const what = error && !isInterrupted ? (error.message ? `${error.type}: ${error.message}` : error.type) : endOf(told);
  const lines = [];
  if (truncated) lines.push(make("p", { text: t("The output was too long: the rest was left out.") }));
  if (isStopped) lines.push(make("p", { class: "quiet", text: t("Stopped.") }));
  else if (!isGood) {
    const where = line
      ? make("button", {
          type: "button",
          class: "link",
          text: t("Line {line}", { line: number(line) }),
          on: { click: () => goTo(line) },
        })
      : null;
    lines.push(make("p", { class: "error-line" }, make("strong", { text: what }), where ? " " : null, where));
  }
  if (error?.traceback && !isStopped) {
    lines.push(
      make(
        "details",
        {},
        make("summary", { text: t("Where it happened") }),
        make("pre", { class: "code", text: error.traceback }),
      ),
    );
  }
  if (hint && !isInterrupted)
    for (const text of hint.split("\n")) if (text !== what) lines.push(make("p", { class: "hint", text }));
  if (kind === "run" && isGood)
    lines.push(make("p", { class: "quiet", text: t("Finished after {seconds} s.", { seconds: number(seconds) }) }));
  if (lines.length > 0) terminal.add(make("div", { class: `end ${isGood || isStopped ? "good" : "bad"}` }, ...lines));
  if (kind === "run" && line && !isGood && !isStopped) page.editor.mark(exercise().file, line, what);
  if (!asked) return;
  const said = isGood || isStopped || !line ? what : `${what}, ${t("Line {line}", { line: number(line) })}`;
  announce(`${said} ${terminal.spoken}`);
}

/** @param {number} line */
function goTo(line) {
  page.editor.goTo(exercise().file, line);
}

// Shows the output of the last run of the opened exercise.
function replay() {
  const { run: place_, repl } = places;
  for (const each of [place_, repl]) {
    each.terminal.reset();
    each.input.close();
  }
  shown = null;
  const told = exercise().output ?? [];
  byId("output-empty").hidden = told.some((each) => each.data.kind === "run");
  replaying = true;
  try {
    /** @type {{run: string} | null} */
    let asks = null;
    for (const { event, data } of told) {
      if (event === "run") {
        shown = data;
        if (data.kind === "run") byId("output-empty").hidden = true;
      } else if (event === "input") asks = data;
      else {
        if (event === "out" || event === "given" || event === "finished") asks = null;
        if (event !== "finished") /** @type {Record<string, Handler>} */ (events)[event]?.(data, false);
        else finish(data, place(data.kind).terminal, false);
      }
    }
    if (asks !== null && current?.run === asks.run) events.input(asks, false);
  } finally {
    replaying = false;
  }
}

export function start() {
  const [output, prompted] = [new Terminal(byId("output")), new Terminal(byId("prompt-output"))];
  places.run = { terminal: output, input: new InputLine("input", output) };
  places.repl = { terminal: prompted, input: new InputLine("prompt-input", prompted) };
  showResult = tabs(/** @type {HTMLElement} */ (document.querySelector(".result .tabs")));
  byId("run").addEventListener("click", run);
  byId("check").addEventListener("click", check);
  byId("stop").addEventListener("click", stop);
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter") (event.shiftKey ? check : run)();
    else if (event.key === ".") stop();
    else return;
    event.preventDefault();
  });
  byId("editor").addEventListener("keydown", (event) => {
    if (event.key.length === 1 && !event.ctrlKey && !event.metaKey) typedAt = Date.now();
  });
  on("access", draw);
  on("exercise", () => {
    replay();
    draw();
  });
  on("me", () => {
    const { run: now } = page.me;
    if (now !== null && current?.run !== now.run) begin(now, Date.now() - 1000 * (page.me.time - now.at));
    else if (now === null && current !== null && current.run !== null) end();
  });
  draw();
}

export function terminalOfPrompt() {
  return places.repl.terminal;
}
