export * from "../../../../tools/javascript/entry.js";
export type { CompletionContext } from "@codemirror/autocomplete";
export type { Extension, TransactionSpec } from "@codemirror/state";
export type { KeyBinding, ViewUpdate } from "@codemirror/view";
