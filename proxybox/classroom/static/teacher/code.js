// Files in one editor, usually read-only, with a button for each file if there are several.

import { make } from "../lib/dom.js";
import { t } from "../lib/words.js";
import { Editor, nonce } from "../editor.js";

export class Code {
  // place: an element. label(name): the label of the text. describedBy: the id of its description. isReadOnly: false if
  // it may be changed.
  /**
   * @param {HTMLElement} place
   * @param {{label: (name: string) => string, describedBy?: string | null, isReadOnly?: boolean}} options
   */
  constructor(place, { label, describedBy = null, isReadOnly = true }) {
    this.names = make("div", { class: "file-names", role: "group", "aria-label": t("Files"), hidden: true });
    const box = make("div", { class: "editor" });
    place.append(this.names, box);
    this.editor = new Editor(box, { nonce: nonce(), label, describedBy });
    this.isReadOnly = isReadOnly;
  }

  get files() {
    return this.editor.files;
  }

  // Shows other files, from the beginning.
  /** @param {Record<string, string>} files @param {string | null} main */
  open(files, main = null) {
    this.editor.open(files, main);
    this.editor.setReadOnly(this.isReadOnly);
    this.#buttons();
  }

  // Updates the same files; the scroll position and the selection stay.
  /** @param {Record<string, string>} files */
  update(files) {
    const { editor } = this;
    const known = editor.names;
    for (const name of known) if (!(name in files)) editor.remove(name);
    for (const [name, text] of Object.entries(files)) {
      editor.set(name, text);
    }
    if (editor.name === null && editor.names.length > 0) editor.show(editor.names[0]);
    if (known.join("\n") !== editor.names.join("\n")) this.#buttons();
  }

  #buttons() {
    const { editor, names } = this;
    names.hidden = editor.names.length < 2;
    names.replaceChildren(
      ...editor.names.map((name) =>
        make("button", {
          type: "button",
          class: "file",
          text: name,
          "aria-pressed": String(name === editor.name),
          on: {
            click: () => {
              editor.show(name);
              for (const each of names.children) each.setAttribute("aria-pressed", String(each.textContent === name));
            },
          },
        }),
      ),
    );
  }
}
