// Asks for the teacher's key. One that stands in the address (/teacher#KEY) is sent, and taken out of the address first.

import { send } from "./lib/api.js";
import { byId } from "./lib/dom.js";
import { languageChoice, themeChoice } from "./lib/theme.js";

const form = byId("key-form");
const input = byId("key");
const said = byId("key-problem");

async function enter(key) {
  said.hidden = true;
  form.querySelector("button").disabled = true;
  try {
    await send("POST", "/api/teacher/login", { key });
    location.replace("/teacher");
  } catch (error) {
    said.textContent = error.message;
    said.hidden = false;
    form.querySelector("button").disabled = false;
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
