// The console's table of events: what it subscribes to, the newest first, at most MAX_ROWS.

import { announce, find, mayNeedToken, refusalText, token } from "./page.js";
import { Tidings } from "./tidings.js";
import { age, bytes, whole } from "./units.js";

const MAX_ROWS = 500;
const MAX_DATA_CHARS = 20_000; // of one event
const SUMMARY_CHARS = 300;
const FLUSH_MS = 100;
const ANNOUNCE_MS = 10_000; // between two sentences to a screen reader

const MISSED = {
  aged: "Some events were missed: the event log no longer has them.",
  unknown: "The hub does not know this id. New events follow.",
  presence: "Some connects and disconnects were missed.",
};

const rows = find("events");
const encoder = new TextEncoder();
let source;
let waiting = []; // events that have no row yet
let flushTimer;
let isPaused = false;
let received = 0;
let receivedAtPause = 0;
let announced = { at: 0, received: 0 };
let refuse = () => {};

/** Call `act` with the error when a subscription is refused for its token. */
export const onRefused = (act) => (refuse = act);

// -- the subscription

/** Subscribe with a query, instead of what was subscribed to before. */
export function subscribe(query) {
  unsubscribe();
  clear();
  isPaused = false;
  const current = new Tidings(`events?${query}`, {
    share: false,
    token: token() ? async () => token() : undefined,
  });
  source = current;
  show("Connecting…");
  // An event can have any type, and there is no listener for all types.
  current.dispatchEvent = (event) => {
    if (current !== source) return true;
    if (event.type.startsWith("hub.")) onControlEvent(event);
    else if (event.origin) add(parse(event));
    else if (event.type === "open") showSubscribed();
    else onError(event.data);
    return true;
  };
}

export function unsubscribe() {
  source?.close();
  source = undefined;
  show("Not subscribed.");
}

/** Stop adding rows; or add those of the events that came in the meantime, and continue. */
export function togglePause() {
  const pauses = !isPaused;
  isPaused = false;
  flush();
  isPaused = pauses;
  receivedAtPause = received;
  showSubscribed();
}

function show(words) {
  if (find("subscription").textContent !== words) find("subscription").textContent = words;
  find("empty").textContent = source ? "Waiting for events…" : "No events.";
  find("pause").textContent = source && isPaused ? "Resume" : "Pause";
  find("pause").disabled = find("stop").disabled = !source;
}

function showSubscribed() {
  const held = received - receivedAtPause;
  if (!isPaused) show("Subscribed.");
  else show(held ? `Paused, ${whole(held)} more events.` : "Paused.");
}

function onControlEvent({ type, data }) {
  const { reason } = JSON.parse(data);
  if (type === "hub.bye") show(`Disconnected by the hub (${reason}), reconnecting…`);
  if (type === "hub.reset") add({ notice: MISSED[reason] });
}

function onError(error) {
  if (error.bye) return;
  if (!error.status) return show("The hub cannot be reached, retrying…");
  const message = refusalText(error);
  if (error.status < 500) unsubscribe(); // the same request would be refused again
  show(message);
  if (mayNeedToken(error)) refuse({ status: error.status, message });
}

/** Return the event in an envelope, or a similar object where the hub sends none, as for presence. */
function parse({ type, data, lastEventId }) {
  try {
    const event = JSON.parse(data);
    if (event.topics) return event;
  } catch {
    // No envelope.
  }
  return { id: lastEventId, topic: "", topics: [], type, time: Date.now(), data };
}

// -- the table

/** Remove all rows. */
export function clear() {
  waiting = [];
  rows.replaceChildren();
  received = receivedAtPause = 0;
  announced = { at: 0, received: 0 };
  count();
}

function add(event) {
  waiting.push(event);
  if (waiting.length > 2 * MAX_ROWS) waiting = waiting.slice(-MAX_ROWS);
  if (!event.notice) received += 1;
  flushTimer ??= setTimeout(flush, FLUSH_MS);
}

function flush() {
  clearTimeout(flushTimer);
  flushTimer = undefined;
  count();
  if (isPaused) return showSubscribed();
  const fresh = document.createDocumentFragment();
  for (const event of waiting.slice(-MAX_ROWS)) {
    fresh.prepend(event.notice ? noticeRow(event) : eventRow(event));
  }
  waiting = [];
  rows.prepend(fresh);
  while (rows.childElementCount > MAX_ROWS) rows.lastElementChild.remove();
}

function count() {
  find("empty").hidden = received > 0;
  const newest = received > MAX_ROWS ? `, the newest ${MAX_ROWS} are shown` : "";
  find("count").textContent = `${whole(received)} ${received === 1 ? "event" : "events"}${newest}`;
  if (Date.now() - announced.at < ANNOUNCE_MS || received === announced.received) return;
  announce(`${whole(received - announced.received)} new events`);
  announced = { at: Date.now(), received };
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children); // strings become text nodes, so markup in them stays text
  return made;
}

const cell = (...children) => element("td", { role: "cell" }, ...children);

function noticeRow({ notice }) {
  const only = element("td", { role: "cell", colspan: 6 }, notice);
  return element("tr", { role: "row", class: "notice" }, only);
}

function eventRow(event) {
  const time = element("time", { datetime: new Date(event.time).toISOString() });
  time.title = new Date(event.time).toLocaleString();
  showAge(time);
  const topic = cell(event.topic);
  if (event.topics.length > 1) topic.append(` +${event.topics.length - 1}`);
  topic.title = event.topics.join("\n");
  if (event.private) topic.append(element("span", { class: "badge" }, "private"));
  return element(
    "tr",
    { role: "row" },
    cell(time),
    topic,
    cell(event.type && event.type !== "message" ? event.type : ""),
    cell(bytes(encoder.encode(event.data).length)),
    cell(dataContent(event.data)),
    cell(event.id ?? ""),
  );
}

function dataContent(data) {
  const line = data.slice(0, SUMMARY_CHARS).replace(/\s+/g, " ");
  if (data === line && data.length < 60) return line;
  const hidden = data.length - MAX_DATA_CHARS;
  const more = hidden > 0 ? `\n… ${whole(hidden)} more characters` : "";
  const all = element("pre", {}, data.slice(0, MAX_DATA_CHARS) + more);
  return element("details", {}, element("summary", {}, line), all);
}

function showAge(time) {
  const words = age((Date.now() - Date.parse(time.dateTime)) / 1000);
  if (time.textContent !== words) time.textContent = words;
}

setInterval(() => {
  if (!document.hidden) rows.querySelectorAll("time").forEach(showAge);
}, 1000);
