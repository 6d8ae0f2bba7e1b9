// The numbers of the hub, each with its last 15 minutes.

import { find } from "../page.js";
import { bytes, clock, short, whole } from "../units.js";
import { setText } from "./dom.js";
import { draw } from "./sparkline.js";

const POINTS = 180;

const seconds = (value) =>
  value < 0.01
    ? `${short(value * 1000)}\u00a0ms`
    : value < 1
      ? `${Math.round(value * 1000)}\u00a0ms`
      : `${short(value)}\u00a0s`;
const perSecond = (value) => `${short(value)}/s`;
const percent = (value) => `${short(100 * value)}%`;

/** Per tile: the series, how a value is written, and the value of now where it is not the newest point. */
const TILES = {
  subscribers: [["subscribers"], whole, ({ readers }) => readers],
  published: [["published"], perSecond],
  delivered: [["delivered"], perSecond],
  fanout: [["fanout_p50", "fanout_p99"], seconds],
  refused: [["refused"], perSecond],
  cpu: [["cpu"], percent],
  memory: [["memory"], bytes],
  log: [["log_use"], percent, ({ log, history }) => logUse(log.events, log.bytes, history)],
};

let series = {}; // by name: the newest POINTS values
let to; // the time of the last of them
let step = 5;
let frozen; // the tile that shows a point under the pointer

/** Return how much of its nearest limit the event log has used, 0 to 1. */
function logUse(events, size, limits) {
  const parts = [limits.events && events / limits.events, limits.bytes && size / limits.bytes];
  return events === null && size === null ? null : Math.max(...parts.map(Number));
}

/** Take what the hub has sent: all points, or those that are new. */
export function update(state) {
  const isNew = state.series.to !== null;
  if (isNew) append(state.series, state.history);
  for (const [name, [keys, format, ofNow]] of Object.entries(TILES)) {
    const tile = find(`tile-${name}`);
    const lists = keys.map((key) => series[key] ?? [null]);
    const values = ofNow ? [ofNow(state)] : lists.map((list) => list.at(-1));
    if (tile !== frozen) setText(tile.querySelector(".value"), text(values, format));
    if (!isNew) continue;
    draw(tile.querySelector("svg"), lists, name === "log" ? 1 : 0);
    tile.querySelector("svg").setAttribute("aria-label", range(lists[0], format));
  }
  find("tile-log").title = logTitle(state);
}

export const hasPoints = () => to !== undefined;

/** Forget all points. */
export function clear() {
  series = {};
  to = undefined;
}

function append(added, history) {
  step = added.step;
  const gap = to ? Math.round((added.from - to) / step) - 1 : 0;
  to = added.to;
  const use = added.log_events.map((events, at) => logUse(events, added.log_bytes[at], history));
  for (const [name, values] of Object.entries({ ...added, log_use: use })) {
    if (!Array.isArray(values)) continue;
    const missing = Array(Math.min(POINTS, Math.max(0, gap))).fill(null);
    series[name] = [...(series[name] ?? Array(POINTS).fill(null)), ...missing, ...values].slice(
      -POINTS,
    );
  }
}

const known = (value) => value !== null && value !== undefined;

/** Return values as text; if they have the same unit, it stands behind the last one only. */
function text(values, format) {
  if (!known(values[0])) return "–";
  const texts = values.map((it) => (known(it) ? format(it) : "–"));
  const units = texts.map((it) => it.split("\u00a0")[1]);
  return (
    units.every((it) => it && it === units[0])
      ? texts.map((it, at) => (at < texts.length - 1 ? it.split("\u00a0")[0] : it))
      : texts
  ).join(" / ");
}

function range(list, format) {
  const values = list.filter(known);
  if (!values.length) return "no values yet";
  return `${format(Math.min(...values))} to ${format(Math.max(...values))} in the last 15 minutes`;
}

function logTitle({ log, history }) {
  const of = (used, limit, format) =>
    known(used) ? `${format(used)}${limit ? ` of ${format(limit)}` : ""}` : "";
  const parts = [
    of(log.events, history.events, (n) => `${whole(n)} events`),
    of(log.bytes, history.bytes, bytes),
  ];
  return parts.filter(Boolean).join(", ");
}

/** Connect the pointer: it shows the value of a point, and when that was. */
export function connect() {
  for (const [name, [keys, format]] of Object.entries(TILES)) {
    const tile = find(`tile-${name}`);
    const label = tile.querySelector(".name");
    const words = label.textContent;
    tile.addEventListener("pointermove", ({ clientX }) => {
      const { left, width } = tile.querySelector("svg").getBoundingClientRect();
      const length = series[keys[0]]?.length ?? 0;
      const index = Math.round(((clientX - left) / width) * (length - 1));
      if (!(index >= 0 && index < length)) return;
      frozen = tile;
      label.textContent = clock((to - (length - 1 - index) * step) * 1000);
      tile.querySelector(".value").textContent = text(
        keys.map((key) => series[key][index]),
        format,
      );
    });
    tile.addEventListener("pointerleave", () => {
      frozen = undefined;
      label.textContent = words;
    });
  }
}
