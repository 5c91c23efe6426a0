// All seats on one screen. Cards are made once and changed in place; their order changes only while the pointer and the
// focus are not on them.

import { closest, make } from "../lib/dom.js";
import { n, t } from "../lib/words.js";
import { gradeText, isDone, lasted, needs, needsText, progressOf, scoreOf } from "./help.js";
import { choices, setText } from "./parts.js";

/** @import { Row } from "types" */
/** @import { Room } from "./room.js" */
/**
 * @typedef {object} Elements
 * @property {HTMLElement} list
 * @property {HTMLInputElement} find
 * @property {HTMLSelectElement} sort
 * @property {HTMLSelectElement} exercise
 * @property {HTMLInputElement} help
 * @property {HTMLElement} helpCount
 * @property {HTMLElement} count
 * @property {HTMLElement} empty
 * @property {HTMLElement} only
 * @property {HTMLElement} all
 * @property {HTMLElement} room
 */

const PAUSE = 2_500; // ms between two changes of the order
const REST = 4_000; // ms after the pointer last moved over the cards until their order may change
const GAP = 6; // px between cards
// The looks of cards, from roomy to dense: the least width and the height, in px. teacher.css has the same heights.
const LOOKS = [
  { name: "roomy", width: 200, height: 88 },
  { name: "dense", width: 166, height: 59 },
  { name: "tight", width: 144, height: 54 },
];

class Card {
  /** @param {Row} row @param {(seat: string) => void} open */
  constructor(row, open) {
    const { id } = row;
    this.row = row;
    this.name = make("span", { class: "name" });
    this.since = make("span", { class: "since" });
    this.exercise = make("span", { class: "exercise" });
    this.count = make("span", { class: "score" });
    this.bar = make("span", { class: "bar" });
    this.state = make("span", { class: "state" });
    this.button = make(
      "button",
      { type: "button", class: "card", "data-seat": id, on: { click: () => open(id) } },
      make("span", { class: "line" }, this.name, make("span", { class: "hidden", text: ", " }), this.since),
      make(
        "span",
        { class: "line" },
        make("span", { class: "hidden", text: ", " }),
        this.exercise,
        make("span", { class: "hidden", text: ", " }),
        this.count,
      ),
      this.bar,
      make("span", { class: "line" }, make("span", { class: "hidden", text: ", " }), this.state),
    );
    this.element = make("li", {}, this.button);
  }

  /** @param {Row} row @param {Room} room */
  update(row, room) {
    this.row = row;
    setText(this.name, row.name);
    setText(this.exercise, row.exercise ? room.title(row.exercise) : t("No exercise yet"));
    setText(this.count, gradeText(row));
    this.bar.style.setProperty("--part", String(Math.max(0, part(row))));
    this.bar.classList.toggle("done", isDone(row));
    this.tick(room.now);
  }

  // Updates the parts that change with time. Returns why this seat needs help.
  /** @param {number} now */
  tick(now) {
    const { row } = this;
    const why = needs(row, now);
    const looks = row.hand ? "hand" : why ? "stuck" : row.online ? "" : "away";
    if (this.button.dataset.looks !== looks) this.button.dataset.looks = looks;
    let since = row.active && row.exercise ? lasted(now - row.active) : "";
    if (row.running) since = t("runs");
    setText(this.since, since);
    const error = isDone(row) ? "" : (row.error ?? ""); // errors from before all tests passed do not count
    let state = error;
    if (progressOf(row).handed_in) state = t("Handed in");
    else if (state === "" && isDone(row)) state = t("All tests pass");
    if (!row.online) state = row.exercise ? t("Away") : t("Not here yet");
    else if (state === "" && why) state = needsText(why);
    if (row.hand) state = t("Hand raised, {time}", { time: lasted(now - row.hand) });
    if (row.locked) state = `${t("Locked")}. ${state}`;
    setText(this.state, state);
    this.state.classList.toggle("error", state !== "" && state === error);
    const about = [row.name, why && needsText(why), error].filter(Boolean).join("\n");
    if (this.button.title !== about) this.button.title = about;
    return why;
  }
}

