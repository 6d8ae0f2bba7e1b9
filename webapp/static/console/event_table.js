// The rows of the events, at most MAX_ROWS. The newest is the first one, but a watch from a past time
// lists from that time on.

import { find } from "../page.js";
import { bytes, clock, when, whole } from "../units.js";
import { element } from "./dom.js";

export const MAX_ROWS = 500;
const LINE_CHARS = 300; // of the data

const rows = find("event-rows");
const table = rows.parentElement;
const box = table.parentElement;
const template = find("event-row").content.firstElementChild;
const encoder = new TextEncoder();
const events = new WeakMap(); // by row
let selected;
let oldestFirst = false;

/** Return the bytes of a text as UTF-8. */
export const sizeOf = (text) => encoder.encode(text).length;

/** Say whether the oldest event is the first row. */
export function setOrder(isOldestFirst) {
  oldestFirst = isOldestFirst;
  table.setAttribute("aria-label", `Events, the ${oldestFirst ? "oldest" : "newest"} first`);
  find("time-head").setAttribute("aria-sort", oldestFirst ? "ascending" : "descending");
}

/** Add rows of events, which come in the order of the event log. Rows in view do not move. */
export function add(added) {
  const fresh = document.createDocumentFragment();
  for (const event of added.slice(-MAX_ROWS)) {
    const row = event.notice ? noticeRow(event) : eventRow(event);
    if (oldestFirst) fresh.append(row);
    else fresh.prepend(row);
  }
  keepInPlace(() => {
    if (oldestFirst) rows.append(fresh);
    else rows.prepend(fresh);
    while (rows.childElementCount > MAX_ROWS)
      (oldestFirst ? rows.firstElementChild : rows.lastElementChild).remove();
  });
  if (!focusable?.isConnected) setFocusable(firstRow());
}

/** Show these events and no others. */
export function replace(shown) {
  rows.replaceChildren();
  add(shown);
}

export const rowCount = () => rows.childElementCount;

// -- the row under the user's eyes

// On a phone the page scrolls as a whole.
const scroller = () =>
  getComputedStyle(box).overflowY === "visible" ? document.scrollingElement : box;

/** Return where rows come into view, below what stays at the top. */
const topEdge = () =>
  scroller() === box
    ? table.tHead.getBoundingClientRect().bottom
    : document.querySelector("header").getBoundingClientRect().bottom;

/** Return whether the first row is above what is in view. */
export const isScrolled = () => rows.getBoundingClientRect().top < topEdge() - 1;

/** Change rows; if the user has scrolled down, the first row in view stays where it is. */
function keepInPlace(change) {
  const edge = isScrolled() ? topEdge() : undefined;
  const row = edge && [...rows.rows].find((it) => it.getBoundingClientRect().bottom > edge);
  const before = row?.getBoundingClientRect().top;
  change();
  if (row?.isConnected) scroller().scrollTop += row.getBoundingClientRect().top - before;
}

/** Add later events below the last row, and scroll so that they are read on from there. */
export function addBelow(added) {
  const last = rows.lastElementChild;
  add(added);
  last?.scrollIntoView({ block: "start" });
}

/** Scroll as far as the selected row needs. */
export const showSelected = () =>
  rows.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });

/** Call `act` when the user has scrolled. */
export function onScroll(act) {
  box.addEventListener("scroll", act);
  addEventListener("scroll", act);
}

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
  if (event === selected) mark(row, true);
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
  document.activeElement.closest("#event-rows tr") ?? rows.querySelector('[aria-selected="true"]');

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
