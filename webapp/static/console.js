// The console: the hub's numbers, and the tabs Events, Topics, Connections and Hub.

import * as connections from "./console/connections_tab.js";
import * as events from "./console/events_tab.js";
import * as hub from "./console/hub_tab.js";
import * as drawer from "./console/publish_drawer.js";
import { onState, start } from "./console/status.js";
import * as strip from "./console/strip.js";
import * as tabs from "./console/tabs.js";
import * as token from "./console/token_dialog.js";
import * as topics from "./console/topics_tab.js";
import { find } from "./page.js";

const shown = { events, topics, connections, hub };

onState((state, error) => {
  if (state) {
    strip.update(state);
    hub.update(state);
  }
  const isLocked = error?.status === 401 || error?.status === 403;
  find("strip").hidden = isLocked && !strip.hasPoints();
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
