// The live page's list of events: appended at its end, at most MAX_ITEMS.

import { announce, find } from "./page.js";

const MAX_ITEMS = 500; // so that a page that is open for a week stays small
const MAX_DATA_CHARS = 5000; // of one event
const FLUSH_MS = 100;
const ANNOUNCE_MS = 5000; // between two sentences to a screen reader

const log = find("log");
const events = find("events");

/** Append an event, as its envelope has it.
 *
 * @param isLabelled whether the text of its item is as in the tutorial, `New event: …`: the style
 *   sheet adds the topic.
 */
export function appendEvent({ topic, topics, type, private: isPrivate, time, data }, isLabelled) {
  const body = element("div");
  const chip = isLabelled ? silentChip : textChip;
  body.append(...chip("topic", topic, topics.join("\n")));
  if (type && type !== "message") body.append(...chip("type", type, `Type: ${type}`));
  if (isPrivate) body.append(...chip("private", "private"));
  if (isLabelled) body.append(element("span", "label", "New event: "));
  body.append(element("span", "data", shortened(data)));
  append(body, time);
  unread += 1;
  newest = `${topic}: ${data.slice(0, 200)}`;
  announcing ??= setTimeout(announceNew, lastAnnounced + ANNOUNCE_MS - Date.now());
}

/** Append what happened to the stream. */
export function appendNotice(words) {
  append(element("div", "notice", words), Date.now());
}

function append(body, time) {
  const item = element("li");
  const at = new Date(time);
  const isToday = at.toDateString() === new Date().toDateString();
  // "sv" writes dates as in ISO 8601.
  item.dataset.time = isToday ? at.toLocaleTimeString("sv") : at.toLocaleString("sv");
  item.append(body);
  add(item);
}

function element(name, className = "", text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}

const textChip = (kind, text, title = "") => [
  Object.assign(element("span", `chip ${kind}`, text), { title }),
  " ", // for those who copy the item, and for screen readers
];

function silentChip(kind, text, title) {
  const [made] = textChip(kind, "", title);
  made.dataset.text = text;
  return [made];
}

function shortened(data) {
  const hidden = data.length - MAX_DATA_CHARS;
  const more = hidden > 0 ? `… ${hidden.toLocaleString()} more characters` : "";
  return data.slice(0, MAX_DATA_CHARS) + more;
}

// -- the end of the list

// A replay or a busy hub brings many events at once, and a layout for each would freeze the page:
// they are added together. By a timer, because animation frames stop while the page is hidden.
const fresh = document.createDocumentFragment();

function add(item) {
  if (!fresh.hasChildNodes()) setTimeout(flush, FLUSH_MS);
  fresh.append(item);
  trim(fresh);
}

function flush() {
  // Two pixels for fractions. More would stop a user who begins to scroll up slowly.
  const follow = log.scrollTop + log.clientHeight >= log.scrollHeight - 2;
  events.append(fresh);
  trim(events);
  if (follow) log.scrollTop = log.scrollHeight;
}

function trim(list) {
  while (list.childElementCount > MAX_ITEMS) list.firstElementChild.remove();
}

// -- a screen reader: it would never end to read a busy hub's events one by one

let unread = 0;
let newest = "";
let announcing;
let lastAnnounced = 0;

function announceNew() {
  announce(unread === 1 ? newest : `${unread.toLocaleString()} new events`);
  unread = 0;
  announcing = undefined;
  lastAnnounced = Date.now();
}
