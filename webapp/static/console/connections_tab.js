// The tab Connections: who is connected, how far behind; disconnect one, revoke a subject's tokens.

import { announce, ask, find, mayNeedToken } from "../page.js";
import { age, clock, whole } from "../units.js";
import { read } from "./address.js";
import { confirmed } from "./confirm_dialog.js";
import { element, setText } from "./dom.js";
import { may } from "./grants.js";
import { pages } from "./pages.js";
import { poller } from "./poller.js";
import { fillRows, timeElement } from "./rows.js";
import { lockedNotice } from "./token_dialog.js";

const POLL_MS = 5000; // the hub asks all its processes
const LIMIT = 50;
const FILTERS = ["topic", "subject", "address"];

const list = poller(load, POLL_MS);
const paging = pages("connections-back", "connections-next", list.now);

const filter = (name) => find(`connections-${name}`);

async function load() {
  const query = new URLSearchParams({ limit: LIMIT });
  for (const name of FILTERS)
    if (filter(name).value.trim()) query.set(name, filter(name).value.trim());
  if (paging.after) query.set("after", paging.after);
  try {
    show(await (await ask(`console/connections?${query}`)).json());
  } catch (error) {
    find("connections-locked").replaceChildren(...lockedNotice(error, "Connections"));
    const isFinal = mayNeedToken(error) || error.status === 404;
    if (isFinal) find("connections-list").hidden = true;
    return !isFinal;
  }
  return true;
}

function show({ connections, more, total }) {
  find("connections-locked").replaceChildren();
  find("connections-list").hidden = false;
  paging.show(connections.at(-1)?.id, more);
  fillRows(find("connections-rows"), connections, ({ id }) => id, cells);
  find("connections-empty").hidden = connections.length > 0;
  setText(
    find("connections-count"),
    `${whole(total)} ${total === 1 ? "connection" : "connections"}`,
  );
  const missing = [
    ["disconnect", "disconnect"],
    ["revoke tokens", "revoke tokens"],
  ]
    .filter(([use]) => !may(use))
    .map(([, words]) => words);
  setText(
    find("connections-hint"),
    missing.length ? `To ${missing.join(" or to ")}, use a token that grants it.` : "",
  );
}

function cells({
  id,
  address,
  subject,
  topics,
  more_topics,
  since,
  sent,
  lag,
  parked,
  console: isConsole,
}) {
  const names = topics.join(", ") + (more_topics ? ` +${more_topics}` : "");
  const own = isConsole ? [element("span", { class: "badge" }, "console")] : [];
  const button = (words, act) =>
    element(
      "button",
      { type: "button", click: act, "aria-label": `${words} ${subject ?? address}` },
      words,
    );
  return [
    address,
    subject ?? "–",
    [element("span", { class: "cut" }, names), ...own],
    timeElement(clock(since * 1000), since * 1000),
    whole(sent),
    lag ? `${age(lag / 1000)}${parked ? "" : ", catching up"}` : parked ? "0" : "catching up",
    [
      ...(may("disconnect")
        ? [button("Disconnect", () => disconnect(id, subject ?? address))]
        : []),
      ...(may("revoke tokens") && subject ? [button("Revoke", () => revoke(subject))] : []),
    ],
  ];
}

async function act(request, words) {
  try {
    await request();
    announce(words);
    setText(find("connections-said"), words);
  } catch (error) {
    setText(find("connections-said"), error.message);
  }
  list.now();
}

async function disconnect(id, name) {
  const sure = await confirmed(
    `Disconnect ${name}?`,
    "Its stream ends. The client may connect again.",
    "Disconnect",
  );
  const path = `console/connections/${encodeURIComponent(id)}`;
  if (sure) act(() => ask(path, { method: "DELETE" }), `${name} is disconnected.`);
}

async function revoke(subject) {
  const consequence =
    "The hub refuses all tokens that this subject has until now, and ends their streams.";
  if (!(await confirmed(`Revoke the tokens of ${subject}?`, consequence, "Revoke"))) return;
  const body = new URLSearchParams({ subject });
  act(
    () => ask(".well-known/mercure/revocations", { method: "POST", body }),
    `The tokens of ${subject} are revoked.`,
  );
}

/** Show the list, of the topic that the URL names if it names one. */
export function open() {
  const topic = read().query.get("topic");
  if (topic !== null && topic !== filter("topic").value) {
    filter("topic").value = topic;
    paging.reset();
  }
  list.start();
}

export const { stop: hide } = list;

/** Connect the filters. */
export function connect() {
  find("connections-filter").addEventListener("submit", (event) => {
    event.preventDefault();
    paging.reset();
    list.now();
  });
}
