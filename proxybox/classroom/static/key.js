// Asks for the teacher's key. A key in the address (/teacher#KEY) is sent, and removed from the address before.

import { send } from "./lib/api.js";
import { byId } from "./lib/dom.js";
import { languageChoice, themeChoice } from "./lib/theme.js";

const form = byId("key-form");
const input = byId("key");
const said = byId("key-problem");

/** @param {string} key */
async function enter(key) {
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  said.hidden = true;
  button.disabled = true;
  try {
    await send("POST", "/api/teacher/login", { key });
    location.replace("/teacher");
  } catch (error) {
    said.textContent = error instanceof Error ? error.message : String(error);
    said.hidden = false;
    button.disabled = false;
    input.select();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(input.value.trim());
});

function fromAddress() {
  const key = decodeURIComponent(location.hash.slice(1));
  if (key === "") return;
  history.replaceState(null, "", location.pathname);
  enter(key);
}

addEventListener("hashchange", fromAddress);
themeChoice(byId("theme"));
languageChoice(byId("language"));
fromAddress();
