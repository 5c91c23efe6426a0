// The events of the server's streams, by the names that it has for them (proxybox/classroom/pageevents.py, which a test compares
// with this list). Nobody listens to an event that is not here: a name that is misspelt fails at once.

const EVENTS = new Set([
  "seat",
  "removed",
  "share",
  "state",
  "row",
  "hello",
  "resync",
  "watched",
  "run",
  "out",
  "given",
  "input",
  "clear",
  "value",
  "display",
  "finished",
  "saved",
  "text",
  "checked",
  "graded",
  "freeze",
  "push",
  "unshare",
  "course",
  "errors",
]);

// Returns handlers by the names of events, once all of these are known.
/** @param {import("types").Handlers} handlers */
export function known(handlers) {
  for (const name of Object.keys(handlers)) if (!EVENTS.has(name)) throw new Error(`there is no event ${name}`);
  return handlers;
}
