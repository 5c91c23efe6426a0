// Seats that are reserved for students, and seats that were removed.

import { send } from "../lib/api.js";
import { byId, make } from "../lib/dom.js";
import { t } from "../lib/words.js";
import { button, reason } from "./parts.js";
import { restore, showPersonal } from "./seat.js";

export class Seats {
  /** @param {import("./room.js").Room} room */
  constructor(room) {
    this.room = room;
    this.dialog = byId("seats");
    this.name = byId("seats-name");
    this.said = byId("seats-problem");
    byId("seats-open").addEventListener("click", () => {
      this.said.textContent = "";
      this.#show();
      this.dialog.showModal();
    });
    byId("seats-close").addEventListener("click", () => this.dialog.close());
    byId("seats-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#reserve();
    });
    room.on("rows", () => this.dialog.open && this.#show());
  }

  async #reserve() {
    this.said.textContent = "";
    try {
      const row = await send("POST", "/api/teacher/seats", { name: this.name.value });
      this.room.put(row);
      this.name.value = "";
      this.name.focus();
    } catch (error) {
      this.said.textContent = reason(error);
    }
  }

  #show() {
    const { seats, rows } = this.room;
    const active = document.activeElement;
    const focused = active instanceof HTMLElement && this.dialog.contains(active) ? active.dataset.seat : undefined;
    const kept = seats.filter((row) => !row.online && !row.exercise);
    const gone = [...rows.values()].filter((row) => row.removed);
    this.#list("seats-kept", kept, (row) =>
      button(t("Personal code"), () => showPersonal(row), {
        class: "plain small",
        "data-seat": row.id,
        "aria-label": t("Personal code of {name}", { name: row.name }),
      }),
    );
    this.#list("seats-gone", gone, (row) =>
      button(t("Restore"), () => restore(this.room, row.id), {
        class: "plain small",
        "data-seat": row.id,
        "aria-label": t("Restore {name}", { name: row.name }),
      }),
    );
    if (!focused) return;
    /** @type {HTMLElement | null} */ (this.dialog.querySelector(`[data-seat="${CSS.escape(focused)}"]`))?.focus();
  }

  /**
   * @param {"seats-kept" | "seats-gone"} id
   * @param {import("types").Row[]} rows
   * @param {(row: import("types").Row) => HTMLElement} control
   */
  #list(id, rows, control) {
    byId(id).replaceChildren(...rows.map((row) => make("li", {}, make("span", { text: row.name }), control(row))));
    byId(`${id}-empty`).hidden = rows.length > 0;
  }
}
