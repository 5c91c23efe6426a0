// Small parts that the teacher's page uses in several places.

import { make } from "../lib/dom.js";
import { t } from "../lib/words.js";
import { complain, notice } from "../notices.js";

// Sets a text only if it changes, so that screen readers and the selection are not disturbed.
/** @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {string} text @param {() => unknown} click @param {import("types").Attributes} attributes */
export function button(text, click, attributes = {}) {
  return make("button", { type: "button", text, ...attributes, on: { click } });
}

// Reports an action, with a button to undo it if that is possible.
/** @param {string} text @param {{undo?: (() => unknown) | null}} options */
export function note(text, { undo = null } = {}) {
  notice(text, { kind: "good", action: undo && { text: t("Undo"), run: undo } });
}

// Sends a request, and reports its failure. Returns whether it succeeded.
/**
 * @template T
 * @param {() => Promise<T>} doing
 * @param {((answer: T) => unknown) | null} then
 */
export async function attempt(doing, then = null) {
  try {
    const answer = await doing();
    then?.(answer);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

// The reason of a failed request, as text.
/** @param {any} problem what was caught */
export function reason(problem) {
  return problem.errors?.length ? problem.errors.map((/** @type {{msg: string}} */ each) => each.msg).join(" ") : problem.message;
}

// A dialog with a form. It calls `doing` when the form is sent, and stays open if that fails. `fields` are elements of
// the form. doing(): returns a promise.
/** @param {{title: string, fields: HTMLElement[], yes: string, doing: () => Promise<unknown>, wide?: boolean}} what */
export function formDialog({ title, fields, yes, doing, wide = false }) {
  const said = make("p", { class: "problem", role: "alert" });
  const heading = make("h2", { id: "dialog-title", text: title });
  const send = make("button", { class: "primary", text: yes });
  const form = make(
    "form",
    { method: "dialog" },
    heading,
    ...fields,
    said,
    make(
      "div",
      { class: "buttons" },
      send,
      button(t("Cancel"), () => dialog.close()),
    ),
  );
  /** @type {HTMLDialogElement} */
  const dialog = make("dialog", { class: wide ? "ask wide" : "ask", "aria-labelledby": "dialog-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    said.textContent = "";
    try {
      await doing();
      dialog.close();
    } catch (error) {
      said.textContent = reason(error);
    } finally {
      send.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

let fields = 0;

// A labelled control: field(t("Name"), make("input", {...})).
/** @param {string} label @param {HTMLElement} control */
export function field(label, control, hint = "") {
  fields += 1;
  control.id ||= `field-${fields}`;
  const about = hint === "" ? null : make("small", { id: `${control.id}-hint`, text: hint });
  if (about) control.setAttribute("aria-describedby", about.id);
  return make("div", { class: "field" }, make("label", { for: control.id, text: label }), control, about);
}

// Sets the choices of a select, and keeps the chosen one if it is still among them.
/** @param {HTMLSelectElement} select @param {string[][]} pairs */
export function choices(select, pairs) {
  const chosen = select.value;
  const told = JSON.stringify(pairs);
  if (select.dataset.choices === told) return;
  select.dataset.choices = told;
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value, text })));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}
