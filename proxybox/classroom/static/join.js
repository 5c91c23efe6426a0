// The page that asks for a name and the code of the class.

import { send } from "./lib/api.js";
import { byId } from "./lib/dom.js";
import { languageChoice, themeChoice } from "./lib/theme.js";
import { t } from "./lib/words.js";

const problem = byId("problem");
const { home } = document.body.dataset;
const isFramed = home !== "/" && window !== window.top; // in a page of another site

/** @param {string} text */
function tell(text) {
  problem.textContent = text;
  problem.hidden = text === "";
}

// Sends a form's fields, and goes to the student's page if there is a seat.
/** @param {HTMLFormElement} form @param {string} path */
function sends(form, path) {
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = [...form.querySelectorAll("input")];
    for (const field of fields) field.removeAttribute("aria-invalid");
    const empty = fields.find((field) => field.value.trim() === "");
    if (empty) {
      complain(empty, t("Please fill in: {field}", { field: empty.labels?.[0]?.textContent ?? empty.name }));
      return;
    }
    tell("");
    button.disabled = true;
    try {
      const told = Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]));
      await send("POST", path, isFramed ? { ...told, framed: true } : told);
      location.assign(home ?? "/");
    } catch (error) {
      const reason = /** @type {import("./lib/api.js").Problem} */ (error);
      const errors = /** @type {{loc?: unknown[], msg: string}[]} */ (reason.errors ?? []);
      const named = fields.find((field) => errors.some((each) => each.loc?.includes(field.name)));
      const text = errors.length ? errors.map((each) => each.msg).join(" ") : reason.message;
      complain(
        named ?? fields[fields.length - 1],
        reason.retryAfter ? `${text} ${t("Try again in {seconds} s.", { seconds: reason.retryAfter })}` : text,
      );
      if (reason.status === 409) byId("again").open = true;
    } finally {
      button.disabled = false;
    }
  });
}

/** @param {HTMLInputElement} field @param {string} text */
function complain(field, text) {
  tell(text);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "problem");
  field.focus();
}

sends(byId("join"), "/api/join");
sends(byId("return"), "/api/return");
themeChoice(byId("theme"));
languageChoice(byId("language"));

// A code in the address (as in the QR code) is filled in, and removed from the address.
const given = new URLSearchParams(location.hash.slice(1)).get("code");
if (given) {
  byId("code").value = given.slice(0, 64);
  history.replaceState(null, "", location.pathname);
}
if (new URLSearchParams(location.search).has("removed"))
  tell(t("You are not in this class any more. Ask your teacher, or join again."));
byId("name").focus();
