// The live page: the events of all topics or of those in its URL, and how to subscribe and publish.

import { writeCommands } from "./commands.js";
import { appendEvent, appendNotice } from "./event_list.js";
import {
  announce, askForToken, claimsOf, find, keepToken, listsOf, mayNeedToken, onToken, publish, refusalText, token,
} from "./page.js";
import { Tidings } from "./tidings.js";

const STATES = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Disconnected, reconnecting…",
  ended: "Disconnected by the hub, reconnecting…",
  token: "Token required",
  over: "Ended: nothing more comes",
  closed: "Closed. Reload the page to connect.",
};
const DEFAULT_TOPIC = "events";
const PRESENCE = "/.well-known/mercure/subscriptions/";
const NEWEST = 20;
const TEMPLATE = /^(?:[^\s"'%<>\\^`{|}]|%[0-9a-f]{2}|\{\w+\})*$/i; // with plain variables only
const MAX_PATTERNS = 3; // of a token's, that the page names

const state = find("state");
const asked = new URLSearchParams(location.search);
const hasTopic = [...asked.keys()].some((name) => /^(topic|match)/i.test(name));
const others = asked.getAll("topic").slice(1);
const isHubWithKey = Boolean(find("token"));

function show(name) {
  // A screen reader would read the same words again at every failed attempt.
  if (state.dataset.state === name) return;
  state.dataset.state = name;
  state.textContent = STATES[name];
  find("empty").textContent = name === "connected" ? "Waiting for events…" : "No events.";
}

// -- the stream

let source;

// The query is the page's own. A token does not belong in a URL, not even for a moment.
function streamQuery() {
  const query = new URLSearchParams(asked);
  query.delete("authorization");
  query.set("envelope", 1); // it names the topic
  if (!hasTopic) query.append("topic", "*");
  const hasStart = [...query.keys()].some((name) => /^(latest|last|since)$|event.?id$/i.test(name));
  if (!hasStart) query.set("last", NEWEST);
  return query;
}

// The URL is relative, so it works under a prefix.
function subscribe() {
  source?.close();
  find("error").textContent = "";
  const options = { share: false, token: token() ? async () => token() : undefined };
  const current = new Tidings(`events?${streamQuery()}`, options);
  source = current;
  show("connecting");
  // An event can have any type, and there is no listener for all types.
  current.dispatchEvent = (event) => {
    if (current === source) onEvent(event);
    return true;
  };
}

function onEvent({ type, data, origin }) {
  if (type === "hub.open") showScope(JSON.parse(data));
  else if (type === "hub.reset") appendNotice("Some events were missed: the event log no longer has them.");
  else if (type === "hub.bye") show("ended");
  else if (type.startsWith("hub.")) return;
  else if (origin) onPublished(JSON.parse(data));
  else if (type === "open") show("connected");
  else if (type === "ended") show("over");
  else onFailure(data);
}

function onPublished(event) {
  const { topic, topics, type } = event;
  // They are many, of the page's own stream too, so the page shows them only if they were asked for.
  if (!hasTopic && topic.startsWith(PRESENCE)) return;
  // What an EventSource of /events, or of the page's own topics, shows in the tutorial.
  const isMessage = !type || type === "message";
  appendEvent(event, isMessage && (hasTopic || topics.includes(DEFAULT_TOPIC)));
}

function onFailure(failure) {
  const { status, bye } = failure;
  // After hub.bye the page says already why it is disconnected.
  if (!bye && state.dataset.state !== "ended") show("reconnecting");
  if (!status) return;
  const error = { status, message: refusalText(failure) };
  if (status < 500 && status !== 429) refuse(error);
  else find("error").textContent = error.message;
}

// The same request would be refused again.
function refuse(error) {
  source.close();
  const mayHelp = isHubWithKey && mayNeedToken(error);
  show(mayHelp ? "token" : "closed");
  find("scope").textContent = "";
  if (mayHelp) askForToken("This hub needs a token to subscribe.", error);
  else find("error").textContent = error.message;
  offerToken();
}

// -- what the page shows, and may show

function showScope({ topics, token: use, why }) {
  find("error").textContent = "";
  const named = `the topic${topics.length > 1 ? "s" : ""} ${topics.join(", ")}`;
  const shown = topics.includes("*") ? "all topics" : named;
  find("scope").textContent = isHubWithKey
    ? `${visible(shown, use, why)}.`
    : `This page subscribes to ${shown}.`;
  offerToken();
}

function visible(shown, use, why) {
  const claims = use === "used" && claimsOf(token());
  const patterns = claims && listsOf(claims).subscribe;
  if (patterns && patterns.includes("*")) return `Public and private events of ${shown}`;
  const known = `Public events of ${shown}`;
  if (use === "ignored") return `${known}. Your token does not count, because it is ${why}`;
  if (use === "none") return `${known}. Private events need a token`;
  if (!patterns) return `${known}, and the private ones that your token grants`;
  if (!patterns.length) return `${known}. Your token grants no private events`;
  const more = patterns.length > MAX_PATTERNS ? ` and ${patterns.length - MAX_PATTERNS} more` : "";
  const named = patterns.slice(0, MAX_PATTERNS).join(", ");
  return `${known}, and private events of ${named}${more}. Your token does not grant *`;
}

function offerToken() {
  if (!isHubWithKey) return;
  find("change-token").hidden = !find("token").hidden && !token();
  find("change-token").textContent = token() ? "Remove the token" : "Use a token";
}

if (isHubWithKey) {
  onToken(() => {
    subscribe();
    find("data")?.focus();
  });
  find("change-token").addEventListener("click", () => {
    if (token()) {
      keepToken("");
      subscribe();
    } else {
      askForToken("With a token you can publish, and see private events.", { status: 401 });
      offerToken();
    }
  });
}

// -- the topic of the commands, and of what is published here

const topic = find("topic");
topic.value = asked.get("topic") ?? "";

// Events have exact topics: of a pattern, this is one that it matches.
const exactTopic = () => {
  if (topic.value === "*") return "";
  return TEMPLATE.test(topic.value) ? topic.value.replaceAll(/\{\w+\}/g, "1") : topic.value;
};

function onTopic() {
  writeCommands([topic.value, ...others].filter(Boolean), exactTopic());
  if (find("publish")) find("publish-topic").textContent = exactTopic() || DEFAULT_TOPIC;
}

topic.addEventListener("input", onTopic);
find("all-topics").hidden = !hasTopic;

find("publish")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = find("data");
  find("error").textContent = "";
  try {
    await publish({ data: data.value, topic: exactTopic() });
    data.value = "";
    announce("Published");
  } catch (error) {
    if (isHubWithKey && mayNeedToken(error)) askForToken("This hub needs a token to publish.", error);
    else find("error").textContent = error.message;
  }
});

onTopic();
subscribe();
