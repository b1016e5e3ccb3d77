// Numbers, times and keys as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 1,234,567 */
export const count = (value) => (isNumber(value) ? whole.format(value) : NONE);

/** 1.23 M: three digits, for narrow places. */
export function short(value) {
  if (!isNumber(value)) return NONE;
  const size = Math.abs(value);
  for (const [least, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= least) return `${digits(value / least * (unit === "k" ? 10 : 1))} ${unit}`;
  }
  return size < 10 && !Number.isInteger(value) ? oneDigit.format(value) : whole.format(value);
}

function digits(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** 12.3 MiB */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  for (const [power, unit] of [[4, "TiB"], [3, "GiB"], [2, "MiB"], [1, "KiB"]]) {
    if (Math.abs(value) >= 1024 ** power) return `${digits(value / 1024 ** power)} ${unit}`;
  }
  return `${whole.format(value)} B`;
}

/** A share of 0 to 1 as 12.3 % */
export const percent = (share) => (isNumber(share) ? `${oneDigit.format(100 * share)} %` : NONE);

/** 12.3 ms, or seconds from one second on */
export function milliseconds(value) {
  if (!isNumber(value)) return NONE;
  if (value >= 1000) return duration(value / 1000);
  return `${value >= 100 || Number.isInteger(value) ? whole.format(value) : oneDigit.format(value)} ms`;
}

/** 3 d 4 h, from seconds, in at most two units */
export function duration(seconds, units = 2) {
  if (!isNumber(seconds)) return NONE;
  const rest = Math.abs(seconds);
  if (rest < 10) return `${Number.isInteger(rest) ? rest : oneDigit.format(rest)} s`;
  const parts = [];
  let left = Math.round(rest);
  for (const [size, unit] of [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]]) {
    const number = Math.floor(left / size);
    left -= number * size;
    if (number || parts.length) parts.push(number ? `${number} ${unit}` : "");
    if (parts.length === units) break;
  }
  return parts.filter(Boolean).join(" ");
}

const twoDigits = (number) => String(number).padStart(2, "0");

/** 2026-11-28 15:04:05 in local time, from Unix milliseconds */
export function time(ms) {
  if (!isNumber(ms)) return NONE;
  const at = new Date(ms);
  const day = [at.getFullYear(), twoDigits(at.getMonth() + 1), twoDigits(at.getDate())].join("-");
  return `${day} ${clock(ms)}`;
}

/** 15:04:05 in local time */
export function clock(ms) {
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(twoDigits).join(":");
}

/** "5 min ago" or "in 5 min", from Unix milliseconds */
export function relative(ms, now = Date.now(), units = 2) {
  if (!isNumber(ms)) return NONE;
  const seconds = Math.round((now - ms) / 1000);
  if (Math.abs(seconds) < 2) return "now";
  return seconds > 0 ? `${duration(seconds, units)} ago` : `in ${duration(seconds, units)}`;
}

/** The two ends of a long id, with the middle left out. */
export const abbreviated = (id, ends = 8) =>
  id.length > 2 * ends + 1 ? `${id.slice(0, ends)}…${id.slice(-ends)}` : id;
