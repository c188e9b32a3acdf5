// Time ranges as they stand in the URL: `now-1h`, `now/d`, epoch milliseconds or ISO 8601.
import { durationMs, unixMs, type DurationMs, type UnixMs } from "../brand";
import { parseDuration } from "./duration";

/** What the URL holds: unresolved, so that a relative range stays relative. */
export interface RawRange {
  readonly from: string;
  readonly to: string;
}

/** Half-open, `from <= t < to`. */
export interface TimeRange {
  readonly from: UnixMs;
  readonly to: UnixMs;
}

export const DEFAULT_RANGE: RawRange = { from: "now-1h", to: "now" };

export const PRESETS: readonly (RawRange & { readonly label: string })[] = [
  { label: "Last 5 minutes", from: "now-5m", to: "now" },
  { label: "Last 15 minutes", from: "now-15m", to: "now" },
  { label: "Last 30 minutes", from: "now-30m", to: "now" },
  { label: "Last hour", from: "now-1h", to: "now" },
  { label: "Last 3 hours", from: "now-3h", to: "now" },
  { label: "Last 6 hours", from: "now-6h", to: "now" },
  { label: "Last 12 hours", from: "now-12h", to: "now" },
  { label: "Last 24 hours", from: "now-24h", to: "now" },
  { label: "Last 2 days", from: "now-2d", to: "now" },
  { label: "Last 7 days", from: "now-7d", to: "now" },
  { label: "Last 30 days", from: "now-30d", to: "now" },
  { label: "Today", from: "now/d", to: "now" },
];

export const REFRESH_CHOICES = ["", "5s", "10s", "30s", "1m", "5m"] as const;

/** Resolves one end of a range; `roundUp` makes `now/d` the end of the day. Undefined when not a time. */
export function parseTime(text: string, now: UnixMs, roundUp = false): UnixMs | undefined {
  const trimmed = text.trim();
  const relative = /^now(?:([+-])([\dsmhdwy.]+))?(?:\/([smhdwMy]))?$/.exec(trimmed);
  if (relative) {
    const [, sign, amount, floor] = relative;
    let at: number = now;
    if (sign && amount) {
      const shift = parseDuration(amount);
      if (shift === undefined) return undefined;
      at += sign === "-" ? -shift : shift;
    }
    return floor ? floorTo(at, floor, roundUp) : unixMs(at);
  }
  if (/^\d{9,10}$/.test(trimmed)) return unixMs(Number(trimmed) * 1000);
  if (/^\d{11,14}$/.test(trimmed)) return unixMs(Number(trimmed));
  if (/^\d{18,20}$/.test(trimmed)) return unixMs(Number(BigInt(trimmed) / 1_000_000n));
  if (!/^\d{4}-\d{2}-\d{2}/.test(trimmed)) return undefined;
  const parsed = Date.parse(trimmed.replace(" ", "T"));
  return Number.isNaN(parsed) ? undefined : unixMs(parsed);
}

function floorTo(at: number, unit: string, roundUp: boolean): UnixMs {
  const date = new Date(at);
  const up = roundUp ? 1 : 0;
  switch (unit) {
    case "s":
      date.setMilliseconds(0);
      date.setSeconds(date.getSeconds() + up);
      break;
    case "m":
      date.setSeconds(0, 0);
      date.setMinutes(date.getMinutes() + up);
      break;
    case "h":
      date.setMinutes(0, 0, 0);
      date.setHours(date.getHours() + up);
      break;
    default:
      date.setHours(0, 0, 0, 0);
      if (unit === "w") date.setDate(date.getDate() - ((date.getDay() + 6) % 7) + 7 * up);
      else if (unit === "M") date.setMonth(date.getMonth() + up, 1);
      else if (unit === "y") date.setFullYear(date.getFullYear() + up, 0, 1);
      else date.setDate(date.getDate() + up);
  }
  return unixMs(date.getTime());
}

/** Resolves both ends; falls back to the default when either is not a time or they are out of order. */
export function resolveRange(raw: RawRange, now: UnixMs): TimeRange {
  const from = parseTime(raw.from, now);
  const to = parseTime(raw.to, now, true);
  if (from === undefined || to === undefined || from >= to) {
    return { from: unixMs(now - 3_600_000), to: now };
  }
  return { from, to };
}

export const isRelative = (raw: RawRange): boolean => raw.from.includes("now") || raw.to.includes("now");

export const span = (range: TimeRange): DurationMs => durationMs(range.to - range.from);

export const absolute = (range: TimeRange): RawRange => ({ from: `${range.from}`, to: `${range.to}` });

/** Same centre, twice as wide. */
export function zoomOut(range: TimeRange): TimeRange {
  const half = span(range) / 2;
  return { from: unixMs(range.from - half), to: unixMs(range.to + half) };
}

/** Moves by half the width; `direction` is -1 or 1. */
export function shift(range: TimeRange, direction: -1 | 1): TimeRange {
  const by = (span(range) / 2) * direction;
  return { from: unixMs(range.from + by), to: unixMs(range.to + by) };
}

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/** A round step that gives at most `points` points, never below `min`. */
export function stepFor(range: TimeRange, points: number, min: DurationMs = durationMs(1000)): DurationMs {
  const want = Math.max(span(range) / Math.max(1, points), min) / 1000;
  const step = STEPS_S.find((s) => s >= want - 1e-9) ?? Math.ceil(want / 86_400) * 86_400;
  return durationMs(step * 1000);
}

const pad = (n: number, width = 2): string => `${n}`.padStart(width, "0");

/** `2026-11-21 10:42:07`, local time. */
export function formatDateTime(at: UnixMs, millis = false): string {
  const d = new Date(at);
  const day = `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;
  return `${day} ${formatClock(at, millis)}`;
}

/** `10:42:07`, local time. */
export function formatClock(at: UnixMs, millis = false): string {
  const d = new Date(at);
  const clock = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  return millis ? `${clock}.${pad(d.getMilliseconds(), 3)}` : clock;
}

/** What the time button says. */
export function describeRange(raw: RawRange, now: UnixMs): string {
  const preset = PRESETS.find((p) => p.from === raw.from && p.to === raw.to);
  if (preset) return preset.label;
  if (raw.to === "now" && /^now-[\da-z]+$/.test(raw.from)) return `Last ${raw.from.slice(4)}`;
  const { from, to } = resolveRange(raw, now);
  const start = formatDateTime(from);
  const end = formatDateTime(to);
  return start.slice(0, 10) === end.slice(0, 10) ? `${start} – ${end.slice(11)}` : `${start} – ${end}`;
}
