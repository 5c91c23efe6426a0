// The prompt: statements for the box of the last run, with its variables.

import { byId } from "./lib/dom.js";
import { isBusy, statement, terminalOfPrompt } from "./run.js";
import { notice } from "./notices.js";
import { t } from "./lib/words.js";

const MOST = 200;
const ROWS = 8;

/** @type {string[]} */
const entered = []; // earlier statements, the latest at the end
let at = 0; // the index of the one that is shown; entered.length: the new one
let begun = ""; // the new statement, while another one is shown

/** @param {HTMLTextAreaElement} field */
function fit(field) {
  field.rows = Math.min(ROWS, field.value.split("\n").length);
}

/** @param {HTMLTextAreaElement} field @param {number} to */
function recall(field, to) {
  if (at === entered.length) begun = field.value;
  at = to;
  field.value = at === entered.length ? begun : entered[at];
  fit(field);
  field.setSelectionRange(field.value.length, field.value.length);
}

/** @param {HTMLTextAreaElement} field */
async function enter(field) {
  const code = field.value;
  if (code.trim() === "") return;
  if (isBusy()) {
    notice(t("Something runs already. Stop it first."));
    return;
  }
  const shown = code
    .split("\n")
    .map((line, i) => `${i === 0 ? ">>>" : "..."} ${line}\n`)
    .join("");
  terminalOfPrompt().write("prompted", shown);
  if (entered.at(-1) !== code) entered.push(code);
  if (entered.length > MOST) entered.shift();
  at = entered.length;
  begun = "";
  field.value = "";
  fit(field);
  if (!(await statement(code))) {
    field.value = code;
    fit(field);
  }
}

export function start() {
  const field = byId("prompt-text");
  byId("prompt").addEventListener("submit", (event) => {
    event.preventDefault();
    enter(field);
    field.focus();
  });
  field.addEventListener("input", () => fit(field));
  field.addEventListener("keydown", (event) => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const before = field.value.slice(0, field.selectionStart);
    const after = field.value.slice(field.selectionEnd);
    if (event.key === "Enter" && !event.shiftKey) enter(field);
    else if (event.key === "ArrowUp" && !event.shiftKey && !before.includes("\n") && at > 0) recall(field, at - 1);
    else if (event.key === "ArrowDown" && !event.shiftKey && !after.includes("\n") && at < entered.length)
      recall(field, at + 1);
    else return;
    event.preventDefault();
  });
}
