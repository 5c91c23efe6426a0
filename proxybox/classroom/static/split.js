// The split between code and output: its edge is dragged, or moved by arrow keys.
// https://www.w3.org/WAI/ARIA/apg/patterns/windowsplitter/

import { byId } from "./lib/dom.js";

const LEAST = 15; // per cent of both
const STEP = 4;
const USUAL = 42;

const SIZES = [USUAL, 65, 20];

let share = USUAL; // per cent that the output has
let before = USUAL; // the share when dragging began

/** @param {number} value */
function set(value) {
  share = Math.min(100 - LEAST, Math.max(LEAST, Math.round(value)));
  const { style } = byId("main");
  style.setProperty("--work", `${100 - share}fr`);
  style.setProperty("--result", `${share}fr`);
  byId("split").setAttribute("aria-valuenow", String(share));
}

function keep() {
  try {
    localStorage.setItem("split", String(share));
  } catch {
    // no storage: it is valid until the page is closed
  }
}

export function start() {
  const edge = byId("split");
  const work = /** @type {HTMLElement} */ (document.querySelector(".work"));
  const result = /** @type {HTMLElement} */ (document.querySelector(".result"));
  const beside = matchMedia("(min-width: 88rem)"); // the same as in student.css
  const turn = () => edge.setAttribute("aria-orientation", beside.matches ? "vertical" : "horizontal");
  beside.addEventListener("change", turn);
  turn();
  try {
    set(Number(localStorage.getItem("split")) || USUAL);
  } catch {
    set(USUAL);
  }
  edge.addEventListener("pointerdown", (event) => {
    before = share;
    edge.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  edge.addEventListener("pointermove", (event) => {
    if (!edge.hasPointerCapture(event.pointerId)) return;
    const [one, other] = [work.getBoundingClientRect(), result.getBoundingClientRect()];
    if (!beside.matches) set((100 * (other.bottom - event.clientY)) / (other.bottom - one.top));
    else {
      const fromEnd = other.left > one.left ? other.right - event.clientX : event.clientX - other.left;
      set((100 * fromEnd) / (one.width + other.width));
    }
  });
  edge.addEventListener("pointerup", () => {
    // A press without a movement goes to the next of the usual sizes, for users who cannot drag.
    if (share === before) set(SIZES[(SIZES.indexOf(share) + 1) % SIZES.length]);
    keep();
  });
  edge.addEventListener("keydown", (event) => {
    /** @type {Record<string, number>} */
    const places = {
      ArrowUp: share + STEP,
      ArrowLeft: share + STEP,
      ArrowDown: share - STEP,
      ArrowRight: share - STEP,
      Home: 0,
      End: 100,
      Enter: USUAL,
    };
    const to = places[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    set(to);
    keep();
  });
}
