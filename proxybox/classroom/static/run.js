// What runs: the program, its tests, or a statement of the prompt. One thing at a time; its events come by the stream.

import { send } from "./lib/api.js";
import { announce, byId, make, tabs } from "./lib/dom.js";
import { endOf } from "./lib/ends.js";
import * as local from "./lib/local.js";
import { Terminal } from "./lib/terminal.js";
import { number, t } from "./lib/words.js";
import { path } from "./exercises.js";
import { InputLine } from "./inputline.js";
import { complain, notice } from "./notices.js";
import { isHeld, on, page } from "./page.js";

const places = {}; // kind of run -> {terminal, input}
let current = null; // {run: id | null, kind, exercise, stops, asked: this page began it, at}
let ticking = null;
let typedAt = 0;

export let showResult = null; // shows the panel of an id: "output-panel", "prompt-panel", "tests-panel"

export function isBusy() {
  return current !== null;
}

function place(kind) {
  return kind === "repl" ? places.repl : places.run;
}

function draw() {
  const held = isHeld() || page.exercise === null;
  for (const id of ["run", "check"]) byId(id).disabled = held || isBusy();
  byId("hand-in").disabled = held;
  byId("stop").disabled = !isBusy();
  byId("prompt").querySelector("button").disabled = held || isBusy();
  document.body.classList.toggle("running", isBusy());
  let text = "";
  if (isBusy()) {
    const seconds = Math.floor((Date.now() - current.at) / 1000);
    if (current.stops > 0) text = t("Stopping …");
    else if (current.kind === "check") text = t("Testing …");
    else text = t("Running …");
    if (seconds > 1) text += ` ${t("{seconds} s", { seconds: number(seconds) })}`;
  }
  byId("activity").textContent = text;
}

// since: when it began, by this browser's clock.
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

// Sends what was typed, then has it run. `body` is sent besides what every request of this kind has.
async function ask(kind, request) {
  if (isBusy()) {
    notice(t("Something runs already. Stop it first."));
    return false;
  }
  if (isHeld()) return false;
  const { id } = page.exercise;
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
    if (problem.status === 0)
      notice(t("Not connected: your program can run when the connection is back. Your code is kept."), { kind: "bad" });
    else complain(problem);
    return false;
  }
}

// The part of a request that saves; all was sent before.
export function body() {
  const { id } = page.exercise;
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

export function statement(code) {
  return ask("repl", (exercise) => send("POST", "/api/repl", { code, exercise }));
}

export async function stop() {
  if (!current?.run) return;
  current.stops += 1;
  draw();
  if (current.stops > 1) announce(t("The program is ended."));
  await send("POST", "/api/stop", { run: current.run }).catch((problem) => problem.status !== 404 && complain(problem));
}

// --- events ---------------------------------------------------------------------------------------------------------

const ended = new Set(); // runs that have ended, the latest ones

// isShown: what was loaded contains the event already; it says only whether something runs.
export const events = {
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
  out: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.write(told.stream, told.text)),
  given: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.given(told.text)),
  value: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.value(told.text)),
  display: (told, isShown) =>
    of(told, isShown, ({ terminal }) => terminal.display(told.data, told.display_id, told.update)),
  clear: (told, isShown) => of(told, isShown, ({ terminal }) => terminal.clear(told.wait)),
  input: (told, isShown) =>
    of(told, isShown, ({ input }) => {
      if (!replaying && current?.run !== told.run) return;
      showResult(shown.kind === "repl" ? "prompt-panel" : "output-panel");
      input.open(told.run, {
        focus: !replaying && current.asked && typedAt < current.at && !document.querySelector("dialog[open]"),
      });
    }),
  finished(told, isShown) {
    page.me.run = null;
    ended.add(told.run);
    if (ended.size > 100) ended.delete(ended.values().next().value);
    const mine = current !== null && (current.run === told.run || (current.run === null && current.kind === told.kind));
    const asked = mine && current.asked;
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

let shown = null; // the run whose output is shown: {run, kind, exercise}
let replaying = false;

// Does something with the place of a run, where that is what is shown.
function of(told, isShown, work) {
  if (!isShown && shown?.run === told.run) work(place(shown.kind));
}

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
  if (kind === "run" && line && !isGood && !isStopped) page.editor.mark(page.exercise.file, line, what);
  if (!asked) return;
  const said = isGood || isStopped || !line ? what : `${what}, ${t("Line {line}", { line: number(line) })}`;
  announce(`${said} ${terminal.spoken}`);
}

function goTo(line) {
  page.editor.goTo(page.exercise.file, line);
}

// The output of what ran last in the exercise that was opened.
function replay() {
  const { run: place_, repl } = places;
  for (const each of [place_, repl]) {
    each.terminal.reset();
    each.input.close();
  }
  shown = null;
  const told = page.exercise.output ?? [];
  byId("output-empty").hidden = told.some((each) => each.data.kind === "run");
  replaying = true;
  try {
    let asks = null;
    for (const { event, data } of told) {
      if (event === "run") {
        shown = data;
        if (data.kind === "run") byId("output-empty").hidden = true;
      } else if (event === "input") asks = data;
      else {
        if (event === "out" || event === "given" || event === "finished") asks = null;
        if (event !== "finished") events[event]?.(data, false);
        else finish(data, place(data.kind).terminal, false);
      }
    }
    if (asks !== null && current?.run === asks.run) events.input(asks, false);
  } finally {
    replaying = false;
  }
}

export function start() {
  places.run = { terminal: new Terminal(byId("output")) };
  places.repl = { terminal: new Terminal(byId("prompt-output")) };
  places.run.input = new InputLine("input", places.run.terminal);
  places.repl.input = new InputLine("prompt-input", places.repl.terminal);
  showResult = tabs(document.querySelector(".result .tabs"));
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
