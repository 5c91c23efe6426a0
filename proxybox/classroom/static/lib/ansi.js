// Escape sequences of terminals (ECMA-48), to text with classes: the colours of SGR become classes, all others are
// removed.

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
// The approximate values of the sixteen colours. Any other colour becomes the nearest one, so that all are readable in
// each theme.
const PLACES = [
  [0, 0, 0],
  [205, 0, 0],
  [0, 205, 0],
  [205, 205, 0],
  [0, 0, 238],
  [205, 0, 205],
  [0, 205, 205],
  [229, 229, 229],
  [127, 127, 127],
  [255, 0, 0],
  [0, 255, 0],
  [255, 255, 0],
  [92, 92, 255],
  [255, 0, 255],
  [0, 255, 255],
  [255, 255, 255],
];
const LONGEST = 4096; // characters of an incomplete sequence
// A CSI, OSC (or DCS, PM, APC, SOS), other escape, or a control that is not a newline, return or tab.
/* eslint-disable no-control-regex */
const SEQUENCE =
  /\x1b\[([\d;:]*)([ -/<-?]*[\d;:]*)([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\^-~]|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]/g;
const BEGUN = /\x1b(?:\[[\d;:<-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)$/;
/* eslint-enable no-control-regex */

export class Ansi {
  rest = "";
  /** @type {Set<string>} */
  styles = new Set();
  /** @type {string | null} */
  colour = null;
  /** @type {string | null} */
  ground = null;

  #reset() {
    this.styles.clear();
    this.colour = null;
    this.ground = null;
  }

  // The classes of the next text.
  get classes() {
    const classes = [...this.styles].map((style) => `ansi-${style}`);
    if (this.colour !== null) classes.push(`ansi-${this.colour}`);
    if (this.ground !== null) classes.push(`ansi-on-${this.ground}`);
    return classes.join(" ");
  }

  // Parses a piece of text; returns [{text, classes}]. An incomplete sequence waits for the next piece.
  /** @param {string} piece */
  read(piece) {
    let text = this.rest + piece;
    const begun = text.match(BEGUN);
    this.rest = begun && begun[0].length < LONGEST ? begun[0] : "";
    if (begun) text = text.slice(0, begun.index);
    /** @type {{text: string, classes: string}[]} */
    const parts = [];
    let at = 0;
    /** @param {number} end */
    const add = (end) => {
      if (end > at) parts.push({ text: text.slice(at, end), classes: this.classes });
    };
    for (const found of text.matchAll(SEQUENCE)) {
      add(found.index);
      at = found.index + found[0].length;
      if (found[3] === "m" && !found[2]) this.#select(found[1]);
    }
    add(text.length);
    return parts;
  }

  /** @param {string} parameters */
  #select(parameters) {
    const codes = parameters.split(/[;:]/).map(Number);
    for (let i = 0; i < codes.length; i += 1) {
      const code = codes[i];
      if (code === 0) this.#reset();
      else if (code === 1) this.styles.add("bold");
      else if (code === 2) this.styles.add("faint");
      else if (code === 3) this.styles.add("italic");
      else if (code === 4) this.styles.add("underline");
      else if (code === 7) this.styles.add("reverse");
      else if (code === 9) this.styles.add("struck");
      else if (code === 22) ["bold", "faint"].forEach((style) => this.styles.delete(style));
      else if (code === 23) this.styles.delete("italic");
      else if (code === 24) this.styles.delete("underline");
      else if (code === 27) this.styles.delete("reverse");
      else if (code === 29) this.styles.delete("struck");
      else if (code >= 30 && code <= 37) this.colour = NAMES[code - 30];
      else if (code >= 90 && code <= 97) this.colour = `bright-${NAMES[code - 90]}`;
      else if (code === 39) this.colour = null;
      else if (code >= 40 && code <= 47) this.ground = NAMES[code - 40];
      else if (code >= 100 && code <= 107) this.ground = NAMES[code - 100];
      else if (code === 49) this.ground = null;
      else if (code === 38 || code === 48) {
        const taken = codes[i + 1] === 5 ? 2 : codes[i + 1] === 2 ? 4 : 0;
        const name = named(codes.slice(i + 1, i + 1 + taken));
        if (name !== null && code === 38) this.colour = name;
        if (name !== null && code === 48) this.ground = name.replace("bright-", "");
        i += taken;
      }
    }
  }
}

// The nearest of the sixteen colours: of 5;N or 2;R;G;B.
/** @param {number[]} code */
function named(code) {
  const [form, ...values] = code;
  let place = values;
  if (form === 5) {
    const [index] = values;
    if (!(index >= 0 && index <= 255)) return null;
    if (index < 16) return index < 8 ? NAMES[index] : `bright-${NAMES[index - 8]}`;
    /** @param {number} digit */
    const cube = (digit) => (digit ? 55 + 40 * digit : 0);
    const six = index - 16;
    place =
      index >= 232
        ? Array(3).fill(8 + 10 * (index - 232))
        : [Math.floor(six / 36), Math.floor(six / 6) % 6, six % 6].map(cube);
  }
  if (place.length !== 3 || !place.every((value) => value >= 0 && value <= 255)) return null;
  const far = PLACES.map((each) => each.reduce((sum, value, i) => sum + (value - place[i]) ** 2, 0));
  const index = far.indexOf(Math.min(...far));
  return index < 8 ? NAMES[index] : `bright-${NAMES[index - 8]}`;
}
