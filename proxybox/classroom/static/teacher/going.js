// The current state for all students, each with a button that ends it for teachers who may do that.

import { ask, make } from "../lib/dom.js";
import { n, t } from "../lib/words.js";
import { setFrozen } from "./freeze.js";
import { button } from "./parts.js";
import { gradeAgain, outdated } from "./regrading.js";
import { stopPushing } from "./pushing.js";
import { unshare } from "./sharing.js";

/** @param {import("./room.js").Room} room @param {{section: HTMLElement, list: HTMLElement}} elements */
export function going(room, { section, list }) {
  const show = () => {
    /** @type {HTMLElement[]} */
    const items = [];
    if (room.frozen)
      items.push(
        item(
          t("Frozen"),
          "",
          room.whole && button(t("Unfreeze"), () => setFrozen(room, false), { class: "plain small" }),
        ),
      );
    if (room.pushed) {
      items.push(
        item(
          t("Pushed"),
          room.title(room.pushed),
          room.whole && button(t("Stop"), stopPushing, { class: "plain small", "aria-label": t("Stop pushing") }),
        ),
      );
    }
    items.push(...faults(room), ...regrading(room));
    if (room.join.locked) items.push(item(t("Nobody can join"), "", null));
    for (const share of room.shares.values()) {
      const kind = share.by === "student" ? t("Shared, a student’s") : t("Shared");
      const label = t("Stop sharing {title}", { title: share.title });
      const stop =
        room.whole && button(t("Stop"), () => unshare(share), { class: "plain small", "aria-label": label });
      const title = button(share.title, () => look(share), { class: "link" });
      items.push(item(kind, title, stop));
    }
    const focused = list.contains(document.activeElement);
    list.replaceChildren(...items);
    section.hidden = items.length === 0;
    if (focused) list.querySelector("button")?.focus();
  };
  let before = "";
  room.on("state", show);
  room.on("shares", show);
  room.on("rows", () => {
    const now = JSON.stringify(outdated(room));
    if (now !== before) show();
    before = now;
  });
}

// The faults of the course's files, for the teacher with the key.
/** @param {import("./room.js").Room} room */
function faults(room) {
  const found = Object.entries(room.gradingFaults).map(([id, text]) => [t("Tests at fault"), room.title(id), text]);
  if (room.courseFault) found.unshift([t("The course was not read anew"), "", room.courseFault]);
  return found.map(([kind, title, text]) => {
    if (!text) return item(kind, title); // the teacher with the key can read it
    const fields = [make("pre", { class: "program", tabindex: "0", text })];
    const why = button(t("Why"), () => ask({ title: kind, fields, yes: t("Close") }), {
      class: "plain small",
      "aria-label": title ? `${t("Why")}: ${title}` : t("Why"),
    });
    return item(kind, title, why);
  });
}

// Exercises whose tests have changed since hand-ins were graded.
/** @param {import("./room.js").Room} room */
function regrading(room) {
  return outdated(room).map(([id, count]) => {
    const title = n("{title}: {count} grade", "{title}: {count} grades", count, { title: room.title(id) });
    const again = button(t("Grade all again"), () => gradeAgain(id), {
      class: "plain small",
      "aria-label": t("Grade all again: {title}", { title: room.title(id) }),
    });
    return item(t("Tests have changed"), title, again);
  });
}

/** @param {string} kind @param {string | HTMLElement} what @param {HTMLElement | false | null} [stop] */
function item(kind, what, stop) {
  return make("li", {}, make("span", { class: "what" }, make("span", { class: "kind", text: kind }), what || null), stop || null);
}

/** @param {import("types").Share} share */
function look(share) {
  const files = Object.entries(share.files).flatMap(([name, text]) => [
    make("h3", { text: name }),
    make("pre", { class: "program", tabindex: "0", text }),
  ]);
  ask({ title: share.title, fields: files, yes: t("Close") });
}
