// An editor of several files, which shows one of them. It does not depend on exercises, drafts or the server.

import {
  Annotation,
  Compartment,
  EditorSelection,
  EditorState,
  EditorView,
  HighlightStyle,
  acceptCompletion,
  autocompletion,
  bracketMatching,
  closeBrackets,
  closeBracketsKeymap,
  completionKeymap,
  defaultKeymap,
  drawSelection,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSelectionMatches,
  highlightSpecialChars,
  history,
  historyKeymap,
  indentLess,
  indentMore,
  indentOnInput,
  indentUnit,
  keymap,
  lineNumbers,
  lintGutter,
  localCompletionSource,
  python,
  search,
  searchKeymap,
  setDiagnostics,
  syntaxHighlighting,
  tags,
} from "./vendor/codemirror.js";
import { change } from "./lib/diff.js";
import { t } from "./lib/words.js";

const INDENT = 4;
const LEAVING = 60_000; // ms for which Tab leaves the editor after Escape; any other key ends this at once
export const MOST_CHARACTERS = 1 << 20; // of one file: the server accepts no more

const external = Annotation.define(); // a change that was not typed

// Colours are in style.css, for light and dark.
const highlighting = HighlightStyle.define([
  {
    tag: [tags.keyword, tags.controlKeyword, tags.operatorKeyword, tags.definitionKeyword, tags.moduleKeyword],
    class: "tok-keyword",
  },
  { tag: [tags.string, tags.special(tags.string), tags.docString], class: "tok-string" },
  { tag: [tags.number, tags.bool, tags.null], class: "tok-number" },
  { tag: [tags.comment], class: "tok-comment" },
  {
    tag: [
      tags.function(tags.definition(tags.variableName)),
      tags.function(tags.variableName),
      tags.function(tags.propertyName),
    ],
    class: "tok-function",
  },
  { tag: [tags.className, tags.definition(tags.className)], class: "tok-class" },
  { tag: [tags.meta, tags.escape], class: "tok-meta" },
  { tag: tags.invalid, class: "tok-invalid" },
]);

// The tab key adds spaces up to the next multiple of four; with a selection, it indents the lines.
/** @param {EditorView} view */
function indent(view) {
  const { state } = view;
  if (state.readOnly) return false;
  if (state.selection.ranges.some((range) => !range.empty)) return indentMore(view);
  view.dispatch(
    state.changeByRange((range) => {
      const column = range.head - state.doc.lineAt(range.head).from;
      const spaces = " ".repeat(INDENT - (column % INDENT));
      return {
        changes: { from: range.head, insert: spaces },
        range: EditorSelection.cursor(range.head + spaces.length),
      };
    }),
    { scrollIntoView: true, userEvent: "input.indent" },
  );
  return true;
}

/**
 * @typedef {object} EditorOptions
 * @property {string} nonce
 * @property {(name: string) => string} label
 * @property {string | null} [describedBy]
 * @property {((where: {code: string, cursor: number}) => Promise<{start: number, matches: string[]} | null>) | null} [complete]
 * @property {(name: string, text: string) => void} [onChange]
 * @property {(name: string) => void} [onTooLong]
 * @property {import("./vendor/codemirror.js").KeyBinding[]} [keys]
 */

// The nonce that the page's Content-Security-Policy requires for style elements.
export function nonce() {
  return /** @type {HTMLMetaElement | null} */ (document.querySelector('meta[name="csp-nonce"]'))?.content ?? "";
}

