// Clients of Node that decode gzip by themselves. Argument: the URL of a stream. Each event is printed as a
// line of JSON: client, coding of the response, type, data.

import { EventSource } from "eventsource";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { fetch as undiciFetch } from "undici";

const [, , url] = process.argv;
const print = (...fields) => console.log(JSON.stringify(fields));

async function read(name, response) {
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  for await (const { event, data } of events) print(name, response.headers.get("content-encoding"), event ?? "message", data);
}

let coding;
const source = new EventSource(url, {
  async fetch(...request) {
    const response = await fetch(...request);
    coding = response.headers.get("content-encoding");
    return response;
  },
});
for (const type of ["hub.open", "message"]) {
  source.addEventListener(type, ({ data }) => print("eventsource", coding, type, data));
}
read("undici", await undiciFetch(url));
read("fetch of Node", await fetch(url));
