// The files of the open exercise: their tabs, adding, renaming and deleting files, and changes from other pages.

import { get, send } from "./lib/api.js";
import { announce, arrows, ask, byId, closest, make } from "./lib/dom.js";
import { t, when } from "./lib/words.js";
import { path } from "./exercises.js";
import { complain, notice } from "./notices.js";
import { exercise as opened, isHeld, on, page } from "./page.js";

const PLAIN = /^[\p{L}\p{N}_][\p{L}\p{N}_ .+-]{0,63}$/u; // one part of a path; the server checks it again
const MOST = 50;

export function names() {
  return page.editor.names;
}

// Saves a change from the editor.
/** @param {string} name @param {string | null} text */
export function changed(name, text) {
  page.drafts.change(opened().id, name, text);
}

// PUT request for the drafts.
/** @param {string} exercise @param {import("./lib/drafts.js").Save} body @param {boolean} last */
export function put(exercise, body, last) {
  return send("PUT", `${path(exercise)}/files`, body, { keepalive: last, timeout: 10_000 });
}

// Shows the server's files, with the unsent changes.
/** @param {{again: boolean, isBehind: boolean}} how */
function load({ again, isBehind }) {
  const { editor, drafts } = page;
  const exercise = opened();
  const files = { ...exercise.files };
  for (const [name, text] of Object.entries(drafts.unsent(exercise.id))) {
    if (text === null) delete files[name];
    else files[name] = text;
  }
  if (!again) editor.open(inOrder(files), exercise.file);
  else if (!isBehind) replace(files);
  else {
    // The server has lost changes (it was restored from a backup): it gets the files of this page.
    for (const [name, text] of Object.entries(editor.files)) if (files[name] !== text) changed(name, text);
  }
  draw();
}

/** @param {Record<string, string>} files @returns {Record<string, string>} */
function inOrder(files) {
  const main = opened().file;
  const sorted = Object.keys(files).sort(
    (one, other) => Number(other === main) - Number(one === main) || one.localeCompare(other),
  );
  return Object.fromEntries(sorted.map((name) => [name, files[name]]));
}

// Shows files that have changed elsewhere: another tab or device has saved, or an older version was restored.
/** @param {Record<string, string>} files */
export function replace(files) {
  const { editor } = page;
  const shown = editor.name;
  for (const name of editor.names) if (!(name in files)) editor.remove(name);
  for (const [name, text] of Object.entries(inOrder(files))) editor.set(name, text);
  if (shown !== null && shown in files && editor.name !== shown) editor.show(shown);
  if (editor.name === null && editor.names.length > 0) editor.show(editor.names[0]);
  draw();
}

function draw() {
  const { editor } = page;
  const tabs = editor.names.map((name, i) =>
    make("button", {
      type: "button",
      role: "tab",
      id: `file-${i}`,
      "data-name": name,
      "aria-controls": "editor",
      text: name,
      "aria-selected": String(name === editor.name),
      tabindex: name === editor.name ? "0" : "-1",
      title: name,
    }),
  );
  byId("files").replaceChildren(...tabs);
  const at = editor.name === null ? -1 : editor.names.indexOf(editor.name);
  if (at >= 0) byId("editor").setAttribute("aria-labelledby", `file-${at}`);
  const held = isHeld();
  byId("add-file").disabled = held || editor.names.length >= MOST;
  byId("rename-file").disabled = byId("delete-file").disabled =
    held || editor.name === null || editor.name === opened().file;
}

/** @param {string} name */
export function show(name, { focus = true } = {}) {
  page.editor.show(name);
  draw();
  if (focus) /** @type {HTMLElement | null} */ (byId("files").querySelector('[aria-selected="true"]'))?.focus();
}

// A name that no file has yet: "notes.py", "notes_2.py", ...
/** @param {string} wanted */
export function freeName(wanted) {
  const [, stem, ending] = wanted.match(/^(.*?)(\.[^.]*)?$/) ?? ["", wanted];
  for (let i = 1; ; i += 1) {
    const name = i === 1 ? wanted : `${stem}_${i}${ending ?? ""}`;
    if (!names().includes(name)) return name;
  }
}

// A new file, saved and shown.
/** @param {string} name */
export function add(name, text = "") {
  page.editor.add(name, text);
  changed(name, text);
  show(name, { focus: false });
  page.editor.focus();
}

