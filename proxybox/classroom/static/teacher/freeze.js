// The pause: no student's program runs, and no editor accepts keys.

import { send } from "../lib/api.js";
import { t } from "../lib/words.js";
import { attempt, setText } from "./parts.js";

/** @param {import("./room.js").Room} room @param {HTMLElement} control */
export function freezing(room, control) {
  const show = () => {
    control.setAttribute("aria-pressed", String(room.frozen));
    setText(control, room.frozen ? t("Unfreeze") : t("Freeze all"));
  };
  control.addEventListener("click", () => setFrozen(room, !room.frozen));
  room.on("state", show);
}

/** @param {import("./room.js").Room} room @param {boolean} frozen */
export function setFrozen(room, frozen) {
  return attempt(() => send("POST", "/api/teacher/freeze", { frozen }));
}
