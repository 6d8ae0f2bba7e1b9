// The state of the hub, once a second: the status in the header, and who else wants to know it.

import { ask, find, mayNeedToken, token } from "../page.js";
import { age, clock } from "../units.js";
import { element, setText } from "./dom.js";
import { knownRefusal, setHub } from "./grants.js";
import { poller } from "./poller.js";

const POLL_MS = 1000; // while the page is visible

const listeners = [];
let newest; // the time of the newest point that the page has
let answered; // when the hub last answered, by this machine's clock

let resolve;
let permission;

/** Return whether the tab's token may read the state, once the hub has said so. */
export const mayReadState = () => permission;

/** Call `act` with each state of the hub; with undefined and the error when it does not answer. */
export const onState = (act) => listeners.push(act);

const hub = poller(load, POLL_MS);

async function load() {
  try {
    const query = newest ? `?since=${newest}` : "";
    const state = await (await ask(`console/state${query}`)).json();
    newest = state.series.to ?? newest;
    answered = Date.now();
    resolve(true);
    showState(state);
    for (const act of listeners) act(state);
  } catch (error) {
    return fail(error);
  }
  return true;
}

/** Say that there is no state. Return whether another request may help. */
function fail(error) {
  if (error.status) resolve(false);
  showError(error);
  for (const act of listeners) act(undefined, error);
  return !mayNeedToken(error); // else not until the user gives one
}

/** Ask now, as if nothing were known, and then once a second. */
export function start() {
  newest = undefined;
  permission = new Promise((act) => (resolve = act));
  const refusal = knownRefusal();
  if (!refusal) return hub.start();
  hub.stop();
  return fail(refusal);
}

function showState({ version, now, started, log, key, open }) {
  setHub({ key, open });
  const keyWords = !key ? "" : key.length ? "key" : open ? "no key, open to others" : "no key";
  if (log.up) show("connected", "Connected", `event log available${keyWords && ` · ${keyWords}`}`);
  else show("closed", "Event log unavailable", "publishing is refused");
  setText(find("build"), `${version}${started ? ` · up ${age(now - started)}` : ""}`);
  setStale(false);
}

function showError(error) {
  if (error.status === 403) show("reconnecting", "This token does not show the numbers");
  else if (error.status === 401)
    show("reconnecting", token() ? "The hub refuses this token" : "Token required");
  else if (error.status) show("closed", error.message);
  else show("closed", "The hub cannot be reached, retrying…");
  setStale(true);
}

function show(name, words, more) {
  const state = find("state");
  const text = more ? `${words} · ${more}` : words;
  if (state.textContent === text) return; // a screen reader would read the same words again
  state.dataset.state = name;
  state.replaceChildren(words, ...(more ? [element("span", { class: "more" }, ` · ${more}`)] : []));
}

// What is on the page stays, so that an operator sees what was so before the outage.
function setStale(isStale) {
  document.body.classList.toggle("stale", isStale && answered !== undefined);
  setText(find("as-of"), isStale && answered ? `as of ${clock(answered)}` : "");
}