export class Editor {
  // nonce: for the editor's style element. label(name): the label of the field. complete({code, cursor}) -> {start,
  // matches} in code points, or null. onChange(name, text): called for typed changes. keys: [{key, run}] that come
  // before the editor's own.
  /** @param {HTMLElement} parent @param {EditorOptions} options */
  constructor(
    parent,
    { nonce, label, describedBy = null, complete = null, onChange = () => {}, onTooLong = () => {}, keys = [] },
  ) {
    this.nonce = nonce;
    this.label = label;
    this.describedBy = describedBy;
    this.complete = complete;
    this.onChange = onChange;
    this.onTooLong = onTooLong;
    this.keys = keys;
    /** @type {Map<string, EditorState>} */
    this.states = new Map(); // name -> EditorState of the hidden files
    /** @type {string | null} */
    this.name = null;
    this.isReadOnly = false;
    /** @type {{name: string, from: number, to: number} | null} */
    this.marked = null; // {name, from, to}: the marked line
    this.access = new Compartment();
    this.view = new EditorView({ parent, state: this.#state("", "") });
  }

  get names() {
    return [...this.states.keys()];
  }

  // All texts: {name: text}.
  get files() {
    return Object.fromEntries(this.names.map((name) => [name, this.text(name)]));
  }

  /** @param {string} name */
  text(name) {
    return this.#stateOf(name)?.doc.toString() ?? "";
  }

  /** @param {string} name @returns {EditorState | undefined} */
  #stateOf(name) {
    return name === this.name ? this.view.state : this.states.get(name);
  }

  // Replaces all files.
  /** @param {Record<string, string>} files @param {string | null} show the file that is seen; null: the first one */
  open(files, show = null) {
    this.states.clear();
    this.marked = null;
    this.name = null;
    for (const [name, text] of Object.entries(files)) this.states.set(name, this.#state(name, text));
    const first = show !== null && this.states.has(show) ? show : this.names.at(0);
    if (first === undefined) this.view.setState(this.#state("", ""));
    else this.show(first);
  }

  /** @param {string} name */
  show(name) {
    const state = this.states.get(name);
    if (state === undefined) return;
    if (this.name !== null) this.states.set(this.name, this.view.state);
    this.name = name;
    this.view.setState(this.states.get(name) ?? state);
    this.#setAccess();
  }

  /** @param {string} name */
  add(name, text = "") {
    this.states.set(name, this.#state(name, text));
  }

  /** @param {string} name */
  remove(name) {
    this.states.delete(name);
    if (this.name !== name) return;
    this.name = null;
    if (this.names.length > 0) this.show(this.names[0]);
    else this.view.setState(this.#state("", ""));
  }

  // Sets the text of a file. It can be undone, and `onChange` is not called.
  /** @param {string} name @param {string} text */
  set(name, text) {
    const state = this.states.has(name) ? this.#stateOf(name) : undefined;
    if (state === undefined) {
      this.add(name, text);
      return;
    }
    if (state.doc.toString() === text) return;
    const transaction = { changes: change(state.doc.toString(), text), annotations: external.of(true) };
    if (name === this.name) this.view.dispatch(transaction);
    else {
      this.states.set(name, state.update(transaction).state);
      if (name === this.marked?.name) this.clearMarks();
    }
  }

  /** @param {boolean} isReadOnly */
  setReadOnly(isReadOnly) {
    this.isReadOnly = isReadOnly;
    this.#setAccess();
  }

  #setAccess() {
    this.view.dispatch({ effects: this.access.reconfigure(this.#access()) });
  }

  #access() {
    const fixed = this.isReadOnly; // it can still be focused, read and copied from
    return [EditorState.readOnly.of(fixed), EditorView.contentAttributes.of(fixed ? { "aria-readonly": "true" } : {})];
  }

  // Marks the line of an error, in the gutter and in the text, until that line is changed.
  /** @param {string} name @param {number} line @param {string} message */
  mark(name, line, message) {
    const state = this.#stateOf(name);
    if (!state || line < 1 || line > state.doc.lines) return;
    const { from, to, text } = state.doc.line(line);
    const start = from + text.length - text.trimStart().length;
    this.#apply(name, setDiagnostics(state, [{ from: Math.min(start, to), to, severity: "error", message }]));
    this.marked = { name, from, to };
  }

  // Moves the mark with a change of the visible file; a change of the marked line removes it.
  /** @param {import("./vendor/codemirror.js").ViewUpdate} update */
  #follow({ changes }) {
    if (this.marked === null || this.marked.name !== this.name) return;
    const { name, from, to } = this.marked;
    if (changes.touchesRange(from, to)) this.clearMarks();
    else this.marked = { name, from: changes.mapPos(from, 1), to: changes.mapPos(to, -1) };
  }

  clearMarks() {
    this.marked = null;
    for (const name of this.names) {
      const state = this.#stateOf(name);
      if (state !== undefined) this.#apply(name, setDiagnostics(state, []));
    }
  }

  /** @param {string} name @param {import("./vendor/codemirror.js").TransactionSpec} change */
  #apply(name, change) {
    const state = this.states.get(name);
    if (name === this.name) this.view.dispatch(change);
    else if (state !== undefined) this.states.set(name, state.update(change).state);
  }

  // Shows a line, with the cursor in it.
  /** @param {string} name @param {number} line */
  goTo(name, line) {
    if (!this.states.has(name)) return;
    if (name !== this.name) this.show(name);
    const { doc } = this.view.state;
    const { from } = doc.line(Math.max(1, Math.min(line, doc.lines)));
    this.view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
    this.focus();
  }

  focus() {
    this.view.focus();
  }

  /** @param {string} name @param {string} text */
  #state(name, text) {
    return EditorState.create({ doc: text, extensions: this.#extensions(name) });
  }

  /** @param {string} name @returns {import("./vendor/codemirror.js").Extension} */
  #extensions(name) {
    const isPython = /\.pyi?$/.test(name);
    /** @type {Record<string, string>} */
    const attributes = { "aria-label": name ? this.label(name) : t("Editor"), spellcheck: "false", tabindex: "0" };
    if (this.describedBy) attributes["aria-describedby"] = this.describedBy;
    return [
      EditorView.cspNonce.of(this.nonce),
      keymap.of([
        ...this.keys,
        { key: "Tab", run: (view) => acceptCompletion(view) || indent(view), shift: indentLess },
        ...closeBracketsKeymap,
        ...defaultKeymap,
        ...searchKeymap,
        ...historyKeymap,
        ...completionKeymap,
      ]),
      lineNumbers(),
      lintGutter(),
      highlightActiveLineGutter(),
      highlightSpecialChars(),
      history(),
      drawSelection(),
      indentUnit.of(" ".repeat(INDENT)),
      EditorState.tabSize.of(INDENT),
      indentOnInput(),
      bracketMatching(),
      closeBrackets(),
      highlightActiveLine(),
      highlightSelectionMatches(),
      search({ top: true }),
      syntaxHighlighting(highlighting),
      EditorState.allowMultipleSelections.of(true),
      EditorState.phrases.of(phrases()),
      isPython ? python() : EditorView.lineWrapping,
      isPython && this.complete
        ? autocompletion({ override: [(context) => this.#complete(context), localCompletionSource], icons: false })
        : [],
      EditorView.contentAttributes.of(attributes),
      // Tab leaves the editor after Escape, even if Escape also closes completions. The editor's own two seconds for
      // that are too short for some people.
      EditorView.domEventObservers({
        keydown(event, view) {
          if (event.key === "Escape") queueMicrotask(() => view.setTabFocusMode(LEAVING));
        },
        blur: (event, view) => view.setTabFocusMode(0),
      }),
      this.access.of(this.#access()),
      EditorState.transactionFilter.of((change) => {
        if (!change.docChanged || change.newDoc.length <= MOST_CHARACTERS || change.annotation(external)) return change;
        this.onTooLong(name);
        return [];
      }),
      EditorView.updateListener.of((update) => {
        if (!update.docChanged) return;
        this.#follow(update);
        if (update.transactions.some((change) => change.annotation(external))) return;
        if (this.name !== null) this.onChange(this.name, update.state.doc.toString());
      }),
    ];
  }

  // Completions: names in the box come from the server, names in the file are found here. The server counts code
  // points, and the editor UTF-16 units.
  /** @param {import("./vendor/codemirror.js").CompletionContext} context */
  async #complete(context) {
    const before = context.matchBefore(/[\w.]+$/);
    if (!context.explicit && (before === null || !/[A-Za-z_]\w*\.\w*$|\w{2}$/.test(before.text))) return null;
    const code = context.state.doc.toString();
    const cursor = [...code.slice(0, context.pos)].length;
    const found = (await this.complete?.({ code, cursor })) ?? null;
    if (found === null || context.aborted || found.matches.length === 0) return null;
    const from = [...code].slice(0, found.start).join("").length;
    return { from, options: found.matches.map((label) => ({ label })), validFor: /^\w*$/ };
  }
}

// The texts of the editor.
function phrases() {
  return {
    Find: t("Find"),
    Replace: t("Replace"),
    next: t("next"),
    previous: t("previous"),
    all: t("all"),
    "match case": t("match case"),
    regexp: t("regular expression"),
    "by word": t("by word"),
    replace: t("replace"),
    "replace all": t("replace all"),
    close: t("close"),
    "current match": t("current match"),
    "replaced $ matches": t("replaced $ matches"),
    "replaced match on line $": t("replaced match on line $"),
    "on line": t("on line"),
    "Go to line": t("Go to line"),
    go: t("go"),
    Diagnostics: t("Errors"),
    "No diagnostics": t("No errors"),
    Completions: t("Completions"),
    "Control character": t("Control character"),
  };
}
