// Elements of the page. What comes from a person or a program is set as text, never as HTML.

export function byId(id) {
  return document.getElementById(id);
}

// make("button", {class: "quiet", text: "Run", type: "button", on: {click}}, ...children): an element. Attributes that are
// null or false are left out, true ones are empty.
export function make(tag, { text, on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  if (text !== undefined) element.textContent = text;
  for (const [name, call] of Object.entries(on)) element.addEventListener(name, call);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// HTML that the server has made from Markdown, with HTML in it disabled: values whose keys end in `_html`, and nothing else.
// Its highest headings get the level `top`.
export function setTrusted(element, html, { top = 3 } = {}) {
  element.innerHTML = html;
  const headings = [...element.querySelectorAll("h1, h2, h3, h4, h5, h6")];
  const highest = Math.min(...headings.map((heading) => Number(heading.localName[1])));
  for (const heading of headings) {
    const moved = document.createElement(`h${Math.min(6, Number(heading.localName[1]) - highest + top)}`);
    moved.append(...heading.childNodes);
    heading.replaceWith(moved);
  }
  for (const table of element.querySelectorAll("table, pre")) table.tabIndex = 0; // they may scroll
  for (const link of element.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
}

// Says something to those who do not see the page; `assertive` at once.
export function announce(text, { assertive = false } = {}) {
  const region = byId(assertive ? "alert" : "announcer");
  if (region === null) return;
  region.textContent = "";
  setTimeout(() => {
    region.textContent = text;
  }, 50);
}

// A list of tabs (https://www.w3.org/WAI/ARIA/apg/patterns/tabs/): arrow keys move, and what they move to is shown. Returns
// a function that shows the tab of an id. `onShow` gets the id of its panel.
export function tabs(list, onShow = () => {}) {
  const all = () => [...list.querySelectorAll('[role="tab"]')];
  const show = (tab, focus = false) => {
    for (const each of all()) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      const panel = byId(each.getAttribute("aria-controls"));
      if (panel) panel.hidden = !chosen;
    }
    if (focus) tab.focus();
    onShow(tab.getAttribute("aria-controls"));
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest('[role="tab"]');
    if (tab) show(tab);
  });
  arrows(list, all, (tab) => show(tab, true));
  return (panel) => show(all().find((tab) => tab.getAttribute("aria-controls") === panel));
}

// Arrow keys, Home and End move along a row of elements.
export function arrows(list, all, go) {
  list.addEventListener("keydown", (event) => {
    const row = all();
    const at = row.indexOf(event.target.closest('[role="tab"]'));
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const forward = getComputedStyle(list).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const backward = forward === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
    const to = { [forward]: at + 1, [backward]: at - 1 + row.length, Home: 0, End: row.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(row[to % row.length]);
  });
}

// Asks something in a dialog of its own. fields: elements to show. Resolves to whether the first button was chosen.
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
    form.append(heading, ...fields, buttons);
    const dialog = make("dialog", { class: "ask", "aria-labelledby": "ask-title" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
