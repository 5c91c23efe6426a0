// What the server sends to the pages, named as in proxybox/classroom. Times are in seconds since the epoch.

/** How a run has ended. status: as a Result has it. line: where it stood; loop: the line of the loop that it was in. */
export interface Ended {
  status: string;
  why?: string | null;
  hint?: string | null;
  line?: number | null;
  loop?: number | null;
  seconds: number;
}

export type RunKind = "run" | "check" | "repl";

/** What runs. at: when it began. */
export interface RunBegun {
  run: string;
  kind: RunKind;
  exercise: string;
  at: number;
}

/** The event at the end of a run. */
export interface Finished extends Ended {
  run: string;
  kind: RunKind;
  exercise: string;
  truncated?: boolean;
  error?: { type: string; message: string; line?: number | null; traceback?: string } | null;
}

/** results.py: how many tests have passed, of how many, and points, of those that could be had. */
export interface Score {
  passed: number;
  total: number;
  points: number;
  possible: number;
}

export interface TestResult {
  name: string;
  status: string;
  message: string;
  output: string;
  points: number;
  possible: number;
  line?: number | null;
}

/** What came of the tests. hidden: tests of which only these numbers are known. */
export interface Results extends Score {
  at: number;
  tests: TestResult[];
  hidden: { passed: number; total: number };
  message: string;
  is_outdated?: boolean;
}

/** A hand-in in short. graded: when it was graded again. earlier: its grade by the tests of before. */
export interface Mark {
  at: number;
  late: boolean;
  score: Score | null;
  graded: number | null;
  is_due: boolean;
  has_failed: boolean;
  is_outdated: boolean;
  earlier: { at: number; score: Score | null } | null;
}

export interface HandedIn extends Mark {
  id: string;
  results: Results | null;
}

/** A student's own seat. hand: when it went up. */
export interface Seat {
  id: string;
  name: string;
  personal: string;
  hand: number | null;
  exercise: string | null;
  locked: boolean;
}

/** An exercise as the list of a course has it; with how far this seat has come. */
export interface Listed {
  id: string;
  title: string;
  deadline: number | null;
  now?: Score | null;
  handed_in?: Mark | null;
}

export interface Course {
  title: string;
  syllabus_html: string | null;
  exercises: Listed[];
}

export interface Share {
  id: string;
  title: string;
  exercise: string;
  by: string;
  at: number;
  files: Record<string, string>;
}

/** The answer of /api/me. event: the last event that it contains; time: the server's clock. */
export interface Me {
  seat: Seat;
  course: Course;
  frozen: boolean;
  pushed: string | null;
  shares: Share[];
  run: RunBegun | null;
  event: string;
  time: number;
}

/** The answer of /api/exercises/{id}. output: the events of the last run. others: files that a program finds beside its own. */
export interface Exercise {
  id: string;
  title: string;
  text_html: string;
  file: string;
  deadline: number | null;
  others?: string[];
  read_only?: string[];
  files: Record<string, string>;
  version: number;
  hints: { total: number; shown: string[] };
  results: Results | null;
  handed_in: HandedIn | null;
  output: { event: string; data: any }[];
  event: string;
}

/** A version of an exercise's files, as listed. why: what it was kept for. size: in characters. */
export interface Version {
  version: number;
  at: number;
  why: string;
  size: number;
}

/** A version with its files. */
export interface Text {
  version: number;
  at: number;
  files: Record<string, string>;
}

/** grid.py: what the teacher sees of a seat at a glance. progress: by exercise. error_at, active: when. */
export interface Row {
  id: string;
  name: string;
  personal: string;
  class: string;
  exercise: string | null;
  progress: Record<string, { now: Score | null; handed_in: Mark | null }>;
  hints: number;
  error: string | null;
  error_at: number | null;
  active: number | null;
  online: boolean;
  running: boolean;
  hand: number | null;
  locked: boolean;
  removed: boolean;
}

/** What holds for all, as an event has it: of the fields that may be missing only who may know them is told. */
export interface RoomState {
  frozen: boolean;
  pushed: string | null;
  whole?: boolean;
  join?: { code: string; addresses: string[]; locked: boolean };
  classes?: { id: string; title: string }[];
  course_fault?: string;
  grading_faults: Record<string, string>;
}

/** What a teacher sees of a seat: the answer of /api/teacher/seats/{id}. */
export interface SeatSeen {
  exercise: string;
  file: string;
  files: Record<string, string>;
  version: number;
  results: Results | null;
  handed_in: HandedIn | null;
  output: { event: string; data: any }[];
  versions: Version[];
}

/** An event of a seat that is watched. */
export interface Watched {
  seat: string;
  event: string;
  data: any;
}

/** Two hand-ins that are alike; share: of their text, 0 to 1. */
export interface Pair {
  first: string;
  second: string;
  share: number;
  is_identical: boolean;
}

/** An error of the class. seats: who has had it. */
export interface ClassError {
  error: string;
  example: string;
  count: number;
  seats: string[];
}
