// What can be told of a seat at a glance, and who needs help.

import { t } from "../lib/words.js";

const STUCK = 120; // seconds with the same error
const STILL = 300; // seconds without a change or a run, before all tests have passed

const language = document.documentElement.lang || "en";
const units = new Map();

function unit(value, name) {
  if (!units.has(name)) {
    units.set(
      name,
      new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "narrow", maximumFractionDigits: 0 }),
    );
  }
  return units.get(name).format(value);
}

// How long something has lasted, in its largest unit; seconds in steps, so that a page full of clocks stays calm.
export function lasted(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return unit(whole < 10 ? whole : whole - (whole % 5), "second");
  if (whole < 3600) return unit(Math.floor(whole / 60), "minute");
  if (whole < 86_400) return unit(Math.floor(whole / 3600), "hour");
  return unit(Math.floor(whole / 86_400), "day");
}

export function isDone(row) {
  return row.total > 0 && row.passed >= row.total;
}

// Why a seat needs help: "hand", "error", "still", or "" where it does not.
export function needs(row, now) {
  if (row.hand) return "hand";
  if (!row.online || isDone(row) || row.handed_in.includes(row.exercise)) return "";
  if (row.error && row.error_at && now - row.error_at > STUCK) return "error";
  if (row.active && now - row.active > STILL) return "still";
  return "";
}

export function needsText(why) {
  if (why === "hand") return t("Hand raised");
  if (why === "error") return t("The same error for a while");
  if (why === "still") return t("Nothing has changed for a while");
  return "";
}
