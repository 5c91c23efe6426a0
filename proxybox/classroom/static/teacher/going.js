// What goes on for all students at the moment, each with a button that ends it.

import { ask, make } from "../lib/dom.js";
import { t } from "../lib/words.js";
import { setFrozen } from "./freeze.js";
import { button } from "./parts.js";
import { stopPushing } from "./pushing.js";
import { unshare } from "./sharing.js";

export function going(room, { section, list }) {
  const show = () => {
    const items = [];
    if (room.frozen)
      items.push(
        item(
          t("Frozen"),
          "",
          button(t("Unfreeze"), () => setFrozen(room, false), { class: "plain small" }),
        ),
      );
    if (room.pushed) {
      items.push(
        item(
          t("Pushed"),
          room.title(room.pushed),
          button(t("Stop"), stopPushing, { class: "plain small", "aria-label": t("Stop pushing") }),
        ),
      );
    }
    if (room.join.locked) items.push(item(t("Nobody can join"), "", null));
    for (const share of room.shares.values()) {
      const kind = share.by === "student" ? t("Shared, a student’s") : t("Shared");
      const stop = button(t("Stop"), () => unshare(share), {
        class: "plain small",
        "aria-label": t("Stop sharing {title}", { title: share.title }),
      });
      const title = button(share.title, () => look(share), { class: "link" });
      items.push(item(kind, title, stop));
    }
    const focused = list.contains(document.activeElement);
    list.replaceChildren(...items);
    section.hidden = items.length === 0;
    if (focused) list.querySelector("button")?.focus();
  };
  room.on("state", show);
  room.on("shares", show);
}

function item(kind, what, stop) {
  return make("li", {}, make("span", { class: "what" }, make("span", { class: "kind", text: kind }), what || null), stop);
}

function look(share) {
  const files = Object.entries(share.files).flatMap(([name, text]) => [
    make("h3", { text: name }),
    make("pre", { class: "program", tabindex: "0", text }),
  ]);
  ask({ title: share.title, fields: files, yes: t("Close") });
}
