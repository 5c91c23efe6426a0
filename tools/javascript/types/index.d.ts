// What the scripts of the pages share: the ids of the pages, attributes of elements, and what the server sends.
export type { Ids } from "./ids";

/** What `make` takes: a text, listeners, and attributes. */
export interface Attributes {
  text?: string;
  on?: { [name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[name]) => unknown };
  [attribute: string]: unknown;
}
