// The console: the hub's numbers, and the tabs Events, Topics, Connections and Hub.

import * as connections from "./console/connections_tab.js";
import * as events from "./console/events_tab.js";
import { knownRefusal } from "./console/grants.js";
import * as hub from "./console/hub_tab.js";
import * as drawer from "./console/publish_drawer.js";
import { onState, start } from "./console/status.js";
import * as strip from "./console/strip.js";
import * as tabs from "./console/tabs.js";
import * as token from "./console/token_dialog.js";
import * as topics from "./console/topics_tab.js";
import { find } from "./page.js";

/** Return a tab that does not open where the page knows that the hub refuses its requests. */
function guarded(name, tab, what) {
  const open = () => {
    const refusal = knownRefusal(name);
    if (!refusal) return tab.open();
    tab.hide?.();
    find(`${name}-locked`).replaceChildren(...token.lockedNotice(refusal, what));
    for (const list of find(`${name}-panel`).querySelectorAll(".of-token")) list.hidden = true;
    return undefined;
  };
  return { ...tab, open };
}

const shown = {
  events: guarded("events", events, "The events"),
  topics: guarded("topics", topics, "Topics"),
  connections: guarded("connections", connections, "Connections"),
  hub: guarded("hub", hub, "Settings, refusals and warnings"),
};

onState((state, error) => {
  if (state) {
    strip.update(state);
    hub.update(state);
    events.retry();
  }
  const isLocked = error?.status === 401 || error?.status === 403;
  find("strip").hidden = isLocked && !strip.hasPoints();
  find("hub-numbers").hidden = !strip.hasPoints();
  find("numbers-locked").replaceChildren(
    ...(isLocked ? token.lockedNotice(error, "The numbers") : []),
  );
});
for (const part of [strip, topics, connections, hub]) part.connect();
drawer.connect();
events.connect(drawer.open);
token.connect(() => {
  strip.clear();
  start();
  events.forget();
  tabs.open(shown);
});
start();
tabs.connect(shown);
