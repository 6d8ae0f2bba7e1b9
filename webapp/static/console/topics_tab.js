// The tab Topics: which there are, how busy they are, who subscribes; delete one.

import { announce, ask, find, mayNeedToken } from "../page.js";
import { age, clock, short, whole } from "../units.js";
import { watchHash } from "./address.js";
import { confirmed } from "./confirm_dialog.js";
import { element, setText } from "./dom.js";
import { knownRefusal, may, mayDelete } from "./grants.js";
import { pages } from "./pages.js";
import { poller } from "./poller.js";
import { fillRows, timeElement } from "./rows.js";
import { lockedNotice } from "./token_dialog.js";

const POLL_MS = 3000;
const LIMIT = 100;
const MAX_RATES = 1000;
const MAX_QUERY_CHARS = 6000; // a hub may refuse longer URLs
const ORDERS = { subscribers: "subscribers", events: "events", newest: "time" }; // of one page

const search = find("topic-search");
const list = poller(load, POLL_MS);
const paging = pages("topics-back", "topics-next", list.now);

const order = () => find("topic-sort").value;

/** Return the pattern for what is searched: a pattern as it is, else all names that contain it. */
const patternOf = (text) => (!text ? "*" : /[{*]/.test(text) ? text : `{+before}${text}{+after}`);

const fetched = async (path) => (await ask(path)).json();

async function load() {
  try {
    show((order() === "rate" && (await withRates(busiest))) || (await page()));
  } catch (error) {
    find("topics-locked").replaceChildren(...lockedNotice(error, "Topics"));
    if (mayNeedToken(error)) find("topics-list").hidden = true;
    return !mayNeedToken(error);
  }
  return true;
}

/** Return what `act` asks for; undefined: the token may not see rates. */
async function withRates(act) {
  if (!may("see the rates of topics")) return undefined;
  try {
    return await act();
  } catch (error) {
    if (error.status === 403) return undefined;
    throw error;
  }
}

/** Return a page of all topics in the order of their names. */
async function page() {
  const query = new URLSearchParams({ topic: patternOf(search.value.trim()), limit: LIMIT });
  if (paging.after) query.set("after", paging.after);
  const found =
    (await withRates(() => fetched(`console/topics?${query}`))) ?? (await fetched(`topics?${query}`));
  const key = ORDERS[order()];
  return key ? { ...found, sorted: found.topics.toSorted((a, b) => (b[key] ?? -1) - (a[key] ?? -1)) } : found;
}

/** Return the topics with the most events of the last minute. */
async function busiest() {
  const text = search.value.trim();
  const { topics, seconds } = await fetched(`console/topics?limit=${text ? MAX_RATES : LIMIT}`);
  const found = topics.filter(({ topic }) => topic.includes(text)).slice(0, LIMIT);
  const known = new Map((await details(found)).map((it) => [it.topic, it]));
  return { topics: found.map((it) => ({ ...known.get(it.topic), ...it })), more: false, seconds };
}

/** Return how many events topics have, and when the newest one was. */
async function details(topics) {
  const query = new URLSearchParams({ limit: LIMIT });
  const isName = ({ topic }) => !topic.includes("{") && topic !== "*";
  for (const { topic } of topics.filter(isName)) {
    if (query.toString().length > MAX_QUERY_CHARS) break;
    query.append("topic", topic);
  }
  return query.has("topic") ? (await fetched(`topics?${query}`)).topics : [];
}

function show({ topics, sorted = topics, more, seconds }) {
  find("topics-locked").replaceChildren();
  find("topics-list").hidden = false;
  paging.show(topics.at(-1)?.topic, more);
  setText(headOf("rate"), seconds ? `Rate, ${age(seconds)}` : "Rate");
  headOf("rate").title = `Events a second in the last ${age(seconds ?? 60)}`;
  showOrder();
  fillRows(find("topics-rows"), sorted, ({ topic }) => topic, cells);
  find("topics-empty").hidden = topics.length > 0;
  setText(find("topics-empty"), search.value ? "No topic fits." : "No topic has an event.");
  const missing = [
    topics.every(({ topic }) => mayDelete(topic))
      ? ""
      : "To delete a topic, the token must grant publishing to it.",
    seconds ? "" : "Rates need a token that grants /console/topics.",
    ORDERS[order()] && (more || paging.after) ? "Only the topics of this page are in this order." : "",
  ];
  setText(find("topics-hint"), missing.filter(Boolean).join(" "));
}

const headOf = (name) => document.querySelector(`.topics-rows [data-sort="${name}"]`);

function showOrder() {
  for (const button of document.querySelectorAll(".topics-rows [data-sort]")) {
    const isChosen = button.dataset.sort === order();
    const direction = order() === "name" ? "ascending" : "descending";
    button.closest("th").setAttribute("aria-sort", isChosen ? direction : "none");
  }
}

const watchLink = (topic) =>
  element("a", { href: watchHash({ topics: [topic], start: "last", value: "50" }) }, topic);

/** Return how many subscribe, and where the hub lists connections, the link to them. */
function subscribersOf(topic, count) {
  const text = count === null || count === undefined ? "–" : whole(count);
  if (knownRefusal("connections")?.status === 404) return text;
  const href = `#connections?${new URLSearchParams({ topic })}`;
  return element("a", { href, "aria-label": `Subscribers of ${topic}: ${text}` }, text);
}

function cells({ topic, rate, subscribers, events, time, ended }) {
  const remove = element(
    "button",
    { type: "button", click: () => removeAll(topic), "aria-label": `Delete ${topic}` },
    "Delete…",
  );
  return [
    [watchLink(topic), ...(ended ? [element("span", { class: "badge" }, "ended")] : [])],
    rate === undefined ? "–" : `${short(rate)}/s`,
    subscribersOf(topic, subscribers),
    events === undefined ? "–" : whole(events),
    time ? timeElement(clock(time), time) : "–",
    mayDelete(topic) ? remove : "",
  ];
}

async function removeAll(topic) {
  const question = `Delete all events of ${topic}?`;
  if (
    !(await confirmed(
      question,
      "They leave the event log at once, for all subscribers. This cannot be undone.",
      "Delete",
    ))
  )
    return;
  try {
    const { deleted } = await (
      await ask(`events?${new URLSearchParams({ topic })}`, { method: "DELETE" })
    ).json();
    announce(`${whole(deleted)} events deleted`);
    setText(
      find("topics-said"),
      `${whole(deleted)} ${deleted === 1 ? "event" : "events"} of ${topic} deleted.`,
    );
  } catch (error) {
    setText(find("topics-said"), error.message);
  }
  list.now();
}

export const { start: open, stop: hide } = list;

/** Connect the search and the order. */
export function connect() {
  let timer;
  const again = () => {
    paging.reset();
    list.now();
  };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(again, 250);
  });
  find("topic-sort").addEventListener("change", again);
  for (const button of document.querySelectorAll(".topics-rows [data-sort]"))
    button.addEventListener("click", () => {
      find("topic-sort").value = button.dataset.sort;
      again();
    });
}
