// The menu: another device, help, leaving. Menus close by Escape, by a click elsewhere, or when they lose the focus.

import { send } from "./lib/api.js";
import { ask, byId, closest, make } from "./lib/dom.js";
import * as local from "./lib/local.js";
import { languageChoice, themeChoice } from "./lib/theme.js";
import { t } from "./lib/words.js";
import { complain } from "./notices.js";
import { exercise, on, page } from "./page.js";

function help() {
  byId("menu").open = false;
  byId("help-dialog").showModal();
}

async function personal() {
  const code = make("p", { class: "bigcode", text: page.me.seat.personal });
  const text = make("p", {
    text: t(
      "On the other device, open the address of the class, choose “I have been here before”, and enter this code. Keep it to yourself.",
    ),
  });
  await ask({ title: t("Your own code"), fields: [code, text], yes: t("Close") });
}

async function leave() {
  const parts = [
    t("Your work stays with your teacher. To come back, you need your own code: {code}", {
      code: page.me.seat.personal,
    }),
  ];
  const unsent = await page.drafts.flush(exercise().id).then(
    () => false,
    () => true,
  );
  if (unsent) parts.push(t("Some of it is not sent yet, and would be lost."));
  const fields = parts.map((text) => make("p", { text }));
  if (!(await ask({ title: t("Leave the class?"), fields, yes: t("Leave"), no: t("Stay"), danger: true }))) return;
  try {
    await send("POST", "/api/leave");
  } catch (problem) {
    complain(problem);
    return;
  }
  await forget();
  location.assign(document.body.dataset.home ?? "/");
}

// The data of this seat is removed from the browser.
export async function forget() {
  await local.forget(page.me.seat.id);
  if (typeof caches !== "undefined") await caches.delete("classroom").catch(() => {});
}

export function start() {
  themeChoice(byId("theme"));
  languageChoice(byId("language"));
  byId("help").addEventListener("click", help);
  byId("personal").addEventListener("click", personal);
  byId("leave").addEventListener("click", leave);
  on("me", () => {
    byId("who").textContent = page.me.seat.name;
  });
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  if (isMac) {
    for (const key of document.querySelectorAll("kbd.mod")) key.textContent = "⌘";
    byId("run-key").textContent = "⌘ ↵";
    byId("stop-key").textContent = "⌘ .";
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "F1") {
      event.preventDefault();
      if (!document.querySelector("dialog[open]")) help();
    }
    if (event.key !== "Escape") return;
    const menu = closest(event, ".menu[open]");
    if (menu instanceof HTMLDetailsElement) {
      menu.open = false;
      menu.querySelector("summary")?.focus();
    }
  });
  const menus = /** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll(".menu"));
  document.addEventListener("click", (event) => {
    for (const menu of menus) {
      const within = event.target instanceof Node && menu.contains(event.target);
      if (menu.open && (!within || closest(event, ".sheet button"))) menu.open = false;
    }
  });
  for (const menu of menus) {
    menu.addEventListener("focusout", (event) => {
      if (event.relatedTarget instanceof Node && !menu.contains(event.relatedTarget)) menu.open = false;
    });
  }
}
