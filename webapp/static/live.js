import { announce, ask, askForToken, copy, find, onToken, publish, token, wantsToken } from "./page.js";
import { Tidings } from "./tidings.js";

const STATES = {
  connecting: "Connecting…",
  listening: "Listening",
  reconnecting: "Reconnecting…",
  goodbye: "The hub said goodbye; reconnecting…",
  token: "The hub wants a token",
  closed: "Closed: reload the page",
};
const KEPT = 500; // a page left open for a week must not eat the machine's memory

const PUBLISHING = "Publishing here needs a token; tidings token --publish '*' makes one, where the key is.";
const READING = "Reading here needs a token; tidings token --subscribe '*' makes one, where the key is.";

const state = find("state");
const events = find("events");

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
  item.dataset.time = new Date().toTimeString().slice(0, 8);
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

let source;

// Relative, so that a hub under a prefix is found; with the page's own query, so its topics are too.
function listen() {
  source?.close();
  const url = "events" + location.search;
  // An EventSource sends no header, and a token has no place in an address.
  source = token() ? new Tidings(url, { token: async () => token() }) : new EventSource(url);
  show("connecting");
  source.addEventListener("open", () => show("listening"));
  source.addEventListener("message", (event) => append(eventItem(event.data)));
  source.addEventListener("hub.reset", () => {
    append(noticeItem("Events may have been missed: the hub no longer has them."));
  });
  source.addEventListener("hub.bye", () => show("goodbye"));
  source.addEventListener("error", ({ data }) => {
    if (data?.status) refused({ status: data.status, message: `${data.detail} ${data.remedy}` });
    else if (source.readyState === EventSource.CLOSED) refusedNatively();
    // The end that follows a goodbye is announced already.
    else if (state.dataset.state !== "goodbye") show("reconnecting");
  });
}

// It does not say why.
function refusedNatively() {
  show("closed");
  ask("events" + location.search, { method: "HEAD" }).catch(refused);
}

function refused(error) {
  show(wantsToken(error) ? "token" : "closed");
  if (wantsToken(error)) askForToken(READING, error);
}

onToken(() => {
  find("wrong").textContent = "";
  listen();
  find("data").focus();
});

const topic = new URLSearchParams(location.search).get("topic") ?? "";

find("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = find("data");
  find("wrong").textContent = "";
  try {
    await publish({ data: data.value, topic });
    data.value = "";
    announce("Published");
  } catch (error) {
    if (wantsToken(error)) askForToken(PUBLISHING, error);
    else find("wrong").textContent = error.message;
  }
});

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const address = new URL("events", location.href).href;
const query = location.search;
find("curl-listen").textContent = `curl -N ${query ? quoted(address + query) : address}`;
const plain = /^[\w./:-]*$/.test(topic);
const field = plain ? `-d topic=${topic}` : `--data-urlencode ${quoted(`topic=${topic}`)}`;
const where = topic ? `${field} ` : "";
find("curl-publish").textContent = `curl -d data=hello ${where}${address}`;
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy(button));
}

listen();
