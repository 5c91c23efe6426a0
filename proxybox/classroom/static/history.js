// Versions of the open exercise: the student can read them, compare them with the editor, and restore them.

import { get } from "./lib/api.js";
import { announce, byId, make } from "./lib/dom.js";
import { lines } from "./lib/diff.js";
import { n, t, when } from "./lib/words.js";
import { path } from "./exercises.js";
import { changed, replace } from "./files.js";
import { complain, notice } from "./notices.js";
import { exercise, isHeld, page } from "./page.js";

/** @returns {Record<string, string>} */
const WHY = () => ({
  saved: t("saved"),
  run: t("run"),
  "handed in": t("handed in"),
  elsewhere: t("saved on another page"),
  starter: t("as it was at the beginning"),
});
const AROUND = 3; // lines that are shown around a change

/** @type {import("types").Text | null} */
let chosen = null; // {version, at, files}

async function open() {
  const dialog = byId("history");
  try {
    await page.drafts.flush(exercise().id).catch(() => {});
    const { versions } = await get(`${path()}/versions`);
    byId("history-list").replaceChildren(...versions.map(row));
  } catch (problem) {
    complain(problem);
    return;
  }
  chosen = null;
  byId("history-restore").disabled = true;
  byId("history-shown").replaceChildren(make("p", { class: "empty", text: t("Choose a version.") }));
  dialog.showModal();
  // The latest version is usually the same as the files in the editor.
  const buttons = byId("history-list").querySelectorAll("button");
  (buttons[1] ?? buttons[0])?.click();
}

/** @param {import("types").Version} version */
function row({ version, at, why, size }) {
  const reason = version === 0 ? WHY().starter : (WHY()[why] ?? why);
  /** @type {HTMLButtonElement} */
  const button = make(
    "button",
    { type: "button", class: "version", on: { click: () => choose(version, button) } },
    make("span", { class: "name", text: version === 0 ? reason : when(at) }),
    make("span", {
      class: "facts",
      text: version === 0 ? "" : `${reason} · ${n("{count} character", "{count} characters", size)}`,
    }),
  );
  return make("li", {}, button);
}

/** @param {number} version @param {HTMLButtonElement} button */
async function choose(version, button) {
  for (const each of byId("history-list").querySelectorAll("button")) each.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  try {
    const told = await get(`${path()}/versions/${version}`);
    if (button.getAttribute("aria-current") !== "true") return;
    chosen = told;
    byId("history-restore").disabled = isHeld();
    draw();
  } catch (problem) {
    complain(problem);
  }
}

function draw() {
  if (chosen === null) return;
  const { files } = chosen;
  const view = byId("history-view").value;
  const now = page.editor.files;
  const names = [...new Set([...Object.keys(files), ...Object.keys(now)])];
  const parts = names.flatMap((name) => {
    /** @type {string | undefined} */
    const before = files[name];
    /** @type {string | undefined} */
    const after = now[name];
    if (view === "text")
      return before === undefined ? [] : [make("h3", { text: name }), make("pre", { class: "code", text: before })];
    if (before === after) return [];
    const rows = lines(before ?? "", after ?? "");
    return [make("h3", { text: name }), view === "sides" ? sides(rows) : changes(rows)];
  });
  if (parts.length === 0) parts.push(make("p", { class: "empty", text: t("This is what you have now.") }));
  byId("history-shown").replaceChildren(...parts);
}

/** @type {Record<string, string>} */
const SIGNS = { same: " ", gone: "−", new: "+" };

/** @param {string} kind @param {number} [number] @param {string} [text] */
function cell(kind, number, text) {
  return [
    make("td", { class: "number", text: number === undefined ? "" : String(number) }),
    make("td", { class: `code ${kind}` }, make("span", { class: "sign", text: SIGNS[kind] ?? " " }), text ?? ""),
  ];
}

// Only the changes, with some lines around them.
/** @param {import("./lib/diff.js").Line[]} rows */
function changes(rows) {
  const near = rows.map((_, i) =>
    rows.slice(Math.max(0, i - AROUND), i + AROUND + 1).some((row) => row.kind !== "same"),
  );
  const body = make("tbody");
  let skipped = false;
  rows.forEach((row, i) => {
    if (near[i]) body.append(make("tr", {}, ...cell(row.kind, row.after ?? row.before, row.text)));
    else if (!skipped)
      body.append(make("tr", {}, make("td", { class: "number" }), make("td", { class: "code skipped", text: "⋯" })));
    skipped = !near[i];
  });
  const columns = make("colgroup", {}, make("col", { class: "number" }), make("col"));
  const caption = make("caption", { class: "hidden", text: t("Lines that were (−) and are now (+)") });
  return make("table", { class: "diff" }, caption, columns, body);
}

// The old text on the left, the current text on the right.
/** @param {import("./lib/diff.js").Line[]} rows */
function sides(rows) {
  const body = make("tbody");
  for (let i = 0; i < rows.length;) {
    if (rows[i].kind === "same") {
      body.append(
        make("tr", {}, ...cell("same", rows[i].before, rows[i].text), ...cell("same", rows[i].after, rows[i].text)),
      );
      i += 1;
      continue;
    }
    /** @type {import("./lib/diff.js").Line[][]} */
    const [gone, fresh] = [[], []];
    for (; i < rows.length && rows[i].kind !== "same"; i += 1) (rows[i].kind === "gone" ? gone : fresh).push(rows[i]);
    for (let j = 0; j < Math.max(gone.length, fresh.length); j += 1) {
      const left = gone[j] ? cell("gone", gone[j].before, gone[j].text) : cell("none");
      const right = fresh[j] ? cell("new", fresh[j].after, fresh[j].text) : cell("none");
      body.append(make("tr", {}, ...left, ...right));
    }
  }
  const head = make(
    "thead",
    {},
    make(
      "tr",
      {},
      make("th", { colspan: "2", scope: "colgroup", text: t("this version") }),
      make("th", { colspan: "2", scope: "colgroup", text: t("now") }),
    ),
  );
  const columns = make("colgroup", {}, ...[0, 1].flatMap(() => [make("col", { class: "number" }), make("col")]));
  return make("table", { class: "diff sides" }, columns, head, body);
}

function restore() {
  const now = page.editor.files;
  if (chosen === null) return;
  const { files } = chosen;
  for (const [name, text] of Object.entries(files)) if (now[name] !== text) changed(name, text);
  for (const name of Object.keys(now)) if (!(name in files)) changed(name, null);
  replace(files);
  byId("history").close();
  const which = chosen.version === 0 ? t("as it was at the beginning") : when(chosen.at);
  notice(t("Brought back: {version}. What you had before is in Versions, too.", { version: which }));
  announce(t("The version was brought back."));
  page.editor.focus();
}

export function start() {
  byId("versions").addEventListener("click", open);
  byId("history-close").addEventListener("click", () => byId("history").close());
  byId("history-restore").addEventListener("click", restore);
  byId("history-view").addEventListener("change", draw);
}
