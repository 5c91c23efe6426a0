// Texts about a seat's state, and which seats need help.

import { t } from "../lib/words.js";

/** @import { Row } from "types" */

const STUCK = 120; // seconds with the same error
const STILL = 300; // seconds without a change or a run, before all tests have passed

const language = document.documentElement.lang || "en";
/** @type {Map<string, Intl.NumberFormat>} */
const units = new Map();

/** @param {number} value @param {string} name */
function unit(value, name) {
  const format =
    units.get(name) ??
    new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "narrow", maximumFractionDigits: 0 });
  units.set(name, format);
  return format.format(value);
}

// A duration in its largest unit; seconds in steps, so that a page full of clocks does not flicker.
/** @param {number} seconds */
export function lasted(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return unit(whole < 10 ? whole : whole - (whole % 5), "second");
  if (whole < 3600) return unit(Math.floor(whole / 60), "minute");
  if (whole < 86_400) return unit(Math.floor(whole / 3600), "hour");
  return unit(Math.floor(whole / 86_400), "day");
}

// The progress of a seat in an exercise, by default the open one: {now: the test results of the current files;
// handed_in: the hand-in with its grade}; each null if there is none.
/** @param {Row} row */
export function progressOf(row, exercise = row.exercise) {
  return row.progress[exercise ?? ""] ?? { now: null, handed_in: null };
}

// The score that counts: that of the hand-in; without a hand-in, the current one; null if there is none.
/** @param {Row} row */
export function scoreOf(row, exercise = row.exercise) {
  const { now, handed_in: handed } = progressOf(row, exercise);
  return handed ? handed.score : now;
}

/** @param {Row} row */
export function isDone(row, exercise = row.exercise) {
  const score = scoreOf(row, exercise);
  return score !== null && score.total > 0 && score.passed >= score.total;
}

/** @param {import("types").Score} score */
export function ofAll({ passed, total }) {
  return `${passed}/${total}`;
}

// The grade of the hand-in beside the current state, such as "4/4 in, now 0/4"; "" if there is neither.
/** @param {Row} row */
export function gradeText(row, exercise = row.exercise) {
  const { now, handed_in: handed } = progressOf(row, exercise);
  if (!handed) return now ? ofAll(now) : "";
  const grade = handed.score ? t("{grade} in", { grade: ofAll(handed.score) }) : t("in");
  return now && (!handed.score || ofAll(now) !== ofAll(handed.score))
    ? t("{handed}, now {now}", { handed: grade, now: ofAll(now) })
    : grade;
}

// Why a seat needs help: "hand", "error", "still", or "" if it does not.
/** @param {Row} row @param {number} now */
export function needs(row, now) {
  if (row.hand) return "hand";
  if (!row.online || isDone(row) || progressOf(row).handed_in) return "";
  if (row.error && row.error_at && now - row.error_at > STUCK) return "error";
  if (row.active && now - row.active > STILL) return "still";
  return "";
}

/** @param {string} why */
export function needsText(why) {
  if (why === "hand") return t("Hand raised");
  if (why === "error") return t("The same error for a while");
  if (why === "still") return t("Nothing has changed for a while");
  return "";
}
