// Joining: a display for the projector, the lock, and a new code.

import { send } from "../lib/api.js";
import { ask, byId, make } from "../lib/dom.js";
import { n, t } from "../lib/words.js";
import { attempt, note, setText } from "./parts.js";

export class Joining {
  /** @param {import("./room.js").Room} room */
  constructor(room) {
    this.room = room;
    this.dialog = byId("join");
    byId("join-open").addEventListener("click", () => this.#open());
    byId("join-close").addEventListener("click", () => this.dialog.close());
    byId("join-lock").addEventListener("click", () =>
      attempt(() => send("POST", "/api/teacher/lock", { locked: !room.join.locked })),
    );
    byId("join-new").addEventListener("click", () => this.#new());
    room.on("state", () => this.#show());
    room.on("rows", () => this.#count());
  }

  #open() {
    byId("join-qr").src = `/api/teacher/qr.svg?${encodeURIComponent(this.room.join.addresses[0] ?? "")}`;
    this.dialog.showModal();
  }

  #show() {
    const { code, addresses, locked } = this.room.join;
    setText(byId("join-chip"), locked ? t("locked") : code);
    setText(byId("join-code"), code);
    const address = (addresses[0] ?? "").replace(/\/$/, "");
    setText(byId("join-address"), address);
    byId("join-address").style.setProperty("--letters", String(Math.max(1, address.length)));
    const others = addresses.slice(1);
    byId("join-others").hidden = others.length === 0;
    byId("join-others").replaceChildren(
      ...(others.length
        ? [
            make("span", { text: t("If that does not open:") }),
            ...others.map((url) => make("span", { class: "address", text: url })),
          ]
        : []),
    );
    byId("join-locked").hidden = !locked;
    setText(byId("join-lock"), locked ? t("Let students join") : t("Lock joining"));
  }

  #count() {
    setText(byId("join-count"), n("{count} student has joined", "{count} students have joined", this.room.seats.length));
  }

  async #new() {
    const about = make("p", { text: t("The code that is shown now no longer works. Who has joined stays.") });
    if (!(await ask({ title: t("Make a new code?"), fields: [about], yes: t("New code"), no: t("Cancel") }))) return;
    await attempt(
      () => send("POST", "/api/teacher/code"),
      () => note(t("There is a new code.")),
    );
  }
}
