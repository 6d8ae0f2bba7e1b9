// Numbers, sizes and ages as text.

const formats = new Map();
const number = (digits) => {
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat(undefined, { maximumFractionDigits: digits }));
  }
  return formats.get(digits);
};

/** 1,234: no fraction. */
export const whole = (value) => number(0).format(value);

/** 12, 3.4, 12.3 K, 1.2 M: at most four digits. */
export function short(value) {
  if (value < 10_000) return number(value < 100 && value % 1 ? 1 : 0).format(value);
  const [unit, size] = value < 1e6 ? ["K", 1e3] : value < 1e9 ? ["M", 1e6] : ["G", 1e9];
  return `${number(value < size * 100 ? 1 : 0).format(value / size)}\u00a0${unit}`;
}

/** 12 B, 3.4 KB, 1.2 MB. */
export function bytes(count) {
  if (count < 1024) return `${whole(count)}\u00a0B`;
  const power = Math.min(3, Math.floor(Math.log2(count) / 10));
  return `${number(1).format(count / 1024 ** power)}\u00a0${["", "K", "M", "G"][power]}B`;
}

/** 5 s, 3 min, 2 h, 7 d. */
export function age(seconds) {
  const [unit, size] =
    seconds < 60 ? ["s", 1] : seconds < 3600 ? ["min", 60] : seconds < 172_800 ? ["h", 3600] : ["d", 86_400];
  return `${whole(Math.max(0, Math.floor(seconds / size)))}\u00a0${unit}`;
}

const two = (value) => String(value).padStart(2, "0");

/** 21:45:10, or 21:45:10.123 with milliseconds; of another day 11-26 21:45:10. */
export function clock(time, withMs = false) {
  const at = new Date(time);
  const day = `${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  const ms = withMs ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "";
  const isToday = at.toDateString() === new Date().toDateString();
  return (isToday ? "" : day) + [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":") + ms;
}

/** 2026-11-27 21:45:10 (5 s ago). */
export function when(time) {
  const at = new Date(time);
  const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map(two).join("-");
  return `${day} ${clock(time).split(" ").at(-1)} (${age((Date.now() - time) / 1000)} ago)`;
}
