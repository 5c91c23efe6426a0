// What the server sends to the pages. Times are in seconds since the epoch.

/** How a run has ended. status: as a Result has it. line: where it stood; loop: the line of the loop that it was in. */
export interface Ended {
  status: string;
  why?: string | null;
  hint?: string | null;
  line?: number | null;
  loop?: number | null;
  seconds: number;
}
