// The tab Topics: which there are, how busy they are, who subscribes; delete one.

import { announce, ask, find, mayNeedToken } from "../page.js";
import { clock, short, whole } from "../units.js";
import { watchHash } from "./address.js";
import { confirmed } from "./confirm_dialog.js";
import { element, setText } from "./dom.js";
import { mayDelete } from "./grants.js";
import { pages } from "./pages.js";
import { poller } from "./poller.js";
import { fillRows, timeElement } from "./rows.js";
import { lockedNotice } from "./token_dialog.js";

const POLL_MS = 3000;
const LIMIT = 100;
const MAX_RATES = 1000;

const search = find("topic-search");
const list = poller(load, POLL_MS);
const paging = pages("topics-back", "topics-next", list.now);

/** Return the pattern for what is searched: a pattern as it is, else all names that contain it. */
const patternOf = (text) => (!text ? "*" : /[{*]/.test(text) ? text : `{+before}${text}{+after}`);

async function load() {
  const text = search.value.trim();
  const query = new URLSearchParams({ topic: patternOf(text), limit: LIMIT });
  if (paging.after) query.set("after", paging.after);
  try {
    const busiest = await busiestTopics();
    const rates = new Map(busiest.topics?.map(({ topic, rate }) => [topic, rate]));
    const isByRate = find("topic-sort").value === "rate";
    const found = isByRate
      ? { topics: (busiest.topics ?? []).filter(({ topic }) => topic.includes(text)), more: false }
      : await (await ask(`topics?${query}`)).json();
    show(found, rates, busiest.seconds);
  } catch (error) {
    find("topics-locked").replaceChildren(...lockedNotice(error, "Topics"));
    if (mayNeedToken(error)) find("topics-list").hidden = true;
    return !mayNeedToken(error);
  }
  return true;
}

/** Return the topics with a rate, the busiest first; none if the token may not see them. */
async function busiestTopics() {
  try {
    return await (await ask(`console/topics?limit=${MAX_RATES}`)).json();
  } catch (error) {
    if (mayNeedToken(error)) return {};
    throw error;
  }
}

function show({ topics, more }, rates, seconds) {
  find("topics-locked").replaceChildren();
  find("topics-list").hidden = false;
  paging.show(topics.at(-1)?.topic, more);
  fillRows(
    find("topics-rows"),
    topics,
    ({ topic }) => topic,
    (it) => cells(it, rates),
  );
  find("topics-empty").hidden = topics.length > 0;
  setText(find("topics-empty"), search.value ? "No topic fits." : "No topic has an event.");
  find("rate-head").title = `Events a second in the last ${Math.round(seconds ?? 60)} s`;
  const missing = [
    topics.every(({ topic }) => mayDelete(topic))
      ? ""
      : "To delete a topic, the token must grant publishing to it.",
    seconds ? "" : "Rates need a token that grants /console/topics.",
  ];
  setText(find("topics-hint"), missing.filter(Boolean).join(" "));
}

const watchLink = (topic) =>
  element("a", { href: watchHash({ topics: [topic], start: "last", value: "50" }) }, topic);

function cells({ topic, events, time, ended }, rates) {
  const query = new URLSearchParams({ topic });
  const subscribers = element(
    "a",
    { href: `#connections?${query}`, "aria-label": `Subscribers of ${topic}` },
    "show",
  );
  const remove = element(
    "button",
    { type: "button", click: () => removeAll(topic), "aria-label": `Delete ${topic}` },
    "Delete…",
  );
  return [
    [watchLink(topic), ...(ended ? [element("span", { class: "badge" }, "ended")] : [])],
    rates.has(topic) ? `${short(rates.get(topic))}/s` : "–",
    subscribers,
    events === undefined ? "–" : whole(events),
    time ? timeElement(clock(time, true), time) : "–",
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
}
