// The commonest errors of the class; a click shows the seats that have had an error.

import { get } from "../lib/api.js";
import { make } from "../lib/dom.js";
import { n } from "../lib/words.js";
import { setText } from "./parts.js";

/** @import { ClassError } from "types" */
/**
 * @typedef {{count: HTMLElement, text: HTMLElement, button: HTMLElement, element: HTMLElement, seats: string[]}} Item
 */

const PAUSE = 2_000; // ms between two requests
const SHOWN = 8;

export class Errors {
  // elements: list, empty, exercise (a select for the exercise). show(seat ids | null, text).
  /**
   * @param {import("./room.js").Room} room
   * @param {{list: HTMLElement, empty: HTMLElement, exercise: HTMLSelectElement}} elements
   * @param {(seats: string[] | null, text: string) => void} show
   */
  constructor(room, elements, show) {
    this.elements = elements;
    this.show = show;
    this.loaded = false;
    /** @type {Map<string, Item>} */
    this.items = new Map();
    /** @type {string | null} */
    this.chosen = null;
    /** @type {number | null} */
    this.timer = null;
    room.on("errors", () => this.#soon());
    elements.exercise.addEventListener("input", () => this.#load());
  }

  #soon() {
    this.timer ??= setTimeout(
      () => {
        this.timer = null;
        this.#load();
      },
      this.loaded ? PAUSE : 0,
    );
  }

  async #load() {
    const exercise = this.elements.exercise.value;
    const query = exercise ? `?exercise=${encodeURIComponent(exercise)}` : "";
    let told;
    try {
      told = await get(`/api/teacher/errors${query}`);
    } catch {
      return; // the next change requests them again
    }
    this.loaded = true;
    if (exercise === this.elements.exercise.value) this.#show(told.errors.slice(0, SHOWN));
  }

  /** @param {ClassError[]} errors */
  #show(errors) {
    const { list, empty } = this.elements;
    const kept = new Set(errors.map((each) => each.error));
    for (const [error, item] of this.items) {
      if (kept.has(error)) continue;
      item.element.remove();
      this.items.delete(error);
    }
    errors.forEach((each, index) => {
      let item = this.items.get(each.error);
      if (!item) {
        item = this.#make(each.error);
        this.items.set(each.error, item);
      }
      item.seats = each.seats;
      setText(item.count, String(each.count));
      setText(item.text, each.error);
      item.button.title = each.example;
      item.button.setAttribute(
        "aria-label",
        n("{count} seat: {error}", "{count} seats: {error}", each.count, { error: each.error }),
      );
      const there = list.children[index];
      if (there !== item.element && !list.contains(document.activeElement)) list.insertBefore(item.element, there ?? null);
      else if (!item.element.isConnected) list.append(item.element);
    });
    empty.hidden = errors.length > 0;
  }

  /** @param {string} error @returns {Item} */
  #make(error) {
    const count = make("span", { class: "times" });
    const text = make("span", { class: "error" });
    const control = make(
      "button",
      { type: "button", "aria-pressed": "false", on: { click: () => this.#choose(error) } },
      count,
      text,
    );
    return { count, text, button: control, element: make("li", {}, control), seats: [] };
  }

  /** @param {string} error */
  #choose(error) {
    const item = this.items.get(error);
    if (item === undefined) return;
    const seats = this.chosen === error ? null : item.seats;
    this.clear();
    if (seats !== null) {
      this.chosen = error;
      item.button.setAttribute("aria-pressed", "true");
    }
    this.show(seats, error);
  }

  // Ends the choice of an error.
  clear() {
    if (this.chosen !== null) this.items.get(this.chosen)?.button.setAttribute("aria-pressed", "false");
    this.chosen = null;
  }
}
