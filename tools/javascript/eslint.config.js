import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/vendor/**", "**/node_modules/**"] },
  js.configs.recommended,
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  { files: ["**/static/**", "**/page/**"], languageOptions: { globals: globals.browser } },
  { files: ["**/static/sw.js", "**/static/stream-worker.js"], languageOptions: { globals: globals.serviceworker } },
  { files: ["**/page/**", "**/static/{theme,sw}.js"], languageOptions: { sourceType: "script" } },
  { files: ["**/tools/javascript/**"], languageOptions: { globals: globals.node } },
];
