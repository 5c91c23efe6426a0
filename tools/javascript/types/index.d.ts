// What the scripts of the pages share: the ids of the pages, attributes of elements, and what goes between them.
import type { EventName } from "./server";
export type { Ids } from "./ids";
export * from "./server";

/** What `make` takes: a text, listeners, and attributes. */
export interface Attributes {
  text?: string;
  on?: { [name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[name]) => unknown };
  [attribute: string]: unknown;
}

/** Whether a stream is connected: "waiting" is before another attempt, "closed" after the server has refused it. */
export type Status = "open" | "waiting" | "closed";

/** An event of a stream. id: null for one that cannot be asked for again. */
export interface StreamEvent {
  id: string | null;
  event: EventName;
  data: any;
}

/** Who hears a stream. since: the id of the last event that is known already. answer: an HTTP status, or 0. */
export interface Ears {
  since?: string | null;
  onEvent: (event: StreamEvent) => void;
  onStatus: (status: Status, answer: number) => void;
}

/** A function for each kind of event. */
export type Handlers = { [name in EventName]?: (data: any, event: { id: string | null; event: EventName }) => any };

/** What a page says to the worker that has the streams, and what that says to a page. */
export type FromTab = { say: "hear"; url: string; since: string | null } | { say: "here" } | { say: "wake" } | { say: "bye" };
export type ToTab =
  | ({ say: "event" } & StreamEvent)
  | { say: "status"; status: Status; answer: number }
  | { say: "ping" }
  | { say: "again" };
