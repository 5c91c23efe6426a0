// Similar hand-ins: a list of pairs, and two hand-ins side by side.

import { get } from "../lib/api.js";
import { byId, make } from "../lib/dom.js";
import { lines } from "../lib/diff.js";
import { n, t } from "../lib/words.js";
import { attempt, button, choices } from "./parts.js";

/** @import { Pair } from "types" */
/** @import { Line } from "../lib/diff.js" */

const MOST = 50; // pairs that are listed

export class Similar {
  /** @param {import("./room.js").Room} room */
  constructor(room) {
    this.room = room;
    this.exercise = byId("similar-exercise");
    this.dialog = byId("compare");
    byId("similar-look").addEventListener("click", () => this.#look());
    byId("compare-close").addEventListener("click", () => this.dialog.close());
    this.percent = new Intl.NumberFormat(document.documentElement.lang || "en", { style: "percent" });
    room.on("rows", () =>
      choices(
        this.exercise,
        room.course.exercises.map(({ id, title }) => [id, title]),
      ),
    );
  }

  async #look() {
    const exercise = this.exercise.value;
    const query = new URLSearchParams({ exercise });
    if (this.room.chosen !== null) query.set("class", this.room.chosen);
    const place = byId("similar-pairs");
    place.replaceChildren(make("p", { class: "faint", text: t("Comparing…") }));
    const done = await attempt(
      () => get(`/api/teacher/similar?${query}`, { timeout: 120_000 }),
      (/** @type {{pairs: Pair[], count: number, too_short: string[]}} */ { pairs, count, too_short: short }) => {
        const compared = count - short.length;
        place.replaceChildren(
          pairs.length
            ? this.#table(pairs.slice(0, MOST), exercise)
            : make("p", {
                text: compared > 1 ? t("No two hand-ins of this exercise are alike.") : t("There is nothing to compare."),
              }),
        );
        if (short.length > 0)
          place.append(
            make("p", {
              class: "quiet",
              text: n(
                "{count} hand-in is too short to compare: it is listed only where another one is the same.",
                "{count} hand-ins are too short to compare: they are listed only where they are the same.",
                short.length,
              ),
            }),
          );
      },
    );
    if (!done) place.replaceChildren();
  }

  /** @param {Pair[]} pairs @param {string} exercise */
  #table(pairs, exercise) {
    const { room } = this;
    const body = pairs.map(({ first, second, share, is_identical: same }) =>
      make(
        "tr",
        {},
        make("td", { class: "share", text: same ? t("identical") : this.percent.format(share) }),
        make("td", { text: room.name(first) }),
        make("td", { text: room.name(second) }),
        make(
          "td",
          {},
          button(t("Compare"), () => this.#compare(first, second, exercise), {
            class: "plain small",
            "aria-label": t("Compare {first} with {second}", { first: room.name(first), second: room.name(second) }),
          }),
        ),
      ),
    );
    const head = make(
      "tr",
      {},
      ...[t("Alike"), t("First"), t("Second"), ""].map((text) => (text ? make("th", { scope: "col", text }) : make("td"))),
    );
    return make("table", { class: "pairs" }, make("thead", {}, head), make("tbody", {}, ...body));
  }

  /** @param {string} first @param {string} second @param {string} exercise */
  #compare(first, second, exercise) {
    /** @param {string} seat */
    const path = (seat) =>
      `/api/teacher/seats/${encodeURIComponent(seat)}/exercises/${encodeURIComponent(exercise)}/handed-in`;
    return attempt(
      () => Promise.all([get(path(first)), get(path(second))]),
      ([one, other]) => {
        byId("compare-first").textContent = this.room.name(first);
        byId("compare-second").textContent = this.room.name(second);
        byId("compare-rows").replaceChildren(...sideBySide(together(one.files), together(other.files)));
        this.dialog.showModal();
        byId("compare-scroll").focus();
      },
    );
  }
}

// All files in one text, each below its name if there are several.
/** @param {Record<string, string>} files */
function together(files) {
  const all = Object.entries(files).filter(([name]) => name.endsWith(".py"));
  if (all.length === 1) return all[0][1];
  return all.map(([name, text]) => `# ${name}\n${text}`).join("\n");
}

/** @param {string} left @param {string} right */
function sideBySide(left, right) {
  /** @type {HTMLElement[]} */
  const rows = [];
  /** @type {Line[]} */
  let gone = [];
  /** @type {Line[]} */
  let fresh = [];
  const flush = () => {
    for (let i = 0; i < Math.max(gone.length, fresh.length); i += 1) rows.push(row(gone[i], fresh[i], "differs"));
    gone = [];
    fresh = [];
  };
  for (const line of lines(left, right)) {
    if (line.kind === "gone") gone.push(line);
    else if (line.kind === "new") fresh.push(line);
    else {
      flush();
      rows.push(row(line, line, "same"));
    }
  }
  flush();
  return rows;
}

/** @param {Line | undefined} left @param {Line | undefined} right @param {string} kind */
function row(left, right, kind) {
  /** @param {Line | undefined} line @param {"before" | "after"} number */
  const cells = (line, number) => [
    make("td", { class: "number", text: line ? String(line[number]) : "" }),
    make("td", { class: line ? "" : "nothing" }, make("code", { text: line ? line.text : "" })),
  ];
  return make("tr", { class: kind }, ...cells(left, "before"), ...cells(right, "after"));
}
