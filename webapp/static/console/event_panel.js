// One event, beside the table: all its fields, its data as coloured JSON, and what to do with it.

import { copyText } from "../clipboard.js";
import { announce, find } from "../page.js";
import { bytes, when } from "../units.js";
import { eventUrl } from "./address.js";
import { definitions, element, setText } from "./dom.js";
import { sizeOf } from "./event_table.js";
import { view } from "./json.js";

const panel = find("event");
const FIELDS = new Set(["id", "topic", "topics", "type", "time", "private", "data"]);
let shown;

/** Return the event in the panel; undefined: the panel is closed. */
export const shownEvent = () => shown;

export function open(event) {
  shown = event;
  find("event-fields").replaceChildren(...definitions(fields(event)));
  find("event-data").replaceChildren(...view(event.data));
  find("link-event").hidden = !event.topic || !event.id;
  panel.hidden = false;
  panel.scrollTop = 0;
  announce(`Event of ${event.topic}`);
}

export function close() {
  shown = undefined;
  panel.hidden = true;
}

function fields(event) {
  const others = Object.entries(event).filter(([name]) => !FIELDS.has(name));
  return [
    ["Topic", event.topic],
    ["Other topics", event.topics.slice(1).join("\n")],
    ["Type", event.type ?? "message"],
    ["Time", element("span", { id: "event-time" }, when(event.time))],
    ["ISO 8601", new Date(event.time).toISOString()],
    ["Id", event.id],
    ["Private", event.private ? "yes" : "no"],
    ...others.map(([name, value]) => [name, JSON.stringify(value)]),
    ["Size", bytes(sizeOf(event.data))],
  ];
}

/** Connect the buttons. `onRepublish` gets the event to publish again. */
export function connect(onClose, onRepublish) {
  setInterval(() => {
    if (shown && !document.hidden) setText(find("event-time"), when(shown.time)); // its age
  }, 1000);
  find("close-event").addEventListener("click", onClose);
  find("copy-event").addEventListener("click", ({ target }) => copyText(target, shown.data));
  find("link-event").addEventListener("click", ({ target }) => copyText(target, eventUrl(shown)));
  find("republish").addEventListener("click", () => onRepublish(shown));
}
