// The tab Events: the watch, the filter, the pause, and the keys.

import { announce, find } from "../page.js";
import { whole } from "../units.js";
import { read, watchHash, watchOf } from "./address.js";
import { onKey, setText } from "./dom.js";
import { EventBuffer } from "./event_buffer.js";
import * as panel from "./event_panel.js";
import * as table from "./event_table.js";
import { lockedNotice } from "./token_dialog.js";
import { watch } from "./watch.js";

const FLUSH_MS = 100;
const BUSY_FLUSH_MS = 250; // nobody reads that fast, and the page stays quick
const MAX_CALM = 10; // events in a flush
const ANNOUNCE_MS = 10_000; // between two sentences to a screen reader
const VALUES = {
  last: ["Number", "50"],
  since: ["Time: 14:05, ISO 8601, or an age", "15m"],
  after: ["Id", ""],
};
const FROM_THE_PAST = ["since", "after", "oldest"];

let buffer = new EventBuffer();
let fresh = []; // events that have no row yet
let flushTimer;
let flushMs = FLUSH_MS;
let announced;
let status = "";
let wanted; // the id of the event that the URL names
let fills; // whether the watch pauses once the table is full

// -- the watch

/** Watch what the form says. */
function start(what) {
  clear();
  ({ event: wanted } = what);
  fills = FROM_THE_PAST.includes(what.start);
  find("events-locked").replaceChildren();
  watch(what, {
    event: (event) => add(event),
    notice: (notice) => add({ notice }),
    status: showStatus,
    refused: (error) =>
      find("events-locked").replaceChildren(...lockedNotice(error, "These events")),
  });
}

function fromForm() {
  const topics = find("topics").value.split(/\s+/).filter(Boolean);
  return { topics, start: find("start").value, value: find("start-value").value.trim() };
}

function fillForm({ topics, start: from, value }) {
  find("topics").value = topics.join(" ");
  find("start").value = from;
  showValueField(value);
}

function showValueField(value) {
  const [label, usual] = VALUES[find("start").value] ?? [];
  find("start-value-box").hidden = !label;
  find("start-value").required = Boolean(label);
  setText(find("start-label"), label ?? "");
  find("start-value").value = value ?? usual ?? "";
}

function showStatus(words) {
  status = words;
  setText(find("watch-status"), words);
  setText(find("empty"), words || "Waiting for events…");
}

/** Watch what the URL says, unless that is watched already. */
let watchedHash;
export function open() {
  const { query } = read();
  const what = watchOf(query);
  const hash = watchHash(what);
  if (hash === watchedHash) return;
  watchedHash = hash;
  find("tab-events").hash = query.size ? hash : "#events";
  fillForm(what);
  start(what);
}

/** Let the next `open` begin the watch again. */
export const forget = () => (watchedHash = undefined);

// -- the filter

function passes(event) {
  const text = find("filter").value.toLowerCase();
  const type = find("type-filter").value.trim();
  if (event.notice) return !text && !type;
  if (type && (event.type ?? "message") !== type) return false;
  if (!text) return true;
  return [event.data, event.topic, event.id ?? "", event.type ?? ""].some((it) =>
    it.toLowerCase().includes(text),
  );
}

function refilter() {
  fresh = [];
  table.replace(buffer.newest(table.MAX_ROWS, passes));
  count();
}

// -- the rows

function clear() {
  buffer = new EventBuffer();
  fresh = [];
  announced = { at: 0, received: 0 };
  closePanel();
  table.replace([]);
  count();
}

function add(event) {
  if (buffer.add(event) && passes(event)) fresh.push(event);
  flushTimer ??= setTimeout(flush, flushMs);
  if (wanted && event.id === wanted) {
    wanted = undefined;
    openEvent(event);
  }
  if (fills && !buffer.isPaused && table.rowCount() + fresh.length >= table.MAX_ROWS) {
    fills = false;
    pause();
  }
}

function flush() {
  flushTimer = undefined;
  flushMs = fresh.length > MAX_CALM ? BUSY_FLUSH_MS : FLUSH_MS;
  if (fresh.length) table.prepend(fresh);
  fresh = [];
  count();
}

function pause() {
  if (fresh.length) table.prepend(fresh);
  fresh = [];
  buffer.pause();
  count();
}

function togglePause() {
  fills = false;
  if (buffer.isPaused) {
    table.prepend(buffer.resume().filter(passes));
    count();
  } else pause();
}

function count() {
  const { received, isPaused, newCount } = buffer;
  const button = find("pause");
  setText(button, !isPaused ? "Pause" : newCount ? `Resume (${whole(newCount)} new)` : "Resume");
  button.classList.toggle("pressed", isPaused);
  const shown = table.rowCount();
  find("empty").hidden = shown > 0;
  if (!shown)
    setText(
      find("empty"),
      received && !isPaused ? "No event fits the filter." : status || "Waiting for events…",
    );
  setText(find("count"), table.countText(received, shown));
  setTypes(buffer.types);
  if (Date.now() - announced.at < ANNOUNCE_MS || received === announced.received) return;
  announce(`${whole(received - announced.received)} new events`);
  announced = { at: Date.now(), received };
}

function setTypes(types) {
  const list = find("types");
  if (list.children.length === types.size) return;
  list.replaceChildren(...[...types].sort().map((type) => new Option(type)));
}

// -- the panel

function openEvent(event) {
  table.select(event);
  panel.open(event);
}

function closePanel() {
  const hadFocus = find("event").contains(document.activeElement) || panel.shownEvent();
  panel.close();
  if (hadFocus) table.focusRow();
  table.select(undefined);
}

function move(step) {
  if (find("events-panel").hidden) return false;
  const event = table.move(step);
  if (event && panel.shownEvent()) openEvent(event);
  return undefined;
}

/** Connect the form, the buttons and the keys. `onRepublish` gets an event to publish again. */
export function connect(onRepublish) {
  find("start").addEventListener("change", () => showValueField());
  find("watch").addEventListener("submit", (event) => {
    event.preventDefault();
    watchedHash = undefined;
    const hash = watchHash(fromForm());
    if (location.hash === hash) open();
    else location.hash = hash;
  });
  for (const name of ["filter", "type-filter"]) find(name).addEventListener("input", refilter);
  find("pause").addEventListener("click", togglePause);
  find("clear").addEventListener("click", clear);
  table.onOpen(openEvent);
  panel.connect(closePanel, onRepublish);
  onKey("ArrowDown", () => move(1));
  onKey("ArrowUp", () => move(-1));
  onKey("Escape", () => (panel.shownEvent() ? closePanel() : false));
  onKey("/", () => (find("events-panel").hidden ? false : find("filter").focus()));
  onKey("p", () => (find("events-panel").hidden ? false : togglePause()));
}