/** @type {Record<string, (a: Row, b: Row) => number>} */
const ORDERS = {
  name: () => 0,
  idle: (a, b) => (a.active ?? 0) - (b.active ?? 0),
  progress: (a, b) => part(a) - part(b),
  hand: (a, b) => (a.hand ?? Infinity) - (b.hand ?? Infinity) || 0,
};

// The part of the tests that pass; -1 if none have run.
/** @param {Row} row */
function part(row) {
  const score = scoreOf(row);
  return score?.total ? score.passed / score.total : -1;
}

export class Grid {
  // elements: list, find, sort, exercise, help (a checkbox), helpCount, count, empty, only, all, room. open(seat id).
  /** @param {Room} room @param {Elements} elements @param {(seat: string) => void} open */
  constructor(room, elements, open) {
    this.room = room;
    this.elements = elements;
    this.open = open;
    this.columns = 1;
    /** @type {Map<string, Card>} */
    this.cards = new Map();
    /** @type {string[] | null} */
    this.only = null; // ids that were chosen by a click on an error
    this.moved = 0;
    this.names = new Intl.Collator(document.documentElement.lang || "en", { numeric: true });
    const { list, find, sort, exercise, help, all } = elements;
    for (const control of [find, sort, exercise, help]) control.addEventListener("input", () => this.arrange(true));
    all.addEventListener("click", () => this.showOnly(null));
    list.addEventListener("pointermove", () => {
      this.moved = performance.now();
    });
    list.addEventListener("keydown", (event) => this.#keys(event));
    list.addEventListener("focusin", (event) => this.#rove(closest(event, ".card")));
    new ResizeObserver(() => this.#fit()).observe(elements.room);
    room.on("rows", (changed) => this.#changed(changed));
    room.on("state", () => this.#exercises());
    setInterval(() => this.#tick(), 1_000);
    setInterval(() => this.arrange(false), PAUSE);
  }

  // Shows only some seats, described by `text`; null: all of them.
  /** @param {string[] | null} seats */
  showOnly(seats, text = "") {
    this.only = seats;
    setText(this.elements.only, text);
    if (this.elements.only.parentElement) this.elements.only.parentElement.hidden = seats === null;
    this.arrange(true);
  }

  // The seats in their order on the screen.
  get order() {
    const cards = /** @type {NodeListOf<HTMLElement>} */ (this.elements.list.querySelectorAll(".card"));
    return [...cards].map((card) => card.dataset.seat ?? "");
  }

  /** @param {string} seat */
  focus(seat) {
    this.cards.get(seat)?.button.focus();
  }

  #exercises() {
    const all = this.room.course.exercises.map(({ id, title }) => [id, title]);
    choices(this.elements.exercise, [["", t("All exercises")], ...all]);
  }

  /** @param {Set<string> | null} changed */
  #changed(changed) {
    const { room } = this;
    if (changed === null) this.#exercises();
    for (const id of changed ?? room.rows.keys()) {
      const row = room.rows.get(id);
      if (row === undefined) continue;
      const card = this.cards.get(id) ?? new Card(row, this.open);
      this.cards.set(id, card);
      card.update(row, room);
    }
    // New and removed cards are shown at once; a new order waits for a moment of rest.
    const wanted = this.#wanted();
    const shown = new Set(this.order);
    if (wanted.length !== shown.size || wanted.some(({ id }) => !shown.has(id))) this.arrange(false);
    this.#count();
  }

  #tick() {
    const { now } = this.room;
    for (const card of this.cards.values()) card.tick(now);
    this.#count();
  }

  #count() {
    const { room, elements } = this;
    const { seats, now } = room;
    const here = seats.filter((row) => row.online).length;
    setText(elements.count, t("{here} of {all} here", { here, all: seats.length }));
    const helped = seats.filter((row) => needs(row, now)).length;
    setText(elements.helpCount, n("{count} needs help", "{count} need help", helped));
  }

  #wanted() {
    const { find, exercise, help } = this.elements;
    const { now } = this.room;
    const text = find.value.trim().toLocaleLowerCase();
    /** @type {HTMLElement | null | undefined} */
    const focused = document.activeElement?.closest(".card");
    const held = focused?.dataset.seat; // the card with the focus is not removed
    const drawn = this.room.seats.filter(({ id }) => this.cards.has(id)); // the others are drawn soon
    return drawn.filter(
      (row) =>
        row.id === held ||
        ((text === "" || row.name.toLocaleLowerCase().includes(text)) &&
          (exercise.value === "" || row.exercise === exercise.value) &&
          (!help.checked || needs(row, now) !== "") &&
          (this.only === null || this.only.includes(row.id))),
    );
  }

  #isRest() {
    const { list } = this.elements;
    return !list.closest("[hidden]") && !list.matches(":focus-within") && performance.now() - this.moved > REST;
  }

