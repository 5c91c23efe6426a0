// Elements of the page. Text from a person or a program is set as text, never as HTML.

/**
 * An element of the page, of the kind that the page has under this id.
 * @template {keyof import("types").Ids} Id
 * @param {Id} id
 * @returns {import("types").Ids[Id]}
 */
export function byId(id) {
  return /** @type {any} */ (document.getElementById(id));
}

/** @typedef {Node | string | null | undefined} Child */

// make("button", {class: "quiet", text: "Run", type: "button", on: {click}}, ...children): an element. Attributes that are
// null or false are left out, true ones are empty.
/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {import("types").Attributes} attributes
 * @param {Child[]} children
 */
export function make(tag, { text, on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  if (text !== undefined) element.textContent = text;
  for (const [name, call] of Object.entries(on)) element.addEventListener(name, /** @type {EventListener} */ (call));
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
  return element;
}

// Sets HTML that the server has made from Markdown, without HTML in the Markdown. For values whose keys end in `_html`,
// and for nothing else. Its highest headings get the level `top`.
/** @param {HTMLElement} element @param {string} html */
export function setTrusted(element, html, { top = 3 } = {}) {
  element.innerHTML = html;
  const headings = [...element.querySelectorAll("h1, h2, h3, h4, h5, h6")];
  const highest = Math.min(...headings.map((heading) => Number(heading.localName[1])));
  for (const heading of headings) {
    const moved = document.createElement(`h${Math.min(6, Number(heading.localName[1]) - highest + top)}`);
    moved.append(...heading.childNodes);
    heading.replaceWith(moved);
  }
  for (const table of /** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll("table, pre"))) table.tabIndex = 0; // they may scroll
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (element.querySelectorAll("a[href]"))) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
}

// Says something to users of screen readers; `assertive`: at once.
/** @param {string} text */
export function announce(text, { assertive = false } = {}) {
  const region = byId(assertive ? "alert" : "announcer");
  if (region === null) return;
  region.textContent = "";
  setTimeout(() => {
    region.textContent = text;
  }, 50);
}

// A list of tabs (https://www.w3.org/WAI/ARIA/apg/patterns/tabs/): arrow keys move to a tab and show it. Returns a
// function that shows the tab of an id. `onShow` gets the id of its panel.
/**
 * @param {HTMLElement} list
 * @param {(panel: string) => void} onShow
 */
export function tabs(list, onShow = () => {}) {
  const all = () => [.../** @type {NodeListOf<HTMLElement>} */ (list.querySelectorAll('[role="tab"]'))];
  /** @param {HTMLElement} tab */
  const panelOf = (tab) => tab.getAttribute("aria-controls") ?? "";
  /** @param {HTMLElement | undefined} tab */
  const show = (tab, focus = false) => {
    if (tab === undefined) return;
    for (const each of all()) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      const panel = document.getElementById(panelOf(each));
      if (panel) panel.hidden = !chosen;
    }
    if (focus) tab.focus();
    onShow(panelOf(tab));
  };
  list.addEventListener("click", (event) => {
    show(closest(event, '[role="tab"]') ?? undefined);
  });
  arrows(list, all, (tab) => show(tab, true));
  /** @param {string} panel */
  return (panel) => show(all().find((tab) => panelOf(tab) === panel));
}

// The nearest ancestor of an event's target that matches.
/**
 * @param {Event} event
 * @param {string} selector
 * @returns {HTMLElement | null}
 */
export function closest(event, selector) {
  return event.target instanceof Element ? event.target.closest(selector) : null;
}

// Arrow keys, Home and End move along a row of elements.
/**
 * @param {HTMLElement} list
 * @param {() => HTMLElement[]} all
 * @param {(element: HTMLElement) => void} go
 */
export function arrows(list, all, go) {
  list.addEventListener("keydown", (event) => {
    const row = all();
    const tab = closest(event, '[role="tab"]');
    const at = tab === null ? -1 : row.indexOf(tab);
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const forward = getComputedStyle(list).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const backward = forward === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
    /** @type {Record<string, number>} */
    const places = { [forward]: at + 1, [backward]: at - 1 + row.length, Home: 0, End: row.length - 1 };
    const to = places[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(row[to % row.length]);
  });
}

// Asks a question in a dialog. fields: elements to show. Resolves to whether the first button was chosen.
/**
 * @param {{title: string, fields?: Child[], yes: string, no?: string, danger?: boolean}} what
 * @returns {Promise<boolean>}
 */
export function ask({ title, fields = [], yes, no, danger = false }) {
  return new Promise((resolve) => {
    const form = make("form", { method: "dialog" });
    const heading = make("h2", { id: "ask-title", text: title });
    const buttons = make(
      "div",
      { class: "buttons" },
      make("button", { class: danger ? "danger" : "primary", value: "yes", text: yes }),
      no ? make("button", { type: "button", text: no, on: { click: () => dialog.close("") } }) : null,
    );
    const dialog = make("dialog", { class: "ask", "aria-labelledby": "ask-title" }, form);
    for (const child of [heading, ...fields, buttons]) if (child) form.append(child);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
