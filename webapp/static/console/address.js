// What the page's URL keeps: the tab, what it watches, the event that it shows. It is in the
// fragment, which browsers send to nobody; tokens, data and filters are not in it.

export const TABS = ["events", "topics", "connections", "hub"];
const DEFAULT_WATCH = { topics: ["*"], start: "last", value: "50" };

/** Return the tab and the parameters that the URL names. */
export function read() {
  const [name, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { tab: TABS.includes(name) ? name : "events", query: new URLSearchParams(query) };
}

/** Return the watch that a query names: its topics, where it starts, the event to show. */
export function watchOf(query) {
  const topics = query.getAll("topic");
  if (!topics.length) return DEFAULT_WATCH;
  const [start, value] = [query.get("start") ?? "last", query.get("value") ?? ""];
  return {
    topics,
    start,
    value: value || (start === "last" ? "50" : ""),
    event: query.get("event"),
  };
}

/** Return the fragment of a watch. */
export function watchHash({ topics, start, value, event }) {
  const query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
  query.set("start", start);
  if (value) query.set("value", value);
  if (event) query.set("event", event);
  return `#events?${query}`;
}

/** Return the URL that opens the console at one event: its topic, from the event's time on. */
export function eventUrl({ topic, time, id }) {
  const watch = { topics: [topic], start: "since", value: new Date(time).toISOString(), event: id };
  return new URL(watchHash(watch), location.href).href;
}
