// Shows the teacher's own code to all: a small editor, whose text stays while its dialog is closed.

import { send } from "../lib/api.js";
import { byId } from "../lib/dom.js";
import { t } from "../lib/words.js";
import { Code } from "./code.js";
import { attempt, choices, note, reason } from "./parts.js";

const FILE = "shared.py";

export class Sharing {
  /** @param {import("./room.js").Room} room */
  constructor(room) {
    this.room = room;
    this.dialog = byId("share");
    this.said = byId("share-problem");
    /** @type {Code | null} */
    this.code = null;
    byId("share-open").addEventListener("click", () => this.#open());
    byId("share-cancel").addEventListener("click", () => this.dialog.close());
    // In the editor, Escape is for leaving it by keyboard: it does not close the dialog.
    this.dialog.addEventListener("cancel", (event) => {
      if (document.activeElement?.closest(".cm-editor")) event.preventDefault();
    });
    byId("share-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  #open() {
    const { course, pushed } = this.room;
    choices(
      byId("share-exercise"),
      course.exercises.map(({ id, title }) => [id, title]),
    );
    if (!this.code) {
      if (pushed) byId("share-exercise").value = pushed;
      this.code = new Code(byId("share-code"), { label: () => t("Code to share"), describedBy: "share-keys", isReadOnly: false });
      this.code.open({ [FILE]: "" });
    }
    this.said.textContent = "";
    this.dialog.showModal();
  }

  async #send() {
    if (this.code === null) return;
    const title = byId("share-title");
    const text = this.code.files[FILE];
    if (text.trim() === "") {
      this.said.textContent = t("There is no code yet.");
      this.code.editor.focus();
      return;
    }
    try {
      await send("POST", "/api/teacher/share", {
        seat: null,
        exercise: byId("share-exercise").value,
        title: title.value,
        files: { [FILE]: text },
      });
      this.dialog.close();
    } catch (error) {
      this.said.textContent = reason(error);
    }
  }
}

// Stops sharing, with a button to undo it.
/** @param {import("types").Share} share */
export function unshare(share) {
  const again = () =>
    attempt(() =>
      send("POST", "/api/teacher/share", {
        seat: null,
        exercise: share.exercise,
        title: share.title,
        files: share.files,
      }),
    );
  return attempt(
    () => send("DELETE", `/api/teacher/share/${encodeURIComponent(share.id)}`),
    () => {
      note(t("“{title}” is no longer shared.", { title: share.title }), { undo: again });
    },
  );
}
