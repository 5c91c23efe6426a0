// What the parts of the student's page share: what is known, and who is told when it changes. It does nothing by itself.
//
// Told: "exercise" (another one is open), "me" (seat, course, frozen), "access" (whether one can write), "results",
// "handed-in", "connection", "loaded" (no exercise is being loaded any more).

export const page = {
  me: null, // the answer of /api/me
  exercise: null, // the answer of /api/exercises/{id} for the open one
  drafts: null,
  editor: null,
  isConnected: false,
};

const listeners = new Map();

export function on(name, call) {
  listeners.set(name, [...(listeners.get(name) ?? []), call]);
}

export function tell(name, data) {
  for (const call of listeners.get(name) ?? []) call(data);
}

// Whether nothing can be changed now: all look at the teacher, or the seat is locked.
export function isHeld() {
  return page.me === null || page.me.frozen || page.me.seat.locked;
}
