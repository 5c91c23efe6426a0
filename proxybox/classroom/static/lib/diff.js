// What changed between two texts: as one change, and line by line (Myers, "An O(ND) Difference Algorithm and Its
// Variations", 1986).

/** @typedef {{kind: "same" | "gone" | "new", text: string, before?: number, after?: number}} Line */

// The one change that leads from a text to another: equal text at both ends stays, and so does a cursor in it.
/** @param {string} before @param {string} after */
export function change(before, after) {
  const [from, end] = sameAtEnds(before, after);
  return { from, to: before.length - end, insert: after.slice(from, after.length - end) };
}

// How many items (characters, lines) two sequences have in common at the beginning, and of the rest at the end.
/** @param {ArrayLike<string>} a @param {ArrayLike<string>} b */
function sameAtEnds(a, b) {
  const most = Math.min(a.length, b.length);
  let start = 0;
  while (start < most && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < most - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  return [start, end];
}

const MOST_EDITS = 1_500; // beyond these, everything in between counts as changed

// Returns [{kind: "same" | "gone" | "new", text, before, after}]: before and after are the lines' numbers, from 1.
/** @param {string} before @param {string} after @returns {Line[]} */
export function lines(before, after) {
  const a = before.split("\n");
  const b = after.split("\n");
  const [start, end] = sameAtEnds(a, b);
  /** @param {number} from @param {number} count @returns {Line[]} */
  const same = (from, count) =>
    a.slice(from, from + count).map((text) => ({ kind: "same", text }));
  const rows = [
    ...same(0, start),
    ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...same(a.length - end, end),
  ];
  let [left, right] = [0, 0];
  for (const row of rows) {
    if (row.kind !== "new") row.before = left += 1;
    if (row.kind !== "gone") row.after = right += 1;
  }
  return rows;
}

/** @param {string[]} a @param {string[]} b @returns {Line[]} */
function middle(a, b) {
  /** @param {"gone" | "new"} kind @param {string[]} texts @returns {Line[]} */
  const changed = (kind, texts) => texts.map((text) => ({ kind, text }));
  const all = () => [...changed("gone", a), ...changed("new", b)];
  if (a.length === 0 || b.length === 0) return all();
  const trace = [];
  const most = Math.min(a.length + b.length, MOST_EDITS);
  const far = new Map([[1, 0]]);
  /** @param {number} k */
  const at = (k) => far.get(k) ?? 0;
  for (let edits = 0; edits <= most; edits += 1) {
    trace.push(new Map(far));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && at(k - 1) < at(k + 1));
      let x = down ? at(k + 1) : at(k - 1) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      far.set(k, x);
      if (x >= a.length && x - k >= b.length) return path(a, b, trace);
    }
  }
  return all();
}

/** @param {string[]} a @param {string[]} b @param {Map<number, number>[]} trace @returns {Line[]} */
function path(a, b, trace) {
  /** @type {Line[]} */
  const rows = [];
  let [x, y] = [a.length, b.length];
  for (let edits = trace.length - 1; edits >= 0; edits -= 1) {
    /** @param {number} diagonal */
    const far = (diagonal) => trace[edits].get(diagonal) ?? 0;
    const k = x - y;
    const down = k === -edits || (k !== edits && far(k - 1) < far(k + 1));
    const from = down ? k + 1 : k - 1;
    const fromX = edits === 0 ? 0 : far(from);
    const fromY = edits === 0 ? 0 : fromX - from;
    while (x > fromX && y > fromY && (edits === 0 || x > (down ? fromX : fromX + 1))) {
      rows.push({ kind: "same", text: a[x - 1] });
      [x, y] = [x - 1, y - 1];
    }
    if (edits > 0) {
      rows.push(down ? { kind: "new", text: b[y - 1] } : { kind: "gone", text: a[x - 1] });
      [x, y] = [fromX, fromY];
    }
  }
  return rows.reverse();
}
