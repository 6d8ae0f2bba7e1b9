// The tab Hub: workers, event log, refusals, warnings, settings.

import { ask, find, mayNeedToken } from "../page.js";
import { age, bytes, clock, short, whole } from "../units.js";
import { definitions, element, setText } from "./dom.js";
import { poller } from "./poller.js";
import { fillRows, timeElement } from "./rows.js";
import { lockedNotice } from "./token_dialog.js";

const POLL_MS = 5000;

let settings = [];
let counts; // of refusals, by reason
let started; // when the hub started, if that is known
const about = poller(load, POLL_MS);

async function load() {
  try {
    show(await (await ask("console/hub")).json());
  } catch (error) {
    const isFinal = mayNeedToken(error) || error.status === 404;
    find("hub-locked").replaceChildren(
      ...(error.status === 404 ? [] : lockedNotice(error, "Settings, refusals and warnings")),
    );
    if (isFinal) find("hub-about").hidden = true;
    return !isFinal;
  }
  return true;
}

function show({ settings: all, refusals, recent, warnings }) {
  find("hub-locked").replaceChildren();
  find("hub-about").hidden = false;
  settings = all;
  showSettings();
  const keyOf = ({ time, reason, path, address }) => `${time} ${reason} ${path} ${address}`;
  fillRows(find("refusals"), recent, keyOf, refusalCells);
  find("refusals").parentElement.hidden = !recent.length;
  counts = refusals.map(({ reason, count }) => `${words(reason)} ${whole(count)}`);
  showCounts();
  fillRows(
    find("warnings"),
    warnings ?? [],
    ({ time, pid, text }) => `${time} ${pid} ${text}`,
    warningCells,
  );
  find("warnings").parentElement.hidden = !warnings?.length;
  find("no-warnings").hidden = warnings?.length > 0;
  setText(
    find("no-warnings"),
    warnings ? "No warnings." : "The log is not shown on a hub that is open to everybody.",
  );
}

const words = (reason) =>
  reason === "console" ? "the console's own" : reason.replaceAll("_", " ");

function showCounts() {
  if (!counts) return;
  const since = started ? ` since ${clock(started * 1000)}` : "";
  setText(
    find("refusal-counts"),
    counts.length ? `Refused${since}: ${counts.join(", ")}` : `Nothing was refused${since}.`,
  );
}

function refusalCells({ time, status, method, path, address, subject, ...why }) {
  const { detail, remedy, asked, granted } = why;
  const grant = asked
    ? ` Asked: ${asked.join(", ")}. Granted: ${granted.join(", ") || "nothing"}.`
    : "";
  return [
    timeElement(clock(time * 1000), time * 1000),
    `${status} ${method} ${path}`,
    [address, subject].filter(Boolean).join(", ") || "–",
    `${detail}${grant} ${remedy}`,
  ];
}

const warningCells = ({ time, level, pid, text }) => [
  timeElement(clock(time * 1000), time * 1000),
  level.toLowerCase(),
  String(pid),
  text,
];

function showSettings() {
  const changed = find("changed-settings").checked;
  const shown = settings.filter((it) => !changed || !it.default);
  fillRows(
    find("settings"),
    shown,
    ({ name }) => name,
    (it) => [it.name, it.value || "–", it.computed ? "computed" : it.default ? "default" : "set"],
  );
}

/** Take the state that the console has each second. */
export function update({
  workers,
  log,
  history,
  opened,
  ended,
  refused,
  skipped = {},
  readers,
  now,
  limits,
  started: since,
}) {
  started = since;
  showCounts();
  if (find("hub-panel").hidden) return;
  const total = workers.reduce((sum, worker) => sum + worker.readers, 0);
  fillRows(
    find("workers"),
    workers,
    ({ pid }) => String(pid),
    (it) => workerCells(it, total, now),
  );
  const perWorker = limits?.subscribers
    ? ` of ${whole(limits.subscribers * workers.length)} at most`
    : "";
  fill("about-log", [
    ["Broker", log.name],
    ["State", log.up ? "available" : "unavailable: publishing is refused"],
    ["Events", used(log.events, history.events, whole)],
    ["Size", used(log.bytes, history.bytes, bytes)],
    ["Newest", position(log.head, now)],
    ["Oldest", position(log.floor, now)],
    ["Events leave after", history.age && age(history.age)],
  ]);
  fill("totals", [
    ["Subscribers", `${whole(readers)}${perWorker}`],
    ["Streams opened", whole(opened)],
    ...Object.entries(ended).map(([reason, n]) => [
      `Ended: ${reason.replaceAll("_", " ")}`,
      whole(n),
    ]),
    ...Object.entries(refused).map(([reason, n]) => [
      `Refused: ${words(reason)}`,
      whole(n),
    ]),
    ...Object.entries(skipped).map(([task, n]) => [`Skipped after an error: ${task}`, whole(n)]),
  ]);
}

function fill(id, pairs) {
  const made = definitions(pairs);
  if (find(id).textContent !== made.map((it) => it.textContent).join(""))
    find(id).replaceChildren(...made);
}

function workerCells({ pid, readers, cpu, memory, started, version }, total, now) {
  const share = total ? readers / total : 0;
  const bar = element("meter", { max: 1, value: share, "aria-hidden": "true" });
  const known = (value, format) => (value === null || value === undefined ? "–" : format(value));
  return [
    String(pid),
    [bar, `${whole(readers)}, ${Math.round(100 * share)}% of all`],
    known(cpu, (it) => `${short(100 * it)}%`),
    known(memory, bytes),
    known(started, (it) => age(now - it)),
    version ?? "–",
  ];
}

const used = (value, limit, format) =>
  value === null || value === undefined
    ? ""
    : `${format(value)}${limit ? ` of ${format(limit)} (${short((100 * value) / limit)}%)` : ""}`;

function position(id, now) {
  if (!id) return "";
  if (id.startsWith("0-")) return "none";
  const time = Number(id.split("-")[0]);
  return [timeElement(clock(time), time), `, ${age(now - time / 1000)} ago`];
}

export const { start: open, stop: hide } = about;

/** Connect the choice of settings. */
export function connect() {
  find("changed-settings").addEventListener("change", showSettings);
}
