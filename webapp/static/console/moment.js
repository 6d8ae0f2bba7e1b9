// The time from which events are watched, as the user writes it.

import { clock } from "../units.js";

const MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const AGE = /^(\d+(?:\.\d+)?)(ms|[smhdw])$/;
const ISO = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?$/;
const HOW = "Write a time such as 14:05, an age such as 15m, or ISO 8601.";

/** Return the time that a text names, in milliseconds; undefined: it is none. */
function parse(text) {
  const [, hours, minutes, seconds = 0] =
    /^(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?$/.exec(text) ?? [];
  if (minutes && (hours > 23 || minutes > 59 || seconds >= 60)) return undefined;
  if (minutes) return lastTime(hours, minutes, seconds);
  const [, count, unit] = AGE.exec(text) ?? [];
  if (unit) return Date.now() - count * MS[unit];
  if (/^\d{1,11}(\.\d+)?$/.test(text)) return text * 1000;
  // Without a time of day a browser would take a date as UTC.
  return ISO.test(text) ? Date.parse(text.length === 10 ? `${text}T00:00` : text) : undefined;
}

/** Return when the clock last showed this time of day. */
function lastTime(hours, minutes, seconds) {
  const at = new Date();
  at.setHours(hours, minutes, 0, 1000 * seconds);
  if (at > Date.now()) at.setDate(at.getDate() - 1);
  return at.getTime();
}

/** Return what is wrong with a text as the start of a watch; empty: nothing. */
export function problemOf(text) {
  const at = parse(text);
  if (!Number.isFinite(at)) return `“${text}” is not a time. ${HOW}`;
  return at > Date.now() ? `“${text}” is in the future. ${HOW}` : "";
}

/** Return a time as the hub reads it. An age stays one: the hub's clock may differ from this one. */
export const forHub = (text) => (AGE.test(text) ? text : new Date(parse(text)).toISOString());

/** Return the time as words: 26 Nov 23:59:00. */
export function words(text) {
  const at = new Date(parse(text));
  const day = at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return `${day} ${clock(at).split(" ").at(-1)}`;
}