  // Puts the cards in order: at once if the user has asked for it, otherwise at a moment of rest. Until then visible
  // cards stay in their places, and new ones are added at the end.
  /** @param {boolean} atOnce */
  arrange(atOnce) {
    const { list, sort, empty } = this.elements;
    const card = () => /** @type {HTMLElement | null} */ (list.querySelector(".card"));
    const order = ORDERS[sort.value] ?? ORDERS.name;
    let ids = this.#wanted()
      .sort((a, b) => order(a, b) || this.names.compare(a.name, b.name))
      .map(({ id }) => id);
    if (!atOnce && !this.#isRest()) {
      const shown = this.order;
      ids = [...shown.filter((id) => ids.includes(id)), ...ids.filter((id) => !shown.includes(id))];
    }
    const wanted = ids.flatMap((id) => this.cards.get(id)?.element ?? []);
    /** @type {Set<Element>} */
    const kept = new Set(wanted);
    const active = document.activeElement;
    const focused = active instanceof HTMLElement && list.contains(active) ? active : null;
    for (const item of [...list.children]) if (!kept.has(item)) item.remove();
    wanted.forEach((item, index) => {
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    if (focused !== null && focused !== document.activeElement) {
      if (focused.isConnected) focused.focus({ preventScroll: true });
      else card()?.focus();
    }
    empty.hidden = wanted.length > 0;
    setText(empty, this.room.seats.length ? t("No seat fits what you have chosen above.") : t("Nobody has joined yet."));
    if (!list.querySelector('.card[tabindex="0"]')) this.#rove(card());
    this.#fit();
  }

  // One of the cards is in the order of the Tab key; arrow keys lead to the others.
  /** @param {HTMLElement | null} card */
  #rove(card) {
    if (!card) return;
    for (const each of this.cards.values()) each.button.tabIndex = each.button === card ? 0 : -1;
  }

  /** @param {KeyboardEvent} event */
  #keys(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const cards = [.../** @type {NodeListOf<HTMLElement>} */ (this.elements.list.querySelectorAll(".card"))];
    const at = cards.findIndex((card) => card === event.target);
    const forward = document.documentElement.dir === "rtl" ? -1 : 1;
    /** @type {Record<string, number>} */
    const places = {
      ArrowRight: at + forward,
      ArrowLeft: at - forward,
      ArrowDown: at + this.columns,
      ArrowUp: at - this.columns,
      Home: 0,
      End: cards.length - 1,
    };
    const to = places[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    cards[to]?.focus();
  }

  // Makes cards as large as possible, with all of them on the screen.
  #fit() {
    const { list, room: place } = this.elements;
    const width = list.clientWidth;
    const height = place.getBoundingClientRect().bottom - list.getBoundingClientRect().top - GAP;
    const count = list.children.length;
    if (width === 0) return;
    /** @param {{width: number}} look */
    const most = (look) => Math.max(1, Math.floor((width + GAP) / (look.width + GAP)));
    /** @param {{height: number}} look @param {number} columns */
    const fits = (look, columns) => Math.ceil(count / columns) * (look.height + GAP) - GAP <= height;
    const look = LOOKS.find((each) => fits(each, most(each))) ?? LOOKS[LOOKS.length - 1];
    let columns = Math.min(most(LOOKS[0]), most(look));
    while (columns < most(look) && !fits(look, columns)) columns += 1;
    this.columns = columns;
    list.dataset.look = look.name;
    list.style.setProperty("--columns", String(columns));
  }
}
