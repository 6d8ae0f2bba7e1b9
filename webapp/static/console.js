// The console: the state of the hub, the events of any topics, and a form to publish.

import { clear, onRefused, subscribe, togglePause, unsubscribe } from "./events.js";
import { ask, askForToken, find, mayNeedToken, onToken, publish } from "./page.js";
import { plot } from "./plot.js";
import { age, bytes, short, whole } from "./units.js";

const POLL_MS = 1000; // while the page is visible

const plots = {
  subscribers: plot(find("plot-subscribers"), short),
  published: plot(find("plot-published"), short),
  delivered: plot(find("plot-delivered"), short),
};

function show(name, words) {
  const state = find("state");
  if (state.textContent === words) return; // a screen reader would read the same words again
  state.dataset.state = name;
  state.textContent = words;
}

// -- the token

const askForConsoleToken = (error) => askForToken("This hub needs a token.", error);

onRefused(askForConsoleToken);

onToken(() => {
  find("topics").focus();
  poll();
  start();
});

// -- the state of the hub

let previous; // undefined after a pause or an error: then there is no rate
let pollTimer;

async function poll() {
  clearTimeout(pollTimer);
  if (document.hidden) return;
  try {
    const current = await (await ask("console/state")).json();
    if (current.log.up) show("connected", "Connected");
    else show("reconnecting", "Event log unavailable");
    addPoints(current);
    showState(current);
    previous = current;
  } catch (error) {
    previous = undefined;
    if (mayNeedToken(error)) {
      show("token", "Token required");
      askForConsoleToken(error);
      return; // until the user gives one
    }
    find("log-up").textContent = "–";
    show("reconnecting", error.status ? error.message : "The hub cannot be reached, retrying…");
    for (const add of Object.values(plots)) add(Date.now() / 1000, null);
  }
  pollTimer = setTimeout(poll, POLL_MS);
}

function addPoints(current) {
  const time = Date.now() / 1000;
  plots.subscribers(time, current.readers);
  for (const name of ["published", "delivered"]) {
    // After a restart the counts begin at 0 again.
    const isRate = previous && current.now > previous.now && current[name] >= previous[name];
    const rate = isRate ? (current[name] - previous[name]) / (current.now - previous.now) : null;
    plots[name](time, rate);
  }
}

function showState({ version, now, log, history, workers, ...totals }) {
  find("version").textContent = `Tidings ${version}`;
  find("log-name").textContent = log.name;
  find("log-up").textContent = log.up ? "Available" : "Unavailable: publishing is refused";
  find("log-up").className = log.up ? "" : "error";
  find("log-floor").textContent = position(log.floor, now);
  find("log-head").textContent = position(log.head, now);
  const { events, age: seconds, bytes: size } = history;
  const limits = [events && `${whole(events)} events`, seconds && age(seconds), size && bytes(size)];
  find("log-limits").textContent = limits.filter(Boolean).join(", ") || "–";
  showWorkers(workers);
  showTotals(totals);
}

function position(id, now) {
  if (!id || id.startsWith("0-")) return "–";
  return `${id}, ${age(now - Number(id.split("-")[0]) / 1000)}\u00a0ago`;
}

function showTotals({ published, delivered, delivered_bytes, opened, ended, refused }) {
  const named = (prefix, counts) =>
    Object.entries(counts).map(([reason, n]) => [`${prefix}: ${reason.replaceAll("_", " ")}`, whole(n)]);
  const rows = [
    ["Events published", whole(published)],
    ["Events delivered", `${whole(delivered)} (${bytes(delivered_bytes)})`],
    ["Streams opened", whole(opened)],
    ...named("Streams ended", ended),
    ...named("Requests refused", refused),
  ];
  const items = rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  find("totals").replaceChildren(...items);
}

function showWorkers(workers) {
  const max = Math.max(1, ...workers.map((worker) => worker.readers));
  const items = workers.map(({ pid, readers: subscribers }) => {
    const name = element("span", `pid ${pid}`);
    name.className = "pid";
    const bar = document.createElement("meter");
    Object.assign(bar, { max, value: subscribers });
    bar.setAttribute("aria-hidden", "true");
    const item = element("li", "");
    item.append(name, bar, `${whole(subscribers)} subscriber${subscribers === 1 ? "" : "s"}`);
    return item;
  });
  find("workers").replaceChildren(...items);
}

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text });
}

document.addEventListener("visibilitychange", () => {
  previous = undefined; // the rate would be the mean of the time when the page was hidden
  poll();
});

// -- subscribe

const START_VALUES = {
  last: ["Number of events", "20"],
  since: ["Age, or ISO 8601 time", "15m"],
  last_event_id: ["Id", ""],
};

find("start").addEventListener("change", ({ target }) => {
  const [label, value] = START_VALUES[target.value] ?? ["", "-"];
  find("start-value-box").hidden = !label;
  find("start-label").textContent = label;
  find("start-value").value = value;
});

function start() {
  const query = new URLSearchParams({ envelope: 1 });
  for (const topic of find("topics").value.split(/\s+/).filter(Boolean)) query.append("topic", topic);
  const from = find("start").value;
  if (from === "earliest") query.set("last_event_id", "earliest");
  else if (from) query.set(from, find("start-value").value.trim());
  subscribe(query);
}

find("subscribe").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});

find("pause").addEventListener("click", togglePause);
find("stop").addEventListener("click", unsubscribe);
find("clear").addEventListener("click", clear);

// -- publish

find("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  find("error").textContent = find("published").textContent = "";
  try {
    const response = await publish(Object.fromEntries(new FormData(event.target)));
    find("published").textContent = `Published with the id ${await response.text()}`;
  } catch (error) {
    find("error").textContent = error.message;
    if (mayNeedToken(error)) askForConsoleToken(error);
  }
});

poll();
start();
