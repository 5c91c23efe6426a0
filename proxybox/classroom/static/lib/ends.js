// How a run has ended, as a text for its student and for the teacher.

import { number, t } from "./words.js";

/** @param {import("types").Finished} end */
export function endOf({ status, why, hint, line, loop, seconds }) {
  if (status === "time_limit" && loop)
    return t("The time is over: after {seconds} s the program was still in the loop of line {line}.", {
      seconds: number(Math.round(seconds)),
      line: number(loop),
    });
  if (status === "time_limit" && line)
    return t("The time is over: after {seconds} s the program was still in line {line}.", {
      seconds: number(Math.round(seconds)),
      line: number(line),
    });
  /** @type {Record<string, string>} */
  const known = {
    ok: t("Finished."),
    cancelled: t("Stopped."),
    time_limit: t("The time is over: the program was ended."),
    memory_limit: t("The program needed too much memory, and was ended."),
    output_limit: t("The program printed too much, and was ended."),
  };
  return known[status] ?? (hint?.split("\n")[0] || why || status.replaceAll("_", " "));
}
