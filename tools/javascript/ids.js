// Writes types/ids.d.ts: which element each id of the pages is, from the pages and from what the scripts make. So a script
// that asks for an id which no page has does not pass tsc.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const root = new URL("../../proxybox/classroom/", import.meta.url).pathname;
const TAG = /<([a-z][a-z0-9]*)\b[^>]*?\bid="([^"{]+)"/g;
const MADE = /\bmake\(\s*"([a-z0-9]+)",\s*\{[^}]*?\bid: "([^"]+)"/g;

const ids = new Map();
for (const [folder, ending, pattern] of [
  ["pages", ".html", TAG],
  ["static", ".js", MADE],
]) {
  for (const file of readdirSync(root + folder, { recursive: true })) {
    if (!file.endsWith(ending) || file.startsWith("vendor")) continue;
    for (const [, tag, id] of readFileSync(`${root}${folder}/${file}`, "utf8").matchAll(pattern)) {
      ids.set(id, (ids.get(id) ?? new Set()).add(tag));
    }
  }
}
const rows = [...ids].sort().map(([id, tags]) => {
  const kinds = [...tags].sort().map((tag) => `HTMLElementTagNameMap["${tag}"]`);
  return `  "${id}": ${kinds.join(" & ")};`;
});
writeFileSync(
  new URL("types/ids.d.ts", import.meta.url),
  ["// Made by ids.js from the pages.", "export interface Ids {", ...rows, "}", ""].join("\n"),
);
