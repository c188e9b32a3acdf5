// Durations as Prometheus writes them ("1h30m") and as people read them ("1.5 h").
import { durationMs, durationUs, type DurationMs, type DurationUs } from "../brand";

const UNIT_MS: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  "µs": 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
};

/** Parses `1h30m`, `500ms`, `1.5s`; undefined when the text is not a duration. */
export function parseDuration(text: string): DurationMs | undefined {
  const trimmed = text.trim();
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|[smhdwy]))+$/.test(trimmed)) return undefined;
  let total = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|[smhdwy])/g)) {
    total += Number(count) * (UNIT_MS[unit ?? ""] ?? 0);
  }
  return durationMs(total);
}

/** The shortest exact PromQL spelling: 90000 -> `1m30s`. Below one millisecond it is `1ms`. */
export function promDuration(ms: DurationMs): string {
  let rest = Math.max(1, Math.round(ms));
  let text = "";
  for (const [unit, size] of [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]] as const) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text;
}

const trim = (n: number, digits: number): string => {
  const text = n.toFixed(digits);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
};

/** Three significant places with the fitting unit: 1_234_567 µs -> `1.23 s`. */
export function formatDurationUs(us: DurationUs): string {
  const abs = Math.abs(us);
  if (abs === 0) return "0 µs";
  if (abs < 1) return `${trim(us * 1000, 0)} ns`;
  if (abs < 1000) return `${trim(us, abs < 10 ? 2 : abs < 100 ? 1 : 0)} µs`;
  const ms = us / 1000;
  if (abs < 1e6) return `${trim(ms, Math.abs(ms) < 10 ? 2 : Math.abs(ms) < 100 ? 1 : 0)} ms`;
  const s = us / 1e6;
  if (abs < 60e6) return `${trim(s, Math.abs(s) < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(Math.abs(s) / 60);
  const sign = us < 0 ? "-" : "";
  if (abs < 3600e6) return `${sign}${minutes} min ${Math.round(Math.abs(s) % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (abs < 86_400e6) return `${sign}${hours} h ${minutes % 60} min`;
  return `${sign}${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export const formatDurationMs = (ms: DurationMs): string => formatDurationUs(durationUs(ms * 1000));

/** How long ago, in one unit: `12 s ago`, `3 h ago`. */
export function formatAgo(ms: DurationMs): string {
  if (ms < 1000) return "just now";
  for (const [unit, size] of [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]] as const) {
    if (ms >= size) return `${Math.floor(ms / size)} ${unit} ago`;
  }
  return "just now";
}
