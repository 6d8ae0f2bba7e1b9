// The rows of the events, the newest first. There are at most MAX_ROWS of them.

import { find } from "../page.js";
import { bytes, clock, when, whole } from "../units.js";
import { element } from "./dom.js";

export const MAX_ROWS = 500;
const LINE_CHARS = 300; // of the data

const rows = find("events");
const template = find("event-row").content.firstElementChild;
const encoder = new TextEncoder();
const events = new WeakMap(); // by row
let selected;

/** Return the bytes of a text as UTF-8. */
export const sizeOf = (text) => encoder.encode(text).length;

/** Add rows of events, which come in the order of the event log. */
export function prepend(added) {
  const fresh = document.createDocumentFragment();
  for (const event of added.slice(-MAX_ROWS))
    fresh.prepend(event.notice ? noticeRow(event) : eventRow(event));
  rows.prepend(fresh);
  while (rows.childElementCount > MAX_ROWS) rows.lastElementChild.remove();
  if (!focusable?.isConnected) setFocusable(firstRow());
}

/** Show these events and no others. */
export function replace(shown) {
  rows.replaceChildren();
  prepend(shown);
  for (const row of rows.rows) if (events.get(row) === selected) mark(row, true);
}

export const rowCount = () => rows.childElementCount;

function noticeRow({ notice }) {
  return element(
    "tr",
    { role: "row", class: "notice" },
    element("td", { role: "gridcell", colspan: 5 }, notice),
  );
}

function eventRow(event) {
  const row = template.cloneNode(true);
  const [time, topic, type, data, size] = row.cells;
  time.textContent = clock(event.time, true);
  topic.firstChild.textContent = topic.title = event.topic;
  if (event.topics.length > 1) {
    topic.append(` +${event.topics.length - 1}`);
    topic.title = event.topics.join("\n");
  }
  if (event.private) topic.append(element("span", { class: "badge" }, "private"));
  if (event.type && event.type !== "message") type.textContent = type.title = event.type;
  data.textContent = event.data.slice(0, LINE_CHARS).replace(/\s+/g, " ");
  size.textContent = bytes(sizeOf(event.data));
  events.set(row, event);
  return row;
}

// -- one row can have the focus, and one is selected

const firstRow = () => rows.querySelector("tr:not(.notice)");

let focusable;

function setFocusable(row) {
  focusable?.setAttribute("tabindex", -1);
  row?.setAttribute("tabindex", 0);
  focusable = row;
}

function mark(row, isSelected) {
  row.setAttribute("aria-selected", isSelected);
}

/** Mark the row of an event; undefined: of none. */
export function select(event) {
  for (const row of rows.querySelectorAll('[aria-selected="true"]')) mark(row, false);
  selected = event;
  for (const row of event ? rows.rows : []) if (events.get(row) === event) mark(row, true);
}

/** Put the focus on the row of the selected event, or else on the first one. */
export function focusRow() {
  focus(rows.querySelector('[aria-selected="true"]') ?? firstRow());
}

function focus(row) {
  setFocusable(row);
  row?.focus();
}

const current = () =>
  document.activeElement.closest("#events tr") ?? rows.querySelector('[aria-selected="true"]');

/** Put the focus on the row before (-1) or after (1). Return its event. */
export function move(step) {
  const from = current();
  const next = step > 0 ? "nextElementSibling" : "previousElementSibling";
  let to = from ? from[next] : firstRow();
  while (to?.matches(".notice")) to = to[next];
  focus(to ?? from);
  return events.get(to);
}

/** Call `act` with the event of a row that is clicked, or on which Enter is pressed. */
export function onOpen(act) {
  const open = (row) => {
    if (!events.has(row)) return;
    setFocusable(row);
    act(events.get(row));
  };
  rows.addEventListener("click", ({ target }) => open(target.closest("tr")));
  rows.addEventListener("keydown", (event) => {
    if (event.key === "Enter") open(event.target.closest("tr"));
  });
  rows.addEventListener("mouseover", ({ target }) => {
    const event = events.get(target.closest("tr"));
    if (event && target.cellIndex === 0) target.title = when(event.time);
  });
}

export const countText = (received, shown) =>
  `${whole(received)} ${received === 1 ? "event" : "events"}${shown < received ? `, ${whole(shown)} shown` : ""}`;
