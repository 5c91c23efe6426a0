// The line for a program's input. It is visible while the program waits for input.

import { Problem, send } from "./lib/api.js";
import { announce, byId } from "./lib/dom.js";
import { t } from "./lib/words.js";
import { complain } from "./notices.js";

export class InputLine {
  // id: of the form; its field is `${id}-text`, its button that ends the input `${id}-end`. terminal: where it is shown.
  /** @param {"input" | "prompt-input"} id @param {import("./lib/terminal.js").Terminal} terminal */
  constructor(id, terminal) {
    this.form = byId(id);
    this.field = byId(`${id}-text`);
    this.terminal = terminal;
    /** @type {string | null} */
    this.run = null;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(`${this.field.value}\n`);
    });
    byId(`${id}-end`).addEventListener("click", () => this.#send(""));
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "d" || !event.ctrlKey || this.field.value !== "") return;
      event.preventDefault();
      this.#send("");
    });
  }

  // The program asks for input. focus: whether the field gets the focus.
  /** @param {string} run @param {{focus: boolean}} options */
  open(run, { focus }) {
    this.run = run;
    this.form.hidden = false;
    if (focus) this.field.focus();
    announce(t("The program asks for input. {prompt}", { prompt: this.terminal.spoken.split("\n").at(-1) }));
  }

  close() {
    const hadFocus = this.form.contains(document.activeElement);
    this.run = null;
    this.form.hidden = true;
    this.field.value = "";
    return hadFocus;
  }

  /** @param {string} text */
  async #send(text) {
    const { run } = this;
    if (run === null) return;
    const value = this.field.value;
    this.field.value = "";
    this.run = null; // until the program asks again; the field stays, and keeps the focus
    try {
      await send("POST", "/api/input", { run, text });
    } catch (problem) {
      complain(problem);
      if (!(problem instanceof Problem && problem.passes)) return;
      this.open(run, { focus: true });
      this.field.value = value;
    }
  }
}
