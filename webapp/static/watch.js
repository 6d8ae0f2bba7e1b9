// The events of the console: one table, bounded, filled once a moment, the newest first.

import { announce, find, token, wantsToken } from "./page.js";
import { Tidings } from "./tidings.js";
import { age, bytes, whole } from "./units.js";

const KEPT = 500; // rows
const SHOWN = 20_000; // characters of one event's data
const SUMMARY = 300;
const MOMENT = 100; // ms
const QUIET = 10_000; // ms between two sentences to a screen reader

const MISSED = {
  aged: "Events between are no longer kept.",
  unknown: "The hub does not know this id: what comes from now on.",
  presence: "Some of those who came or went were missed.",
};

const rows = find("events");
const encoder = new TextEncoder();
let source;
let gathered = [];
let timer;
let paused = false;
let seen = 0;
let told = { at: 0, seen: 0, shown: 0 };
let refused = () => {};

/** What to do when a token is needed. */
export const onRefused = (act) => (refused = act);

/** Watch what a query asks for. */
export function watch(query) {
  stop();
  clear();
  paused = false;
  const own = new Tidings(`events?${query}`, {
    share: false,
    token: token() ? async () => token() : undefined,
  });
  source = own;
  say("Connecting…");
  // Events come by their type, which may be any: here all of them are taken.
  own.dispatchEvent = (event) => {
    if (own !== source) return true;
    if (event.type.startsWith("hub.")) hubSays(event);
    else if (event.origin) gather(read(event));
    else if (event.type === "open") say(paused ? "Paused." : "Watching.");
    else failed(event.data);
    return true;
  };
}

export function stop() {
  source?.close();
  source = undefined;
  say("Not watching.");
}

export const watching = () => Boolean(source);

export function pause(is) {
  paused = is;
  say(is ? "Paused." : "Watching.");
  if (!is) flush();
}

export function clear() {
  gathered = [];
  rows.replaceChildren();
  seen = 0;
  told = { at: 0, seen: 0, shown: 0 };
  count();
}

function say(words) {
  if (find("watching").textContent !== words) find("watching").textContent = words;
}

function hubSays({ type, data }) {
  const { reason } = JSON.parse(data);
  if (type === "hub.bye") say(`The hub said goodbye (${reason}); reconnecting…`);
  if (type !== "hub.reset") return;
  gather({ notice: MISSED[reason] });
}

function failed({ status, detail, remedy, bye }) {
  if (bye) return;
  if (!status) return say("The hub cannot be reached; trying again…");
  const words = `${detail ?? `The hub answered ${status}.`} ${remedy ?? ""}`;
  if (status < 500) stop(); // asking again would not help
  say(words);
  if (wantsToken({ status })) refused({ status, message: words });
}

/** Return what the envelope says, or the bare data where the hub puts none around it. */
function read({ type, data, lastEventId }) {
  try {
    const event = JSON.parse(data);
    if (event.topics) return event;
  } catch {
    // Not an envelope.
  }
  return { id: lastEventId, topic: "", topics: [], type, time: Date.now(), data };
}

function gather(event) {
  gathered.push(event);
  if (gathered.length > 2 * KEPT) gathered = gathered.slice(-KEPT);
  if (!event.notice) seen += 1;
  timer ??= setTimeout(flush, MOMENT);
}

function flush() {
  clearTimeout(timer);
  timer = undefined;
  count();
  if (paused) return;
  const fresh = document.createDocumentFragment();
  for (const event of gathered.slice(-KEPT)) fresh.prepend(event.notice ? notice(event) : row(event));
  gathered = [];
  rows.prepend(fresh);
  while (rows.childElementCount > KEPT) rows.lastElementChild.remove();
}

function count() {
  find("none").hidden = seen > 0;
  const behind = paused ? seen - told.shown : 0;
  if (behind) say(`Paused; ${whole(behind)} more.`);
  else told.shown = seen;
  find("count").textContent = seen > KEPT ? `${whole(seen)} events, the newest ${KEPT} are shown` : `${whole(seen)} events`;
  if (Date.now() - told.at < QUIET || seen === told.seen) return;
  announce(`${whole(seen - told.seen)} new events`);
  Object.assign(told, { at: Date.now(), seen });
}

function make(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside); // strings become text nodes, so markup in them stays text
  return made;
}

const cell = (...inside) => make("td", { role: "cell" }, ...inside);

function notice(event) {
  const all = make("td", { role: "cell", colspan: 6 }, event.notice);
  return make("tr", { role: "row", class: "notice" }, all);
}

function row(event) {
  const when = make("time", { datetime: new Date(event.time).toISOString() }, "");
  when.title = new Date(event.time).toLocaleString();
  const topic = cell(event.topic);
  if (event.topics.length > 1) topic.append(` +${event.topics.length - 1}`);
  topic.title = event.topics.join("\n");
  if (event.private) topic.append(make("span", { class: "badge" }, "private"));
  const made = make(
    "tr",
    { role: "row" },
    cell(when),
    topic,
    cell(event.type && event.type !== "message" ? event.type : ""),
    cell(bytes(encoder.encode(event.data).length)),
    cell(content(event.data)),
    cell(event.id ?? ""),
  );
  grow(when);
  return made;
}

function content(data) {
  const line = data.slice(0, SUMMARY).replace(/\s+/g, " ");
  if (data === line && data.length < 60) return line;
  const more = data.length > SHOWN ? `\n… ${whole(data.length - SHOWN)} characters more` : "";
  return make("details", {}, make("summary", {}, line), make("pre", {}, data.slice(0, SHOWN) + more));
}

function grow(when) {
  const words = age((Date.now() - Date.parse(when.dateTime)) / 1000);
  if (when.textContent !== words) when.textContent = words;
}

setInterval(() => {
  if (!document.hidden) rows.querySelectorAll("time").forEach(grow);
}, 1000);
