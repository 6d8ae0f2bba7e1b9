"use strict";

const STATES = {
  connecting: "Connecting…",
  listening: "Listening",
  reconnecting: "Reconnecting…",
  goodbye: "The hub said goodbye; reconnecting…",
  closed: "Closed: reload the page",
};
const KEPT = 500; // a page left open for a week must not eat the machine's memory

const state = document.getElementById("state");
const events = document.getElementById("events");

function show(name) {
  // The same words again would be read out again, at every failed attempt.
  if (state.dataset.state === name) return;
  state.dataset.state = name;
  state.textContent = STATES[name];
}

function atEnd() {
  // Two pixels for fractions; more would hold back a reader who begins to scroll up slowly.
  return scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
}

// A replay brings thousands of events at once, and a layout for each would freeze the page: they
// gather for a frame. A timer, not an animation frame, since those stop while the page is hidden.
const gathered = document.createDocumentFragment();

function append(item) {
  if (!gathered.hasChildNodes()) setTimeout(flush, 16);
  gathered.append(item);
  trim(gathered);
}

function flush() {
  const follow = atEnd();
  events.append(gathered);
  trim(events);
  if (follow) scrollTo(0, document.documentElement.scrollHeight);
}

function trim(list) {
  while (list.childElementCount > KEPT) list.firstElementChild.remove();
}

function eventItem(data) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  label.textContent = "New event: ";
  item.append(label, data); // a string becomes a text node, so markup in it stays text
  return item;
}

function noticeItem(words) {
  const item = document.createElement("li");
  item.className = "notice";
  item.textContent = words;
  return item;
}

// Relative, so that a hub under a prefix is found; with the page's own query, so its topics are too.
const source = new EventSource("events" + location.search);
show("connecting");

source.addEventListener("open", () => show("listening"));
source.addEventListener("message", (event) => append(eventItem(event.data)));
source.addEventListener("hub.reset", () => {
  append(noticeItem("Events may have been missed: the hub no longer has them."));
});
source.addEventListener("hub.bye", () => show("goodbye"));
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) show("closed");
  // The end that follows a goodbye is announced already.
  else if (state.dataset.state !== "goodbye") show("reconnecting");
});

const address = new URL("events", location.href).href;
for (const id of ["curl-listen", "curl-publish"]) {
  const code = document.getElementById(id);
  code.textContent = code.textContent.replace("http://HOST/events", () => address);
}