/** @param {string} title @param {string} value @param {string} yes */
async function askName(title, value, yes) {
  const field = make("input", {
    id: "file-name",
    value,
    maxlength: "100",
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    autofocus: true,
  });
  const label = make("label", { for: "file-name", text: t("Name of the file") });
  if (!(await ask({ title, fields: [label, field], yes, no: t("Cancel") }))) return null;
  const name = field.value.trim();
  const parts = name.split("/");
  if (!parts.every((part) => PLAIN.test(part)) || name.length > 100) {
    notice(t("A name such as notes.py or data/list.txt is wanted: letters, digits, and - _ . between them."), {
      kind: "bad",
    });
    return null;
  }
  if (names().includes(name) || opened().others?.includes(name)) {
    notice(t("There is a file {name} already.", { name }), { kind: "bad" });
    return null;
  }
  return name;
}

async function addFile() {
  const name = await askName(t("New file"), freeName("notes.py"), t("Create"));
  if (name !== null) add(name);
}

async function rename() {
  const { editor } = page;
  const old = editor.name;
  if (byId("rename-file").disabled || old === null) return;
  const name = await askName(t("Rename {name}", { name: old }), old, t("Rename"));
  if (name === null) return;
  const text = editor.text(old);
  editor.add(name, text);
  editor.show(name);
  editor.remove(old);
  changed(name, text);
  changed(old, null);
  show(name);
}

async function remove() {
  const { editor } = page;
  const { name } = editor;
  if (byId("delete-file").disabled || name === null) return;
  const text = make("p", { text: t("It stays in Versions, from where it can be brought back.") });
  if (
    !(await ask({
      title: t("Delete {name}?", { name }),
      fields: [text],
      yes: t("Delete"),
      no: t("Cancel"),
      danger: true,
    }))
  )
    return;
  editor.remove(name);
  changed(name, null);
  draw();
  announce(t("{name} was deleted.", { name }));
}

// Another page had saved in the meantime: its text is a version of its own.
/** @param {{at: number}} other */
export function tellConflict({ at }) {
  notice(
    t("Also changed on another page: this is now the latest. The other one is in Versions: {time}, saved on another page.", {
      time: when(at),
    }),
    { action: { text: t("Versions"), run: () => byId("versions").click() } },
  );
}

// Another page of this student has saved: its files are shown if this page has no unsent changes. over: the version
// that the other page did not know.
/** @param {{exercise: string, client: string, over?: {version: number, at: number}}} saved */
export async function savedElsewhere({ exercise, client, over }) {
  if (client === page.drafts.client || page.exercise?.id !== exercise || !page.drafts.isClean(exercise)) return;
  const isOurs = over?.version === page.drafts.base(exercise);
  const told = await get(path(exercise)).catch(complain);
  if (!told || page.exercise?.id !== exercise || !page.drafts.isClean(exercise)) return;
  page.drafts.setBase(exercise, told.version);
  opened().files = told.files;
  replace(told.files);
  if (over && isOurs)
    notice(
      t("Changed on another page: that is now the latest. What stood here is in Versions: {time}, saved on another page.", {
        time: when(over.at),
      }),
      { action: { text: t("Versions"), run: () => byId("versions").click() } },
    );
}

export function start() {
  const list = byId("files");
  list.addEventListener("click", (event) => {
    const tab = closest(event, '[role="tab"]');
    if (tab?.dataset.name) show(tab.dataset.name);
  });
  arrows(
    list,
    () => [.../** @type {HTMLCollectionOf<HTMLElement>} */ (list.children)],
    (tab) => show(tab.dataset.name ?? ""),
  );
  list.addEventListener("keydown", (event) => {
    if (event.key === "F2") rename();
    else if (event.key === "Delete") remove();
  });
  byId("add-file").addEventListener("click", addFile);
  byId("rename-file").addEventListener("click", rename);
  byId("delete-file").addEventListener("click", remove);
  byId("download").addEventListener("click", async () => {
    try {
      await page.drafts.flush(opened().id);
      make("a", { href: `${path()}/download`, download: true }).click();
    } catch (problem) {
      complain(problem);
    }
  });
  on("exercise", load);
  on("access", () => page.exercise && draw());
}
