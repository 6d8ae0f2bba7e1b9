// What the hub would refuse, as far as the page knows it: the console does not ask for that.

import { find, token } from "../page.js";

const { needsToken, eventsNeedToken, noConnections } = find("content").dataset;

/** Return the error that the hub would answer in a tab, or to who asks for numbers. */
export function knownRefusal(tab) {
  if (tab === "connections" && noConnections) return { status: 404, message: noConnections };
  const isLocked = tab === "events" ? eventsNeedToken : needsToken;
  return isLocked && !token() ? { status: 401 } : undefined;
}
