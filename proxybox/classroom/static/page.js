// The shared state of the parts of the student's page, and its listeners. It does nothing by itself.
//
// Events: "exercise" (another one is open), "me" (seat, course, frozen), "access" (whether the student can write),
// "results", "handed-in", "connection", "loaded" (no exercise is being loaded any more).

/**
 * @typedef {object} Page `me`, `drafts` and `editor` are there before any part of the page starts.
 * @property {import("types").Me} me the answer of /api/me
 * @property {import("types").Exercise | null} exercise the answer of /api/exercises/{id} for the open one
 * @property {import("./lib/drafts.js").Drafts} drafts
 * @property {import("./editor.js").Editor} editor
 * @property {boolean} isConnected
 */

export const page = /** @type {Page} */ (/** @type {unknown} */ ({ me: null, exercise: null, isConnected: false }));

// The open exercise; the callers need one.
export function exercise() {
  if (page.exercise === null) throw new Error("no exercise is open");
  return page.exercise;
}

/** @type {Map<string, ((data: any) => void)[]>} */
const listeners = new Map();

/** @param {string} name @param {(data: any) => void} call */
export function on(name, call) {
  listeners.set(name, [...(listeners.get(name) ?? []), call]);
}

/** @param {string} name @param {unknown} [data] */
export function tell(name, data) {
  for (const call of listeners.get(name) ?? []) call(data);
}

// Whether nothing can be changed now: everybody is paused, or the seat is locked.
export function isHeld() {
  return page.me === null || page.me.frozen || page.me.seat.locked;
}
