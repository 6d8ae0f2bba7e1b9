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

const search = find("topic-search");
const list = poller(load, POLL_MS);
const paging = pages("topics-back", "topics-next", list.now);

/** Return the pattern for what is searched: a pattern as it is, else all names that contain it. */
const patternOf = (text) => (!text ? "*" : /[{*]/.test(text) ? text : `{+before}${text}{+after}`);

async function load() {
  const query = new URLSearchParams({ topic: patternOf(search.value.trim()), limit: LIMIT });
  const sort = find("topic-sort").value;
  if (sort === "name" && paging.after) query.set("after", paging.after);
  try {
    const response = await ask(`console/topics?sort=${sort}&${query}`).catch((error) => {
      if (error.status !== 404) throw error;
      return ask(`topics?${query}`); // a hub that counts neither rates nor subscribers
    });
    show(await response.json());
  } catch (error) {
    find("topics-locked").replaceChildren(...lockedNotice(error, "Topics"));
    if (mayNeedToken(error)) find("topics-list").hidden = true;
    return !mayNeedToken(error);
  }
  return true;
}

function show({ topics, more, patterns = [], complete = true, seconds }) {
  find("topics-locked").replaceChildren();
  find("topics-list").hidden = false;
  find("topics-panel").classList.toggle("plain", seconds === undefined);
  paging.show(topics.at(-1)?.topic, more);
  const atLeast = complete ? "" : "≥\u00a0";
  fillRows(
    find("topics-rows"),
    topics,
    ({ topic }) => topic,
    (it) => cells(it, atLeast),
  );
  find("topics-empty").hidden = topics.length > 0;
  setText(find("topics-empty"), search.value ? "No topic fits." : "No topic has an event.");
  find("rate-head").title = `Events a second in the last ${Math.round(seconds)} s`;
  const deletable = topics.every(({ topic }) => mayDelete(topic));
  setText(
    find("topics-hint"),
    deletable ? "" : "To delete a topic, the token must grant publishing to it.",
  );
  setText(
    find("patterns"),
    patterns.map((it) => `${it.pattern} (${whole(it.subscribers)})`).join(", ") || "none",
  );
}

const watchLink = (topic) =>
  element("a", { href: watchHash({ topics: [topic], start: "last", value: "50" }) }, topic);

function cells({ topic, rate, subscribers, events, time, ended }, atLeast) {
  const connections = element(
    "a",
    { href: `#connections?${new URLSearchParams({ topic })}` },
    atLeast + whole(subscribers ?? 0),
  );
  const remove = element(
    "button",
    { type: "button", click: () => removeAll(topic), "aria-label": `Delete ${topic}` },
    "Delete…",
  );
  return [
    [watchLink(topic), ...(ended ? [element("span", { class: "badge" }, "ended")] : [])],
    rate ? `${short(rate)}/s` : "–",
    (subscribers ?? null) === null ? "–" : connections,
    whole(events),
    timeElement(clock(time, true), time),
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
