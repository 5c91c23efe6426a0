// Short messages at the edge of the page. The user closes them. Those without a fault or an action also disappear after a
// while.

import { byId, make } from "./lib/dom.js";
import { t } from "./lib/words.js";

const MOST = 4;
const WHILE = 12_000; // ms; faults stay until they are closed

// action: {text, run}. stays: whether it stays until it is closed.
/**
 * @param {string} text
 * @param {{action?: {text: string, run: () => unknown} | null, stays?: boolean, kind?: string}} options
 */
export function notice(text, { action = null, stays = false, kind = "" } = {}) {
  const box = byId("notices");
  const close = () => card.remove();
  /** @type {HTMLElement} */
  const card = make(
    "div",
    { class: `notice ${kind}` },
    make("p", { text }),
    action &&
      make("button", {
        type: "button",
        text: action.text,
        on: {
          click: () => {
            close();
            action.run();
          },
        },
      }),
    make("button", {
      type: "button",
      class: "plain",
      "aria-label": t("Close this message"),
      text: "×",
      on: { click: close },
    }),
  );
  box.append(card);
  while (box.children.length > MOST) box.firstElementChild?.remove();
  if (!stays && !action && kind !== "bad") setTimeout(close, WHILE);
  return close;
}

// Shows why a request failed.
/** @param {any} problem what was caught */
export function complain(problem) {
  notice(problem.errors?.length ? problem.errors.map((/** @type {{msg: string}} */ error) => error.msg).join(" ") : problem.message, {
    kind: "bad",
  });
}
