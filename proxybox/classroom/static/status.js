// The status: whether work is saved, whether the server is reachable, and whether the student may write.

import { announce, byId } from "./lib/dom.js";
import { t, when } from "./lib/words.js";
import { isHeld, on, page, tell } from "./page.js";

/** @type {import("./lib/drafts.js").DraftState} */
let draft = { state: "saved", problem: null, at: null };
/** @type {boolean | null} */
let wasAway = null; // null: there was no connection yet

/** @param {string} kind @param {string} text */
function show(kind, text, title = "") {
  const element = byId("status");
  if (element.dataset.kind === kind && byId("status-text").textContent === text) return;
  element.dataset.kind = kind;
  element.title = title;
  byId("status-text").textContent = text;
}

function update() {
  const { state, problem, at } = draft;
  const away = state === "unsent" || !page.isConnected;
  if (state === "refused") {
    const why = problem?.message ?? "";
    show("bad", t("Not saved: {why}", { why }), why);
  } else if (state === "unsent" || (!page.isConnected && state !== "saved")) {
    show("away", t("Not sent yet"), t("Your work is kept in this browser, and sent when the connection is back."));
  } else if (!page.isConnected)
    show("away", t("Not connected"), t("You can go on typing: it is kept in this browser."));
  else if (state === "saved") show("saved", at ? t("Saved {time}", { time: when(at) }) : t("Saved"));
  else show("busy", t("Saving …"));
  // Screen readers do not say each save, but say when the connection is lost or back.
  if (wasAway === null && away) return;
  if (wasAway !== null && away !== wasAway)
    announce(away ? t("Not connected. What you type is kept in this browser.") : t("Connected again. All is saved."));
  wasAway = away;
}

/** @param {import("./lib/drafts.js").DraftState} told */
export function draftState(told) {
  draft = told;
  update();
}

function access() {
  const banner = byId("banner");
  const held = isHeld();
  let text = "";
  if (page.me?.frozen) text = t("Eyes on the teacher. Your code is safe, and you can go on in a moment.");
  else if (page.me?.seat.locked) text = t("Your teacher has locked your seat: you can read, but not change anything.");
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = text === "";
  document.body.classList.toggle("held", held);
  page.editor?.setReadOnly(held);
}

export function start() {
  on("connection", () => {
    if (page.isConnected) page.drafts?.wake();
    update();
  });
  on("me", () => {
    access();
    tell("access");
  });
  update();
}
