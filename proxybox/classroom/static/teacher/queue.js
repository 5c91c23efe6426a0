// Raised hands, those that have waited longest first.

import { send } from "../lib/api.js";
import { announce, make } from "../lib/dom.js";
import { t } from "../lib/words.js";
import { lasted } from "./help.js";
import { attempt, button, setText } from "./parts.js";

/** @import { Room } from "./room.js" */
/** @import { Row } from "types" */
/** @typedef {{row: Row, name: HTMLElement, time: HTMLElement, lower: HTMLElement, element: HTMLElement}} Item */
/** @typedef {{list: HTMLElement, count: HTMLElement, empty: HTMLElement}} Elements */

export class Queue {
  // elements: list, count, empty. open(seat id).
  /** @param {Room} room @param {Elements} elements @param {(seat: string) => void} open */
  constructor(room, elements, open) {
    this.room = room;
    this.elements = elements;
    this.open = open;
    this.started = false;
    /** @type {Map<string, Item>} */
    this.items = new Map();
    room.on("rows", () => this.#show());
    setInterval(() => this.#tick(), 1_000);
  }

  #show() {
    const { list, count, empty } = this.elements;
    const rows = this.room.seats.filter((row) => row.hand).sort((a, b) => (a.hand ?? 0) - (b.hand ?? 0));
    const kept = new Set(rows.map((row) => row.id));
    for (const [id, item] of this.items) {
      if (kept.has(id)) continue;
      const next = item.element.contains(document.activeElement)
        ? (item.element.nextElementSibling ?? list.firstElementChild)
        : null;
      item.element.remove();
      this.items.delete(id);
      next?.querySelector("button")?.focus();
    }
    rows.forEach((row, index) => {
      let item = this.items.get(row.id);
      if (!item) {
        item = this.#make(row);
        this.items.set(row.id, item);
        if (this.started) announce(t("{name} has raised a hand.", { name: row.name }));
      }
      item.row = row;
      setText(item.name, row.name);
      if (list.children[index] !== item.element) list.insertBefore(item.element, list.children[index] ?? null);
    });
    this.started = true;
    setText(count, String(rows.length));
    empty.hidden = rows.length > 0;
    this.#tick();
  }

  /** @param {Row} row @returns {Item} */
  #make(row) {
    const name = button("", () => this.open(row.id), { class: "link" });
    const time = make("span", { class: "time" });
    const lower = button(t("Lower"), () => this.#lower(row.id), { class: "plain small" });
    return { row, name, time, lower, element: make("li", {}, name, time, lower) };
  }

  #tick() {
    for (const { row, time, lower } of this.items.values()) {
      setText(time, lasted(this.room.now - (row.hand ?? this.room.now)));
      lower.setAttribute("aria-label", t("Lower the hand of {name}", { name: row.name }));
    }
  }

  /** @param {string} id */
  #lower(id) {
    return attempt(
      () => send("PATCH", `/api/teacher/seats/${encodeURIComponent(id)}`, { hand: false }),
      (row) => this.room.put(row),
    );
  }
}
