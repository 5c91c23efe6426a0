// Classes of learning platforms: the choice of the one that is shown.

import { t } from "../lib/words.js";
import { choices } from "./parts.js";

const ALL = "all";
const BY_CODE = "";

/** @param {import("./room.js").Room} room @param {{place: HTMLElement, select: HTMLSelectElement}} elements */
export function choosingClass(room, { place, select }) {
  room.on("state", () => {
    const pairs = room.classes.map(({ id, title }) => [`class ${id}`, title]);
    const byCode = room.whole ? [[BY_CODE, t("Joined by code")]] : [];
    choices(select, [[ALL, t("All")], ...byCode, ...pairs]);
    place.hidden = pairs.length === 0;
  });
  select.addEventListener("change", () =>
    room.choose(select.value === ALL ? null : select.value.replace(/^class /, "")),
  );
}
