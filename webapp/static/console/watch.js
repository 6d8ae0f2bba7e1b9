// The stream of the events that the console watches.

import { refusalText, token } from "../page.js";
import { Tidings } from "../tidings.js";
import { forHub } from "./moment.js";
import { mayReadState } from "./status.js";

const MISSED = {
  aged: "Some events were missed: the event log no longer has them.",
  unknown: "The hub does not know this id. New events follow.",
  presence: "Some connects and disconnects were missed.",
};
const START_PARAMETERS = { last: "last", since: "since", after: "last_event_id" };

let source;
let newest; // the newest attempt
let isUnreachable = false;

/** Return the query of a watch. `counts`: whether its stream is one of the subscribers. */
function queryOf({ topics, start, value }, counts) {
  const query = new URLSearchParams({ envelope: 1 });
  if (!counts) query.set("console", 1);
  for (const topic of topics) query.append("topic", topic);
  if (start === "oldest") query.set("last_event_id", "earliest");
  else if (START_PARAMETERS[start])
    query.set(START_PARAMETERS[start], start === "since" ? forHub(value) : value);
  return query;
}

/**
 * Watch topics, instead of what was watched before.
 *
 * `on` has four functions: `event` and `notice` get what arrives, `status` says how the stream is,
 * and `refused` gets an error that another attempt would not help.
 */
export async function watch(what, on) {
  stop();
  on.status("Connecting…");
  const attempt = (newest = {});
  const counts = !(await mayReadState());
  if (attempt !== newest) return;
  const current = new Tidings(`events?${queryOf(what, counts)}`, {
    share: false,
    token: token() ? async () => token() : undefined,
  });
  source = current;
  // An event can have any type, and there is no listener for all types.
  current.dispatchEvent = (event) => {
    if (current !== source) return true;
    isUnreachable = event.type === "error" && !event.data?.status && !event.data?.bye;
    if (event.type.startsWith("hub.")) onControlEvent(event, on);
    else if (event.origin) on.event(envelope(event));
    else if (event.type === "open") on.status("");
    else if (event.type === "ended") on.status("All these topics have ended.");
    else onError(event.data, on);
    return true;
  };
}

/** Connect again at once, if the hub could not be reached: it answers now. */
export function retry() {
  if (isUnreachable) dispatchEvent(new Event("online"));
  isUnreachable = false;
}

export function stop() {
  isUnreachable = false;
  source?.close();
  source = newest = undefined;
}

function onControlEvent({ type, data }, on) {
  const { reason } = JSON.parse(data);
  if (type === "hub.bye") on.status(`Disconnected by the hub (${reason}), reconnecting…`);
  if (type === "hub.reset") on.notice(MISSED[reason]);
}

function onError(error, on) {
  if (!error || error.bye) return undefined;
  if (!error.status) return on.status("The hub cannot be reached, retrying…");
  const message = refusalText(error);
  if (error.status >= 500) return on.status(message);
  stop(); // the same request would be refused again
  return on.refused({ status: error.status, message });
}

/** Return the event in an envelope, or a similar object where the hub sends none, as for presence. */
function envelope({ type, data, lastEventId }) {
  try {
    const event = JSON.parse(data);
    if (event.topics) return event;
  } catch {
    // No envelope.
  }
  return { id: lastEventId, topic: "", topics: [], type, time: Date.now(), data };
}
