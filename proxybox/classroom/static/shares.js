// Code that the teacher has shared with all: students can read it, and copy it into a file of their own.

import { byId, make, tabs } from "./lib/dom.js";
import { number, t, when } from "./lib/words.js";
import { Editor, nonce } from "./editor.js";
import { add, freeName } from "./files.js";
import { notice } from "./notices.js";
import { isHeld, on, page } from "./page.js";

/** @type {Editor | null} */
let editor = null;
/** @type {import("types").Share | null} */
let shown = null;

function draw() {
  const { shares, course } = page.me;
  const rows = shares.map((share) => {
    const exercise = course.exercises.find((each) => each.id === share.exercise)?.title ?? share.exercise;
    const from = share.by === "teacher" ? t("from the teacher") : t("from somebody in the class");
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "exercise", on: { click: () => open(share) } },
        make("span", { class: "name", text: share.title }),
        make("span", { class: "facts", text: [exercise, from, when(share.at)].join(" · ") }),
      ),
    );
  });
  byId("shares").replaceChildren(
    rows.length > 0
      ? make("ul", { class: "exercises" }, ...rows)
      : make("p", { class: "empty", text: t("Code that your teacher shows to all comes here.") }),
  );
  const count = byId("shares-count");
  count.hidden = shares.length === 0;
  count.textContent = number(shares.length);
}

/** @param {import("types").Share} share */
function open(share) {
  shown = share;
  byId("share-title").textContent = share.title;
  editor ??= new Editor(byId("share-editor"), {
    nonce: nonce(),
    label: (name) => t("{name}, to read only", { name }),
  });
  editor.setReadOnly(true);
  editor.open(share.files);
  byId("share-files").replaceChildren(
    ...Object.keys(share.files).map((name, i) =>
      make("button", {
        type: "button",
        role: "tab",
        text: name,
        "data-name": name,
        "aria-controls": "share-editor",
        "aria-selected": String(i === 0),
        tabindex: i === 0 ? "0" : "-1",
      }),
    ),
  );
  byId("share-copy").disabled = isHeld();
  if (!byId("share").open) byId("share").showModal();
}

function copy() {
  byId("share").close();
  if (editor === null || editor.name === null) return;
  const name = freeName(`shared_${editor.name.replaceAll("/", "_")}`);
  add(name, editor.text(editor.name));
  notice(t("Copied into a new file: {name}", { name }));
}

export const events = {
  /** @param {import("types").Share} share */
  share(share) {
    page.me.shares = [share, ...page.me.shares.filter((each) => each.id !== share.id)];
    draw();
    notice(t("New shared code: {title}", { title: share.title }), {
      action: { text: t("Look at it"), run: () => open(share) },
    });
  },
  /** @param {{id: string}} share */
  unshare({ id }) {
    page.me.shares = page.me.shares.filter((each) => each.id !== id);
    draw();
    if (shown?.id === id && byId("share").open) byId("share").close();
  },
};

export function start() {
  const list = byId("share-files");
  tabs(list, () => {
    const tab = list.querySelector('[aria-selected="true"]');
    if (tab instanceof HTMLElement && tab.dataset.name) editor?.show(tab.dataset.name);
    byId("share-editor").hidden = false;
  });
  byId("share-copy").addEventListener("click", copy);
  byId("share-close").addEventListener("click", () => byId("share").close());
  on("me", draw);
}
