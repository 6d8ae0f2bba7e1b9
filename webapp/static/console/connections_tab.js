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
const SETTLED_MS = 1500; // after which all processes have ended a stream, and list it no more
const FILTERS = ["topic", "subject", "address"];
const NAMED_TOPICS = 3; // in a question

const list = poller(load, POLL_MS);
const paging = pages("connections-back", "connections-next", list.now);

let isMissing = false; // the hub has no such list, and will have none until it starts again

const filter = (name) => find(`connections-${name}`);

async function load() {
  if (isMissing) return false;
  const query = new URLSearchParams({ limit: LIMIT });
  for (const name of FILTERS)
    if (filter(name).value.trim()) query.set(name, filter(name).value.trim());
  if (paging.after) query.set("after", paging.after);
  try {
    show(await (await ask(`console/connections?${query}`)).json());
  } catch (error) {
    find("connections-locked").replaceChildren(...lockedNotice(error, "Connections"));
    isMissing = error.status === 404;
    const isFinal = mayNeedToken(error) || isMissing;
    if (isFinal) find("connections-list").hidden = true;
    return !isFinal;
  }
  return true;
}

function show({ connections, more, total, consoles }) {
  find("connections-locked").replaceChildren();
  find("connections-list").hidden = false;
  paging.show(connections.at(-1)?.id, more);
  fillRows(find("connections-rows"), connections, ({ id }) => id, cells);
  find("connections-empty").hidden = connections.length > 0;
  const subscribers = count(total - consoles, "subscriber");
  setText(
    find("connections-count"),
    consoles ? `${subscribers}, ${count(consoles, "console")}` : subscribers,
  );
  const missing = ["disconnect", "revoke tokens"].filter((use) => !may(use));
  setText(
    find("connections-hint"),
    missing.length ? `To ${missing.join(" or to ")}, use a token that grants it.` : "",
  );
}

const count = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

const duration = (ms) => (ms < 1000 ? `${whole(ms)}\u00a0ms` : age(ms / 1000));

function cells(connection) {
  const { id, address, subject, topics, more_topics, via, since, sent, lag, parked } = connection;
  const names = topics.join(", ") + (more_topics ? ` +${more_topics}` : "");
  const badge = (words) => element("span", { class: "badge" }, words);
  const isIndirect = via && via !== read().query.get("topic");
  const button = (words, act) =>
    element(
      "button",
      { type: "button", click: act, "aria-label": `${words} ${subject ?? address}` },
      words,
    );
  return [
    address,
    subject ?? "–",
    [
      element("span", { class: "cut" }, names),
      ...(isIndirect ? [badge(`via ${via}`)] : []),
      ...(connection.console ? [badge("console")] : []),
    ],
    timeElement(clock(since * 1000), since * 1000),
    count(sent, "event"),
    `${duration(lag)}${parked ? "" : ", catching up"}`,
    [
      ...(may("disconnect") ? [button("Disconnect", () => disconnect(connection))] : []),
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

/** Return the words that tell a connection from all others. */
function described({ address, subject, topics, more_topics, since }) {
  const others = topics.length + more_topics - NAMED_TOPICS;
  const names = topics.slice(0, NAMED_TOPICS).join(", ") + (others > 0 ? ` and ${others} more` : "");
  const client = subject ?? `an anonymous client at ${address || "this machine"}`;
  return `${client}, stream on ${names}, since ${clock(since * 1000)}`;
}

async function disconnect(connection) {
  const name = described(connection);
  const again = connection.subject
    ? "The client may connect again, unless you also use Revoke."
    : "The client may connect again. Revoke cannot prevent that: it has no subject.";
  if (!(await confirmed(`Disconnect ${name}?`, `The stream ends. ${again}`, "Disconnect"))) return;
  const path = `console/connections/${encodeURIComponent(connection.id)}`;
  await act(
    () => ask(path, { method: "DELETE" }),
    `Disconnected at ${clock(Date.now())}: ${name}.`,
  );
  setTimeout(list.now, SETTLED_MS);
}

async function revoke(subject) {
  const consequence =
    "The hub refuses all tokens that this subject has until now, and ends their streams.";
  if (!(await confirmed(`Revoke the tokens of ${subject}?`, consequence, "Revoke"))) return;
  const body = new URLSearchParams({ subject });
  await act(
    () => ask(".well-known/mercure/revocations", { method: "POST", body }),
    `The tokens of ${subject} are revoked.`,
  );
}

/** Show the list, of the topic that the URL names; of any, if it names none. */
export function open() {
  const topic = read().query.get("topic") ?? "";
  if (topic !== filter("topic").value.trim()) {
    filter("topic").value = topic;
    paging.reset();
  }
  list.start();
}

const hash = (topic) => `#connections${topic ? `?${new URLSearchParams({ topic })}` : ""}`;

export const { stop: hide } = list;

/** Connect the filters. */
export function connect() {
  find("connections-filter").addEventListener("submit", (event) => {
    event.preventDefault();
    paging.reset();
    const wanted = hash(filter("topic").value.trim());
    if (location.hash === wanted) list.now();
    else location.hash = wanted;
  });
}
