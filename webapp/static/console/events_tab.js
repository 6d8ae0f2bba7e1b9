// The tab Events: the watch, the filter, the pause, and the keys.

import { announce, find } from "../page.js";
import { whole } from "../units.js";
import { read, watchHash, watchOf } from "./address.js";
import { onKey, setText } from "./dom.js";
import { EventBuffer } from "./event_buffer.js";
import * as panel from "./event_panel.js";
import * as table from "./event_table.js";
import { problemOf, words } from "./moment.js";
import { lockedNotice } from "./token_dialog.js";
import { retry, stop, watch } from "./watch.js";

export { retry };

const FLUSH_MS = 100;
const BUSY_FLUSH_MS = 250; // nobody reads that fast, and the page stays quick
const MAX_CALM = 10; // events in a flush
const ANNOUNCE_MS = 10_000; // between two sentences to a screen reader
const VALUES = {
  last: { label: "Number", usual: "50" },
  since: {
    label: "Time",
    usual: "15m",
    placeholder: "14:05 or 15m",
    title: "A time such as 14:05, an age such as 15m, or ISO 8601",
  },
  after: { label: "Id" },
};
const MORE_ROWS = table.MAX_ROWS / 2; // of later events, so that the earlier ones stay for a look back
const FROM_THE_PAST = ["since", "after", "oldest"];

let buffer = new EventBuffer();
let fresh = []; // events that have no row yet
let flushTimer;
let flushMs = FLUSH_MS;
let announced;
let status = "";
let wanted; // the id of the event that the URL names
let isFromPast; // its first row is the oldest event, and it pauses once the table is full
let waitsForTop; // it pauses only because the user has scrolled down

// -- the watch

/** Watch what the form says. */
function start(what) {
  ({ event: wanted } = what);
  isFromPast = FROM_THE_PAST.includes(what.start);
  table.setOrder(isFromPast);
  clear();
  find("events-locked").replaceChildren();
  // The time of an event that a link names is of the hub's clock.
  const problem = what.start === "since" && !wanted ? problemOf(what.value) : "";
  setProblem(problem);
  setText(find("watch-from"), what.start === "since" && !problem ? fromWords(what.value) : "");
  if (problem) {
    stop();
    showNothing();
    return;
  }
  watch(what, {
    event: (event) => add(event),
    notice: (notice) => add({ notice }),
    status: showStatus,
    refused(error) {
      find("events-locked").replaceChildren(...lockedNotice(error, "These events"));
      showNothing();
    },
  });
}

const fromWords = (value) => `Since ${words(value)}, your time zone`;

function setProblem(problem) {
  setText(find("start-problem"), problem);
  find("start-value").setAttribute("aria-invalid", Boolean(problem));
}

// One message says why; the others would only repeat it.
function showNothing() {
  status = "Nothing is watched.";
  setText(find("watch-status"), "");
  count();
}

function fromForm() {
  const topics = find("watch-topics").value.split(/\s+/).filter(Boolean);
  return { topics, start: find("start").value, value: find("start-value").value.trim() };
}

function fillForm({ topics, start: from, value }) {
  find("watch-topics").value = topics.join(" ");
  find("start").value = from;
  showValueField(value);
}

function showValueField(value) {
  const { label, usual = "", placeholder = "", title = "" } = VALUES[find("start").value] ?? {};
  const field = find("start-value");
  find("start-value-box").hidden = !label;
  setText(find("start-label"), label ?? "");
  Object.assign(field, { required: Boolean(label), placeholder, title, value: value ?? usual });
  setProblem("");
}

function showStatus(text) {
  status = text;
  setText(find("watch-status"), text);
  count();
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
  waitsForTop = false;
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
    drawFresh();
    table.showSelected();
  }
  if (!buffer.isPaused && isFull() && mayNotMove()) pause();
}

const isFull = () => table.rowCount() + fresh.length >= table.MAX_ROWS;

/** Return whether no row may leave the table for a new one. */
function mayNotMove() {
  if (!isFromPast && !waitsForTop) waitsForTop = table.isScrolled();
  return isFromPast || waitsForTop;
}

function drawFresh() {
  if (fresh.length) table.add(fresh);
  fresh = [];
}

function flush() {
  flushTimer = undefined;
  flushMs = fresh.length > MAX_CALM ? BUSY_FLUSH_MS : FLUSH_MS;
  drawFresh();
  count();
}

function pause() {
  drawFresh();
  buffer.pause();
  count();
}

function resume() {
  waitsForTop = false;
  if (isFromPast) table.addBelow(buffer.resume(MORE_ROWS).filter(passes));
  else table.add(buffer.resume().filter(passes));
  count();
}

const togglePause = () => (buffer.isPaused ? resume() : pause());

function resumeWords(newCount) {
  if (!newCount) return "Resume";
  if (!isFromPast) return `Resume (${whole(newCount)} new)`;
  return `Show ${whole(newCount)} later ${newCount === 1 ? "event" : "events"}`;
}

function count() {
  const { received, isPaused, newCount } = buffer;
  const button = find("pause");
  setText(button, isPaused ? resumeWords(newCount) : "Pause");
  button.classList.toggle("pressed", isPaused);
  const shown = table.rowCount();
  const filtered = received && !isPaused && "No event fits the filter.";
  // What the status says already is not said twice.
  const isSaid = find("watch-status").textContent !== "";
  find("empty").hidden = shown > 0 || isSaid;
  if (!shown) setText(find("empty"), filtered || status || "Waiting for events…");
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
  table.onScroll(() => {
    if (waitsForTop && buffer.isPaused && !table.isScrolled()) resume();
  });
  panel.connect(closePanel, onRepublish);
  onKey("ArrowDown", () => move(1));
  onKey("ArrowUp", () => move(-1));
  onKey("Escape", () => (panel.shownEvent() ? closePanel() : false));
  onKey("/", () => (find("events-panel").hidden ? false : find("filter").focus()));
  onKey("p", () => (find("events-panel").hidden ? false : togglePause()));
}
