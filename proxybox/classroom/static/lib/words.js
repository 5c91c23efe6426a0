// The page's language. English texts are the keys; translations are in the page, in #messages.

/** @type {Record<string, string | Partial<Record<Intl.LDMLPluralRule, string>>>} */
const messages = JSON.parse(document.getElementById("messages")?.textContent || "{}");
const language = document.documentElement.lang || "en";
const plurals = new Intl.PluralRules(language);
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(language, {
  weekday: "short",
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
const numbers = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });

/** @param {string} text @param {Record<string, unknown>} values */
function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

// A text: t("Run"), t("{done} of {all} done", {done: 1, all: 3}).
/** @param {string} text @param {Record<string, unknown>} values */
export function t(text, values = {}) {
  const known = messages[text];
  return fill(typeof known === "string" ? known : text, values);
}

// A counted text: n("{count} test", "{count} tests", 3).
/** @param {string} one @param {string} many @param {number} count @param {Record<string, unknown>} values */
export function n(one, many, count, values = {}) {
  const forms = messages[one];
  const source = count === 1 ? one : many;
  const text = (typeof forms === "object" && (forms[plurals.select(count)] ?? forms.other)) || source;
  return fill(text, { count: numbers.format(count), ...values });
}

/** @param {number} value */
export function number(value) {
  return numbers.format(value);
}

// A time, from seconds since the epoch: with the day if it is not today.
/** @param {number} seconds */
export function when(seconds) {
  const moment = new Date(seconds * 1000);
  return (moment.toDateString() === new Date().toDateString() ? clock : calendar).format(moment);
}
