// The console: how the hub is, what passes through it, and a way to say something.

import { ask, askForToken, find, onToken, publish, wantsToken } from "./page.js";
import { plot } from "./plot.js";
import { age, bytes, short, whole } from "./units.js";
import { clear, onRefused, pause, stop, watch, watching } from "./watch.js";

const POLL = 1000; // ms, while somebody looks

const state = find("state");
const plots = {
  readers: plot(find("plot-readers"), short),
  published: plot(find("plot-published"), short),
  delivered: plot(find("plot-delivered"), short),
};

function show(name, words) {
  if (state.textContent === words) return; // the same words again would be read out again
  state.dataset.state = name;
  state.textContent = words;
}

// -- the token

const NEEDED =
  "This hub has a key, and the console needs a token for it. Where the key is, this makes one: " +
  "tidings token --subscribe '*' --publish '*' --expires 1h";

onRefused((error) => askForToken(NEEDED, error));

onToken(() => {
  find("topics").focus();
  poll();
  start();
});

// -- how the hub is

let before;
let timer;

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const now = await (await ask("console/state")).json();
    show("listening", "Live");
    chart(now);
    tell(now);
    before = now;
  } catch (error) {
    before = undefined;
    if (wantsToken(error)) {
      show("token", "The hub wants a token");
      askForToken(NEEDED, error);
      return; // until there is one
    }
    find("log-up").textContent = "–";
    show("reconnecting", error.status ? error.message : "The hub cannot be reached; trying again…");
    for (const add of Object.values(plots)) add(Date.now() / 1000, null);
  }
  timer = setTimeout(poll, POLL);
}

function chart(now) {
  const time = Date.now() / 1000;
  plots.readers(time, now.readers);
  for (const name of ["published", "delivered"]) {
    const known = before && now.now > before.now && now[name] >= before[name];
    plots[name](time, known ? (now[name] - before[name]) / (now.now - before.now) : null);
  }
}

function tell({ version, now, log, history, workers, ...totals }) {
  find("version").textContent = `Tidings ${version}`;
  find("log-name").textContent = log.name;
  find("log-up").textContent = log.up ? "Reachable" : "Away: nothing can be published";
  find("log-up").className = log.up ? "" : "wrong";
  find("log-floor").textContent = place(log.floor, now);
  find("log-head").textContent = place(log.head, now);
  const { events, age: seconds, bytes: size } = history;
  const kept = [events && `${whole(events)} events`, seconds && age(seconds), size && bytes(size)];
  find("log-keeps").textContent = kept.filter(Boolean).join(", ") || "–";
  tellWorkers(workers);
  const ended = Object.entries(totals.ended).map(([reason, count]) => [`Ended: ${reason}`, count]);
  const refused = Object.entries(totals.refused).map(([why, count]) => [`Refused: ${why}`, count]);
  list(find("totals"), [
    ["Published", whole(totals.published)],
    ["Delivered", `${whole(totals.delivered)} (${bytes(totals.delivered_bytes)})`],
    ["Streams opened", whole(totals.opened)],
    ...[...ended, ...refused].map(([name, count]) => [name.replaceAll("_", " "), whole(count)]),
  ]);
}

function place(id, now) {
  if (!id || id.startsWith("0-")) return "–";
  return `${id}, ${age(now - Number(id.split("-")[0]) / 1000)}\u00a0ago`;
}

function list(dl, pairs) {
  const items = pairs.flatMap(([name, value]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = name;
    dd.textContent = value;
    return [dt, dd];
  });
  dl.replaceChildren(...items);
}

function tellWorkers(workers) {
  const most = Math.max(1, ...workers.map((it) => it.readers));
  const items = workers.map(({ pid, readers }) => {
    const item = document.createElement("li");
    const name = document.createElement("span");
    const bar = document.createElement("meter");
    name.className = "pid";
    name.textContent = `pid ${pid}`;
    Object.assign(bar, { max: most, value: readers });
    bar.setAttribute("aria-hidden", "true");
    item.append(name, bar, `${whole(readers)} reader${readers === 1 ? "" : "s"}`);
    return item;
  });
  find("workers").replaceChildren(...items);
}

document.addEventListener("visibilitychange", () => {
  before = undefined; // a rate over the time in between would be a lie
  poll();
});

// -- watch

const FROM = {
  last: ["How many", "20"],
  since: ["An age, Unix seconds or ISO 8601", "15m"],
  last_event_id: ["Id", ""],
};

find("begin").addEventListener("change", ({ target }) => {
  const [label, value] = FROM[target.value] ?? ["", "-"];
  find("from-box").hidden = !label;
  find("from-label").textContent = label;
  find("from").value = value;
});

function start() {
  const query = new URLSearchParams({ envelope: 1 });
  for (const topic of find("topics").value.split(/\s+/).filter(Boolean)) query.append("topic", topic);
  const begin = find("begin").value;
  if (begin === "earliest") query.set("last_event_id", "earliest");
  else if (begin) query.set(begin, find("from").value.trim());
  watch(query);
  buttons();
}

function buttons() {
  find("pause").disabled = !watching();
  find("pause").setAttribute("aria-pressed", "false");
}

find("watch").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});

find("pause").addEventListener("click", ({ target }) => {
  const is = target.getAttribute("aria-pressed") === "false";
  target.setAttribute("aria-pressed", is);
  pause(is);
});

find("stop").addEventListener("click", () => {
  stop();
  buttons();
});

find("clear").addEventListener("click", clear);

// -- publish

find("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  find("wrong").textContent = find("published").textContent = "";
  try {
    const answer = await publish(Object.fromEntries(new FormData(event.target)));
    find("published").textContent = `Published as ${await answer.text()}`;
  } catch (error) {
    find("wrong").textContent = error.message;
    if (wantsToken(error)) askForToken(NEEDED, error);
  }
});

poll();
start();
