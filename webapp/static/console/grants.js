// What a token grants. The page only decides by it what it offers: the hub checks each request.

import { claimsOf, find, listsOf, token } from "../page.js";

const SUBSCRIPTIONS = "/.well-known/mercure/subscriptions";
const REVOCATIONS = "/.well-known/mercure/revocations";
const OWN_PATHS = /^\/(console|\.well-known\/mercure)\/|^\/(topics|metrics)$/;
const FOLDER = /^\/(console|\.well-known\/mercure)\//;

/** What the console does, and the paths that a token must grant for it. */
export const USES = [
  { name: "see the numbers", subscribe: ["/console/state"] },
  { name: "list topics", subscribe: ["/topics"] },
  { name: "see the rates of topics", subscribe: ["/console/topics", "/topics"] },
  { name: "list connections", subscribe: ["/console/connections", SUBSCRIPTIONS] },
  { name: "disconnect", subscribe: ["/console/connections"], publish: [SUBSCRIPTIONS] },
  { name: "revoke tokens", subscribe: [], publish: [REVOCATIONS] },
  { name: "see settings, refusals, warnings", subscribe: ["/console/hub"] },
];

const VARIABLES = { "+": ".*", "#": ".*", "/": "(?:/[^/]*)*", "": "[^/?#]*" };

function matches(pattern, topic) {
  if (pattern === "*" || pattern === topic) return true;
  if (!pattern.includes("{")) return false;
  const parts = pattern.split(/\{([+#/]?)[^{}]*\}/);
  const source = parts.map((part, index) =>
    index % 2 ? VARIABLES[part] : part.replace(/[^\w]/g, "\\$&"),
  );
  try {
    return new RegExp(`^${source.join("")}$`, "u").test(topic);
  } catch {
    return false;
  }
}

/** Return whether patterns grant a topic. For the hub's own paths they must name it literally. */
export function grants(patterns, topic) {
  const isOwn = OWN_PATHS.test(topic);
  return patterns.some(
    (it) => matches(it, topic) && (!isOwn || it === "*" || it === topic || FOLDER.test(it)),
  );
}

/** Return whether lists of patterns suffice for one of the uses. */
export const suffices = (lists, { subscribe = [], publish = [] }) =>
  subscribe.every((path) => grants(lists.subscribe, path)) &&
  publish.every((path) => grants(lists.publish, path));

let hub = {}; // what the console's state says of its key, if the token may see that

export const setHub = (facts) => (hub = facts);

// Without a key the hub decides, and where an app's login or a token in a cookie counts.
const isUnknown = () =>
  (!token() && !knownRefusal()) ||
  (hub.key ? !hub.key.length || hub.key.includes("app") : !find("open-token"));
const ownLists = () => listsOf(claimsOf(token()));

/** Return whether the tab's token may publish to a topic, as far as the page knows. */
export const mayPublish = (topic) => isUnknown() || grants(ownLists().publish, topic);

/** Return whether it may delete a topic. On an open hub without a key nobody may. */
export const mayDelete = (topic) => mayPublish(topic) && !hub.open;

/** Return whether it may do one of the `USES`, by its name. */
export const may = (name) =>
  isUnknown() ||
  suffices(
    ownLists(),
    USES.find((use) => use.name === name),
  );

// -- what the hub would refuse without a token, as far as the page knows it

const { needsToken, eventsNeedToken, noConnections } = find("content").dataset;

/** Return the error that the hub would answer in a tab, or to who asks for numbers. */
export function knownRefusal(tab) {
  if (tab === "connections" && noConnections) return { status: 404, message: noConnections };
  const isLocked = tab === "events" ? eventsNeedToken : needsToken;
  return isLocked && !token() ? { status: 401 } : undefined;
}
