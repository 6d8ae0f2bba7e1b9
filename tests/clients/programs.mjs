// Subscribers that others wrote, each used as its documentation shows. Argument: the URL of a hub.
// Each event that a client hands to its user is printed as a line of JSON: client, type, id, data.
// A client that ends is printed with the type "end".

const path = `${process.argv[2]}/.well-known/mercure?last_event_id=earliest&topic=`;
const url = `${path}t`;
const print = (...fields) => console.log(JSON.stringify(fields));

/** fetch-event-source is for pages. */
const asInAPage = () => Object.assign(globalThis, { window: globalThis, document: new EventTarget() });

/** A model's client asks the hub instead of the model. */
const fromHub = (topic) => (_, { signal }) => fetch(path + topic, { signal });

const clients = {
  async "eventsource-client"(event) {
    const { createEventSource } = await import("eventsource-client");
    createEventSource({ url, onMessage: event });
  },
  async "@microsoft/fetch-event-source"(event) {
    asInAPage();
    const { fetchEventSource } = await import("@microsoft/fetch-event-source");
    await fetchEventSource(url, { onmessage: event, openWhenHidden: true });
  },
  async "@microsoft/fetch-event-source, onclose throws"(event) {
    asInAPage();
    const { fetchEventSource } = await import("@microsoft/fetch-event-source");
    const onclose = () => {
      throw new Error("The hub ended the stream.");
    };
    await fetchEventSource(url, { onmessage: event, onclose, openWhenHidden: true });
  },
  async "@ai-zen/node-fetch-event-source, onclose throws"(event) {
    const { fetchEventSource } = await import("@ai-zen/node-fetch-event-source");
    const onclose = () => {
      throw new Error("The hub ended the stream.");
    };
    await fetchEventSource(url, { onmessage: event, onclose, openWhenHidden: true });
  },
  async "@ai-zen/node-fetch-event-source"(event) {
    const { fetchEventSource } = await import("@ai-zen/node-fetch-event-source");
    await fetchEventSource(url, { onmessage: event, openWhenHidden: true });
  },
  async "event-source-plus"(event) {
    const { EventSourcePlus } = await import("event-source-plus");
    const source = new EventSourcePlus(url);
    source.listen({ onMessage: event });
  },
  async "eventsource-parser"(event) {
    const { EventSourceParserStream } = await import("eventsource-parser/stream");
    const { body } = await fetch(url);
    const events = body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream());
    for await (const it of events) event(it);
  },
  async "fetch-event-stream"(event) {
    const { events } = await import("fetch-event-stream");
    for await (const it of events(await fetch(url))) event(it);
  },
  async "parse-sse"(event) {
    const { parseServerSentEvents } = await import("parse-sse");
    for await (const it of parseServerSentEvents(await fetch(url))) event(it);
  },
  async "@azure/core-sse"(event) {
    const { createSseStream } = await import("@azure/core-sse");
    for await (const it of createSseStream((await fetch(url)).body)) event(it);
  },
  async "openai (Node)"(event) {
    const { default: OpenAI } = await import("openai");
    const openai = new OpenAI({ apiKey: "none", fetch: fromHub("openai") });
    const request = { model: "m", messages: [], stream: true };
    for await (const chunk of await openai.chat.completions.create(request)) event({ data: JSON.stringify(chunk) });
  },
  async "@anthropic-ai/sdk"(event) {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    const anthropic = new Anthropic({ apiKey: "none", fetch: fromHub("anthropic") });
    const request = { model: "m", max_tokens: 1, messages: [], stream: true };
    for await (const message of await anthropic.messages.create(request)) {
      event({ data: JSON.stringify(message) });
    }
  },
  async "ai (Vercel)"(event) {
    const { streamText } = await import("ai");
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    const model = createOpenAICompatible({ name: "m", baseURL: "http://m", fetch: fromHub("openai") })("m");
    const onError = ({ error }) => event({ type: "error", data: String(error) });
    for await (const data of streamText({ model, prompt: "?", onError }).textStream) event({ data });
  },
};

const reconnecting = new Set(["eventsource-client", "event-source-plus"]); // they return at once

for (const [name, client] of Object.entries(clients)) {
  const event = ({ event, type, id, lastEventId, data }) =>
    print(name, (event ?? type) || "message", id ?? lastEventId ?? "", data);
  const end = (error) => reconnecting.has(name) || print(name, "end", "", String(error ?? ""));
  client(event).then(end, end);
}
