// The results of an exercise's tests, and handing in.

import { Problem, send } from "./lib/api.js";
import { announce, ask, byId, make } from "./lib/dom.js";
import { number, t, when } from "./lib/words.js";
import { path } from "./exercises.js";
import { tellConflict } from "./files.js";
import { complain, notice } from "./notices.js";
import { exercise as opened, on, page, tell } from "./page.js";
import { body, showResult } from "./run.js";

/** @returns {Record<string, string>} */
const WORDS = () => ({
  ok: t("passed"),
  wrong_answer: t("not yet"),
  skipped: t("not run"),
  forbidden: t("against the rules"),
  syntax_error: t("syntax error"),
  error: t("error"),
  crashed: t("crashed"),
  time_limit: t("too slow"),
  memory_limit: t("too much memory"),
  output_limit: t("too much output"),
});

/** @param {import("types").TestResult} test */
function testRow(test) {
  const state = test.status === "ok" ? "passed" : test.status === "skipped" ? "skipped" : "failed";
  const head = make(
    "div",
    { class: "test-head" },
    make("span", { class: "verdict", text: WORDS()[test.status] ?? test.status.replaceAll("_", " ") }),
    make("span", { class: "name", text: test.name }),
    test.possible
      ? make("span", {
          class: "points",
          text: t("{points} of {possible} points", { points: number(test.points), possible: number(test.possible) }),
        })
      : null,
  );
  const row = make("li", { class: `test ${state}` }, head);
  if (test.message) row.append(make("p", { class: "message", text: test.message }));
  const { line } = test;
  if (line) {
    row.append(
      make("button", {
        type: "button",
        class: "link",
        text: t("Go to line {line}", { line: number(line) }),
        on: { click: () => page.editor.goTo(opened().file, line) },
      }),
    );
  }
  if (test.output) {
    row.append(
      make(
        "details",
        {},
        make("summary", { text: t("What was printed") }),
        make("pre", { class: "printed", tabindex: "0", text: test.output }),
      ),
    );
  }
  return row;
}

/** @param {import("types").Score} results */
function summary(results) {
  const parts = [
    t("{passed} of {total} tests passed", { passed: number(results.passed), total: number(results.total) }),
  ];
  if (results.possible)
    parts.push(
      t("{points} of {possible} points", { points: number(results.points), possible: number(results.possible) }),
    );
  return parts.join(" · ");
}

// The hand-in with its grade, the same that the teacher sees.
/** @param {import("types").HandedIn} handed */
function handedPart(handed) {
  const late = handed.late ? ` ${t("(late)")}` : "";
  let grade = t("It is kept, and will be graded.");
  if (handed.score) grade = summary(handed.score);
  else if (handed.has_failed) grade = t("It is kept. It could not be graded, which is not your mistake.");
  const more = [];
  if (handed.earlier?.score)
    more.push(
      t("The tests were mended, and it was graded again {time}. Before: {results}.", {
        time: when(handed.graded ?? handed.at),
        results: summary(handed.earlier.score),
      }),
    );
  if (handed.score && handed.is_due) more.push(t("It is being graded again."));
  else if (handed.is_outdated) more.push(t("The tests have changed since. Your teacher can have it graded again."));
  return make(
    "div",
    { class: "handed" },
    make("p", {}, make("strong", { text: t("Handed in {time}", { time: when(handed.at) }) + late }), ` ${grade}`),
    ...more.map((text) => make("p", { text })),
  );
}

function draw() {
  const { results, handed_in: handed } = opened();
  /** @type {(HTMLElement | null)[]} */
  const parts = [];
  if (handed) parts.push(handedPart(handed));
  if (results) {
    const done = results.total > 0 && results.passed === results.total;
    const text = handed ? t("Now: {results}", { results: summary(results) }) : summary(results);
    parts.push(
      make("p", { class: `summary ${done ? "done" : ""}`, text }),
      results.is_outdated ? make("p", { class: "quiet", text: t("The tests have changed since. Press Test.") }) : null,
      results.total
        ? make("progress", {
            max: String(results.total),
            value: String(results.passed),
            "aria-label": t("Tests passed"),
          })
        : null,
      results.message ? make("p", { class: "message", text: results.message }) : null,
      make("ol", { class: "results" }, ...results.tests.map(testRow)),
      results.hidden?.total
        ? make("p", {
            class: "quiet",
            text: t("Hidden tests: {passed} of {total} passed.", {
              passed: number(results.hidden.passed),
              total: number(results.hidden.total),
            }),
          })
        : null,
    );
  } else
    parts.push(
      make("p", {
        class: "empty",
        text: t("The tests have not run yet. Press Test to see what your program does already."),
      }),
    );
  byId("tests").replaceChildren(...parts.filter((part) => part instanceof HTMLElement));
  const count = byId("tests-count");
  count.hidden = !results?.total;
  count.textContent = results?.total ? `${number(results.passed)}/${number(results.total)}` : "";
}

export const events = {
  /** @param {{exercise: string, results: import("types").Results}} told */
  checked({ exercise, results }) {
    tell("results", { exercise, results });
    if (page.exercise?.id !== exercise) return;
    page.exercise.results = results;
    draw();
    showResult("tests-panel");
    announce(summary(results));
  },
  // results: the results of its tests, if no tests were run since.
  /** @param {{exercise: string, handed_in: import("types").HandedIn, results?: import("types").Results}} told */
  graded({ exercise, handed_in, results }) {
    tell("handed-in", { exercise, handed_in });
    if (results) tell("results", { exercise, results });
    if (page.exercise?.id !== exercise) return;
    page.exercise.handed_in = handed_in;
    if (results) page.exercise.results = results;
    draw();
    if (!handed_in.score) return;
    const told = summary(handed_in.score);
    if (handed_in.earlier?.score) {
      const before = summary(handed_in.earlier.score);
      notice(t("Your hand-in was graded again: {results}. Before: {before}.", { results: told, before }), { kind: "good", stays: true });
    } else notice(t("Your hand-in was tested: {results}.", { results: told }), { kind: "good" });
  },
};

async function handIn() {
  const { id, title } = opened();
  const names = page.editor.names.join(", ");
  const text = make("p", {
    text: t("Your teacher gets these files as they are now: {names}. You can go on, and hand in again.", { names }),
  });
  if (!(await ask({ title: t("Hand in “{title}”?", { title }), fields: [text], yes: t("Hand in"), no: t("Not yet") })))
    return;
  byId("hand-in").disabled = true;
  try {
    await page.drafts.flush(id);
    const { files } = page.editor;
    const told = await send("POST", `${path(id)}/hand-in`, { ...body(), files }, { timeout: 30_000 });
    if (told.version) page.drafts.setBase(id, told.version);
    if (told.conflict) tellConflict(told.conflict);
    tell("handed-in", { exercise: id, handed_in: told.handed_in });
    opened().handed_in = told.handed_in;
    draw();
    const late = told.handed_in.late ? ` ${t("It came after the deadline.")}` : "";
    notice(t("Handed in {time}: {names}.", { time: when(told.handed_in.at), names }) + late, {
      kind: "good",
      stays: true,
    });
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 0)
      notice(
        t("Not handed in: there is no connection. Your code is kept in this browser; hand in again when it is back."),
        { kind: "bad", stays: true },
      );
    else complain(problem);
  } finally {
    byId("hand-in").disabled = false;
  }
}

export function start() {
  byId("hand-in").addEventListener("click", handIn);
  on("exercise", draw);
}
