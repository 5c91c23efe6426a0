// A program's output on the page. It is bounded, and drawn once a frame, so that a flood of output does not block the
// page.

import { Ansi } from "./ansi.js";
import { make } from "./dom.js";
import { t } from "./words.js";

/** @typedef {Record<string, string>} Shown what a program shows, by its MIME type */
/**
 * What waits to be drawn.
 * @typedef {{text: string, stream: string} | {element: HTMLElement} | {clear: true, wait: boolean} |
 *   {data: Shown, id: string | null, update: boolean}} Waiting
 */

const MOST_LINES = 5_000;
const LONGEST_LINE = 4_000; // characters; a longer line is split
const MOST_WAITING = 2_000_000; // characters that may wait to be drawn
const PIECE = 8_192; // characters that are drawn between two checks of the time
const FRAME = 10; // ms of drawing in one frame
const PICTURES = ["image/png", "image/jpeg", "image/svg+xml"];

export class Terminal {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.ansi = new Ansi();
    /** @type {Waiting[]} */
    this.waiting = [];
    this.size = 0;
    this.lines = 0;
    /** @type {HTMLElement | null} */
    this.line = null;
    this.length = 0;
    this.again = false; // after a carriage return: the line is overwritten
    this.cleared = false; // the next output replaces everything
    /** @type {Map<string, HTMLElement>} */
    this.shown = new Map(); // display id -> figure
    this.lost = false;
    this.tail = "";
    /** @type {number | null} */
    this.frame = null;
    this.element.replaceChildren();
  }

  reset() {
    this.element.replaceChildren();
    this.ansi = new Ansi();
    this.waiting = [];
    this.size = 0;
    this.lines = 0;
    this.line = null;
    this.length = 0;
    this.again = false;
    this.cleared = false;
    this.shown.clear();
    this.lost = false;
    this.tail = "";
  }

  // The end of the output, for screen readers.
  get spoken() {
    return this.tail.trim();
  }

  /** @param {string} stream @param {string} text */
  write(stream, text) {
    for (let at = 0; at < text.length; at += PIECE) this.#wait({ stream, text: text.slice(at, at + PIECE) });
    this.tail = (this.tail + text).slice(-400);
  }

  // Text that was typed for the program; an empty text is the end of its input.
  /** @param {string} text */
  given(text) {
    this.write("typed", text === "" ? `${t("(end of input)")}\n` : text);
  }

  /** @param {Shown} data @param {string | null} id */
  display(data, id = null, update = false) {
    this.#wait({ data, id, update });
  }

  /** @param {string} text */
  value(text) {
    this.#wait({ stream: "value", text: `${text}\n` });
    this.tail = text.slice(-400);
  }

  // Adds an element of the page to the output.
  /** @param {HTMLElement} element */
  add(element) {
    this.#wait({ element });
  }

  /** @param {boolean} wait */
  clear(wait) {
    this.#wait({ clear: true, wait });
  }

  /** @param {Waiting} what */
  #wait(what) {
    this.waiting.push(what);
    if ("text" in what) this.size += what.text.length;
    while (this.size > MOST_WAITING) {
      const index = this.waiting.findIndex((each) => "text" in each);
      const [left] = this.waiting.splice(index, 1);
      if ("text" in left) this.size -= left.text.length;
      this.lost = true;
    }
    this.#schedule();
  }

  #schedule() {
    if (this.frame) return;
    const draw = () => {
      this.frame = null;
      this.#draw();
    };
    // A hidden page gets no animation frames, so a timer draws.
    this.frame = document.hidden ? setTimeout(draw, 100) : requestAnimationFrame(draw);
  }

  #draw() {
    const { element } = this;
    const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    const until = performance.now() + FRAME;
    for (let what = this.waiting.shift(); what !== undefined; what = this.waiting.shift()) {
      if ("clear" in what && what.wait) this.cleared = true;
      else if ("clear" in what) this.#empty();
      else {
        if (this.cleared) this.#empty();
        if ("text" in what) {
          this.size -= what.text.length;
          this.#print(what.stream, what.text);
        } else if ("element" in what) this.#block(what.element);
        else this.#picture(what);
      }
      if (performance.now() > until) break;
    }
    this.#trim();
    if (atEnd) element.scrollTop = element.scrollHeight;
    if (this.waiting.length > 0) this.#schedule();
  }

  #empty() {
    this.cleared = false;
    this.element.replaceChildren();
    this.line = null;
    this.lines = 0;
    this.shown.clear();
  }

  #trim() {
    let gone = this.lines - MOST_LINES;
    if (gone > 0) this.lost = true;
    for (; gone > 0; gone -= 1, this.lines -= 1) {
      const first = this.element.firstElementChild;
      (first?.classList.contains("lost") ? first.nextElementSibling : first)?.remove();
    }
    if (this.lost && !this.element.firstElementChild?.classList.contains("lost")) {
      this.element.prepend(make("div", { class: "lost", text: t("Earlier lines are not shown.") }));
    }
  }

  #begin() {
    const line = make("div", { class: "line" });
    this.line = line;
    this.length = 0;
    this.again = false;
    this.lines += 1;
    this.element.append(line);
    return line;
  }

  /** @param {HTMLElement} element */
  #block(element) {
    this.line = null;
    this.lines += 1;
    this.element.append(element);
  }

  /** @param {string} stream @param {string} piece */
  #print(stream, piece) {
    for (const { text, classes } of this.ansi.read(piece)) {
      for (const part of text.split(/(\n|\r)/)) {
        if (part === "\n") {
          const line = this.line ?? this.#begin();
          if (!line.hasChildNodes()) line.append(make("br"));
          this.line = null;
        } else if (part === "\r") this.again = true;
        else if (part !== "") this.#put(stream, part, classes);
      }
    }
  }

  /** @param {string} stream @param {string} text @param {string} classes */
  #put(stream, text, classes) {
    if (this.line !== null && this.again) {
      this.line.replaceChildren();
      this.length = 0;
    }
    this.again = false;
    for (let at = 0; at < text.length;) {
      const line = this.line === null || this.length >= LONGEST_LINE ? this.#begin() : this.line;
      const part = text.slice(at, at + LONGEST_LINE - this.length);
      const name = `${stream} ${classes}`.trim();
      const last = line.lastElementChild;
      if (last?.className === name && last.firstChild instanceof Text) last.firstChild.appendData(part);
      else line.append(make("span", { class: name, text: part }));
      this.length += part.length;
      at += part.length;
    }
  }

  /** @param {{data: Shown, id: string | null, update: boolean}} what */
  #picture({ data, id, update }) {
    const figure = pictureOf(data);
    const before = id === null ? undefined : this.shown.get(id);
    if (update && before?.isConnected) before.replaceWith(figure);
    else if (!update) this.#block(figure);
    if (id !== null) this.shown.set(id, figure);
  }
}

// A display of a program, from {mime: text}: a picture, or its text. Pictures are data: URLs, which load and run
// nothing.
/** @param {Shown} data */
function pictureOf(data) {
  const kind = PICTURES.find((each) => typeof data[each] === "string");
  const said = data["text/plain"] ?? "";
  if (kind === undefined) return make("div", { class: "line" }, make("span", { class: "value", text: said }));
  const source =
    kind === "image/svg+xml"
      ? `data:${kind},${encodeURIComponent(data[kind])}`
      : `data:${kind};base64,${data[kind].replace(/\s/g, "")}`;
  const image = make("img", { src: source, alt: said.slice(0, 300) || t("Picture made by the program") });
  return make("figure", { class: "picture" }, image);
}
