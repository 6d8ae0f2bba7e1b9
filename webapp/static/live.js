// The live page: the events of the topics in its URL, and a form to publish one.

import {
  announce, ask, askForToken, copy, find, mayNeedToken, onToken, publish, refusalText, token,
} from "./page.js";
import { Tidings } from "./tidings.js";

const STATES = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Disconnected, reconnecting…",
  ended: "Disconnected by the hub, reconnecting…",
  token: "Token required",
  closed: "Closed. Reload the page to connect.",
};
const MAX_ITEMS = 500; // so that a page that is open for a week stays small
const FRAME_MS = 16;

const state = find("state");
const events = find("events");
const query = location.search;
const topic = new URLSearchParams(query).get("topic") ?? "";

function show(name) {
  // A screen reader would read the same words again at every failed attempt.
  if (state.dataset.state === name) return;
  state.dataset.state = name;
  state.textContent = STATES[name];
  find("empty").textContent = name === "connected" ? "Waiting for events…" : "No events.";
}

// -- the list

function isAtEnd() {
  // Two pixels for fractions. More would stop a user who begins to scroll up slowly.
  return scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
}

// A replay brings thousands of events at once, and a layout for each would freeze the page: they
// are added once per frame. By a timer, because animation frames stop while the page is hidden.
const fresh = document.createDocumentFragment();

function append(item) {
  item.dataset.time = new Date().toTimeString().slice(0, 8);
  if (!fresh.hasChildNodes()) setTimeout(flush, FRAME_MS);
  fresh.append(item);
  trim(fresh);
}

function flush() {
  const follow = isAtEnd();
  events.append(fresh);
  trim(events);
  if (follow) scrollTo(0, document.documentElement.scrollHeight);
}

function trim(list) {
  while (list.childElementCount > MAX_ITEMS) list.firstElementChild.remove();
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

// -- the stream

let source;

// The URL is relative, so it works under a prefix. The query is the page's own, topics included.
function subscribe() {
  source?.close();
  find("error").textContent = "";
  const url = "events" + query;
  // An EventSource sends no headers, and a token does not belong in a URL.
  source = token() ? new Tidings(url, { token: async () => token() }) : new EventSource(url);
  show("connecting");
  source.addEventListener("open", () => show("connected"));
  source.addEventListener("message", (event) => append(eventItem(event.data)));
  source.addEventListener("hub.open", ({ data }) => {
    find("topics").textContent = JSON.parse(data).topics.join(", ");
  });
  source.addEventListener("hub.reset", () => {
    append(noticeItem("Some events were missed: the event log no longer has them."));
  });
  source.addEventListener("hub.bye", () => show("ended"));
  source.addEventListener("error", ({ data }) => {
    if (data?.status) refuse({ status: data.status, message: refusalText(data) });
    else if (source.readyState === EventSource.CLOSED) findRefusal();
    // After hub.bye the page says already why it is disconnected.
    else if (state.dataset.state !== "ended") show("reconnecting");
  });
}

// An EventSource does not say why it was refused.
function findRefusal() {
  show("closed");
  ask("events" + query, { headers: { Accept: "application/json" } }).catch(refuse);
}

function refuse(error) {
  show(mayNeedToken(error) ? "token" : "closed");
  if (mayNeedToken(error)) askForToken("This hub needs a token to subscribe.", error);
  else find("error").textContent = error.message;
}

onToken(() => {
  subscribe();
  find("data").focus();
});

// -- publish

find("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = find("data");
  find("error").textContent = "";
  try {
    await publish({ data: data.value, topic });
    data.value = "";
    announce("Published");
  } catch (error) {
    if (mayNeedToken(error)) askForToken("This hub needs a token to publish.", error);
    else find("error").textContent = error.message;
  }
});

// -- the commands: the page has them for the topic "events", with a token if the hub needs one

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const url = new URL("events", location.href).href;
const isPlain = /^[\w./:-]*$/.test(topic);
const field = isPlain ? `-d topic=${topic}` : `--data-urlencode ${quoted(`topic=${topic}`)}`;
complete("subscribe", query ? quoted(url + query) : url);
complete("publish", topic ? `${field} ${url}` : url);
if (topic) find("topics").textContent = find("topic").textContent = topic;
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy(button));
}

function complete(command, target) {
  const code = find(`curl-${command}`);
  code.textContent = code.textContent.replace("http://HOST/events", () => target);
}

subscribe();
