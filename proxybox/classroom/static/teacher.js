// The teacher's page: its parts, and which of them is shown.

import { send } from "./lib/api.js";
import { byId, closest } from "./lib/dom.js";
import { languageChoice, themeChoice } from "./lib/theme.js";
import { t } from "./lib/words.js";
import { choosingClass } from "./teacher/classes.js";
import { Errors } from "./teacher/errors.js";
import { Exports } from "./teacher/exports.js";
import { freezing } from "./teacher/freeze.js";
import { going } from "./teacher/going.js";
import { Grid } from "./teacher/grid.js";
import { Joining } from "./teacher/joining.js";
import { attempt, setText } from "./teacher/parts.js";
import { Progress } from "./teacher/progress.js";
import { pushing } from "./teacher/pushing.js";
import { Queue } from "./teacher/queue.js";
import { Room } from "./teacher/room.js";
import { SeatView } from "./teacher/seat.js";
import { Seats } from "./teacher/seats.js";
import { Sharing } from "./teacher/sharing.js";
import { Similar } from "./teacher/similar.js";

const PATIENCE = 1_500; // ms without a connection before a message

const room = new Room();
/** @param {string} seat */
const open = (seat) => {
  location.hash = `seat=${encodeURIComponent(seat)}`;
};
const close = () => {
  location.hash = "class";
};

const grid = new Grid(
  room,
  {
    list: byId("cards"),
    find: byId("find"),
    sort: byId("sort"),
    exercise: byId("exercise"),
    help: byId("help"),
    helpCount: byId("help-count"),
    count: byId("count"),
    empty: byId("cards-empty"),
    only: byId("only-text"),
    all: byId("only-all"),
    room: byId("class-room"),
  },
  open,
);
const errors = new Errors(
  room,
  { list: byId("errors"), empty: byId("errors-empty"), exercise: byId("exercise") },
  (seats, text) => {
    if (view() !== "class") close();
    grid.showOnly(seats, text);
  },
);
byId("only-all").addEventListener("click", () => {
  errors.clear();
  grid.focus(grid.order[0]);
});
const seat = new SeatView(room, {
  open,
  close,
  steps: (/** @type {string} */ id) => {
    const order = grid.order;
    const at = order.indexOf(id);
    return at < 0 ? [null, order[0] ?? null] : [order[at - 1] ?? null, order[at + 1] ?? null];
  },
});
const progress = new Progress(room, byId("progress"), open);
const downloads = new Exports(room);
new Queue(room, { list: byId("hands"), count: byId("hands-count"), empty: byId("hands-empty") }, open);
new Joining(room);
new Seats(room);
new Sharing(room);
new Similar(room);
choosingClass(room, { place: byId("classes"), select: byId("chosen-class") });
going(room, { section: byId("going"), list: byId("going-list") });
freezing(room, byId("freeze"));
pushing(room, byId("push-open"));

// --- views ------------------------------------------------------------------------------------------------------------

function view() {
  const [name] = location.hash.slice(1).split("=");
  return name === "seat" || name === "results" ? name : "class";
}

/** @type {{view: string, seat: string | null}} */
let before = { view: "class", seat: null };

function show() {
  const now = view();
  const id = now === "seat" ? decodeURIComponent(location.hash.slice(1).split("=")[1] ?? "") : null;
  if (id !== null && !room.rows.has(id)) {
    close();
    return;
  }
  byId("class").hidden = now !== "class";
  byId("seat").hidden = now !== "seat";
  byId("results").hidden = now !== "results";
  for (const [link, name] of /** @type {const} */ ([
    [byId("to-class"), "class"],
    [byId("to-results"), "results"],
  ])) {
    if (now === name || (name === "class" && now === "seat"))
      link.setAttribute("aria-current", now === name ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
  seat.show(id);
  if (now === "results") {
    progress.show();
    downloads.show();
  }
  if (now === "class") {
    grid.arrange(true);
    if (before.seat !== null) grid.focus(before.seat);
  } else if (before.view !== now) byId(now === "seat" ? "seat-name" : "results-title").focus();
  const title = id !== null ? room.name(id) : now === "results" ? t("Results") : room.course.title;
  document.title = `${title} – ${t("Teacher")}`;
  before = { view: now, seat: id };
}

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (view() === "seat" && !closest(event, ".cm-search")) close();
});

// --- the connection ---------------------------------------------------------------------------------------------------

let isLeaving = false;
/** Goes to where the key is asked for: once, whoever notices first that the teacher has logged out. */
function leave() {
  if (isLeaving) return;
  isLeaving = true;
  location.replace("/teacher");
}

/** @type {number | undefined} */
let late;
room.on("status", (status, answer) => {
  clearTimeout(late);
  if (status === "closed" && (answer === 401 || answer === 403)) {
    leave();
    return;
  }
  const tell = () => {
    byId("status").dataset.kind = status === "open" ? "saved" : "away";
    setText(byId("status-text"), status === "open" ? t("Connected") : t("Not connected"));
    byId("offline").hidden = status === "open";
  };
  if (status === "open") tell();
  else late = setTimeout(tell, PATIENCE);
});

// --- the menu ---------------------------------------------------------------------------------------------------------

const menu = byId("menu");
menu.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu.open) return;
  event.preventDefault();
  menu.open = false;
  menu.querySelector("summary")?.focus();
});
document.addEventListener("click", (event) => {
  const isWithin = event.target instanceof Node && menu.contains(event.target);
  if (menu.open && (!isWithin || closest(event, "button"))) menu.open = false;
});
themeChoice(byId("theme"));
languageChoice(byId("language"));
byId("logout").addEventListener("click", () => attempt(() => send("POST", "/api/teacher/logout"), leave));

await room.start();
setText(byId("course"), room.course.title);
show();
document.body.classList.add("ready");
