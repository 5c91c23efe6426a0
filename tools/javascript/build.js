// Bundles entry.js into the classroom's static/vendor/codemirror.js, and tells in codemirror.txt what is in it.
import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const out = new URL("../../proxybox/classroom/static/vendor/", import.meta.url).pathname;
const { metafile } = await build({
  entryPoints: ["entry.js"],
  outfile: `${out}codemirror.js`,
  bundle: true,
  charset: "utf8",
  format: "esm",
  legalComments: "none",
  metafile: true,
  minify: true,
  target: "es2022",
  banner: {
    js: "// CodeMirror 6, bundled by tools/javascript; what is in it, and under which licence: codemirror.txt",
  },
});

const folders = new Set(
  Object.keys(metafile.inputs).flatMap((path) => path.match(/^node_modules\/(?:@[^/]+\/)?[^/]+/) ?? []),
);
const packages = [...folders].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (!file) throw new Error(`${name} has no licence's text`);
  return { name, version, license, text: readFileSync(`${folder}/${file}`, "utf8").trim() };
});
const rows = packages.map(({ name, version, license }) => `${name} ${version} (${license})`);
const texts = new Map();
for (const { name, text } of packages) texts.set(text, [...(texts.get(text) ?? []), name]);
writeFileSync(
  `${out}codemirror.txt`,
  [
    "codemirror.js is a bundle of these packages, made by tools/javascript:",
    "",
    ...rows,
    ...[...texts].flatMap(([text, names]) => ["", "-".repeat(80), names.join(", "), "", text]),
    "",
  ].join("\n"),
);
console.log(`${packages.length} packages, ${metafile.outputs[Object.keys(metafile.outputs)[0]].bytes} bytes`);
