export * from "../../../../tools/javascript/entry.js";
