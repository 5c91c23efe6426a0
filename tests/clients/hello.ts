// A program for the types that openapi-typescript makes: tsc --strict checks it, and it is run (run.py).

import createClient from "openapi-fetch";

import type { components, paths } from "./service.js";

type RunEvent = components["schemas"]["RunEvent"];

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2] });

const { data, error } = await client.POST("/v1/run", { body: { code: "print('hello')" } });
if (error !== undefined) throw new Error(error.detail);
console.log(data.status, data.stdout.trimEnd());

const refused = await client.POST("/v1/run", { body: { code: "", policy: "none" } });
if (refused.error === undefined) throw new Error("it was not refused");
console.log(refused.error.status, refused.error.type);

const stream = await client.POST("/v1/run/stream", { body: { code: "print('hello')" }, parseAs: "text" });
if (stream.data === undefined) throw new Error(stream.error.detail);
for (const line of stream.data.split("\n").filter((each) => each.startsWith("data: "))) {
  const event: RunEvent = JSON.parse(line.slice("data: ".length));
  if (event.event === "stdout") console.log(event.text.trimEnd());
  else if (event.event === "finished") console.log(event.result.status);
}
