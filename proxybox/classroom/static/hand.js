// The raised hand: the teacher sees hands in the order in which they went up.

import { send } from "./lib/api.js";
import { byId } from "./lib/dom.js";
import { t, when } from "./lib/words.js";
import { complain } from "./notices.js";
import { on, page, tell } from "./page.js";

function draw() {
  const { hand } = page.me.seat;
  const button = byId("hand");
  button.setAttribute("aria-pressed", String(hand !== null));
  button.textContent = hand === null ? t("Raise hand") : t("Hand is up");
  button.title =
    hand === null
      ? t("Your teacher sees that you want to ask something.")
      : t("Since {time}. Press to take it down.", { time: when(hand) });
}

export function start() {
  byId("hand").addEventListener("click", async () => {
    try {
      page.me.seat.hand = (await send("POST", "/api/hand", { up: page.me.seat.hand === null })).hand;
      tell("me");
    } catch (problem) {
      complain(problem);
    }
  });
  on("me", draw);
}
