// Log lines as the page works with them: one flat list, each with its labels, level and trace.
import { nsToMs, unixNs, type DurationMs, type UnixMs, type UnixNs } from "../brand";
import { formatLabels, type Labels } from "../labels";
import type { TimeRange } from "../time/range";

export const LEVELS = ["critical", "error", "warn", "info", "debug", "trace", "unknown"] as const;
export type Level = (typeof LEVELS)[number];

export interface LogLine {
  readonly ns: UnixNs;
  readonly text: string;
  readonly labels: Labels; // of the stream
  readonly metadata: Labels; // structured metadata
  readonly parsed: Labels; // by the query
  readonly level: Level;
  readonly traceId: string | undefined;
  readonly spanId: string | undefined;
}

/** One stream as answered, values as `[ns, line, {structuredMetadata, parsed}?]`. */
export interface LogStream {
  readonly labels: Labels;
  readonly entries: readonly { ns: string; text: string; metadata: Labels; parsed: Labels }[];
}

export function normaliseLevel(text: string | undefined): Level {
  switch ((text ?? "").toLowerCase()) {
    case "critical": case "fatal": case "emerg": case "emergency": case "alert": case "crit": case "panic":
      return "critical";
    case "error": case "err": case "eror":
      return "error";
    case "warn": case "warning":
      return "warn";
    case "info": case "information": case "notice": case "informational":
      return "info";
    case "debug": case "dbug":
      return "debug";
    case "trace": case "trce":
      return "trace";
    default:
      return "unknown";
  }
}

const TRACE_KEYS = ["trace_id", "traceid", "traceID", "traceId", "TraceId", "trace.id"];
const SPAN_KEYS = ["span_id", "spanid", "spanID", "spanId", "SpanId", "span.id"];
const LEVEL_KEYS = ["detected_level", "level", "severity_text", "severity", "lvl"];

function pick(keys: readonly string[], ...sets: readonly Labels[]): string | undefined {
  for (const key of keys) for (const set of sets) if (set[key]) return set[key];
  return undefined;
}

const validTraceId = (id: string | undefined): string | undefined =>
  id && /^[0-9a-f]{16,32}$/i.test(id) && !/^0+$/.test(id) ? id.toLowerCase() : undefined;

/** A trace id written in the text: after a `trace_id`-like key, or a lone word of 32 hex digits. */
export function traceIdInText(text: string): string | undefined {
  const keyed = /trace[._-]?id["']?\s*[:=]\s*["']?([0-9a-f]{16,32})\b/i.exec(text);
  if (keyed) return validTraceId(keyed[1]);
  const lone = /(?<![0-9a-z-])([0-9a-f]{32})(?![0-9a-z-])/i.exec(text);
  return lone ? validTraceId(lone[1]) : undefined;
}

const spanIdInText = (text: string): string | undefined =>
  /span[._-]?id["']?\s*[:=]\s*["']?([0-9a-f]{16})\b/i.exec(text)?.[1]?.toLowerCase();

/** Flattens streams into one list, newest first unless `forward`. */
export function toLines(streams: readonly LogStream[], forward = false): LogLine[] {
  const lines: LogLine[] = [];
  for (const stream of streams) {
    for (const entry of stream.entries) {
      lines.push({
        ns: unixNs(entry.ns),
        text: entry.text,
        labels: stream.labels,
        metadata: entry.metadata,
        parsed: entry.parsed,
        level: normaliseLevel(pick(LEVEL_KEYS, entry.metadata, entry.parsed, stream.labels)),
        traceId: validTraceId(pick(TRACE_KEYS, entry.metadata, entry.parsed, stream.labels)) ?? traceIdInText(entry.text),
        spanId: pick(SPAN_KEYS, entry.metadata, entry.parsed, stream.labels) ?? spanIdInText(entry.text),
      });
    }
  }
  const sign = forward ? 1 : -1;
  return lines.sort((a, b) => (a.ns === b.ns ? 0 : a.ns < b.ns ? -sign : sign));
}

/** Identity of a line, to drop those that two pages share. */
export const lineKey = (line: LogLine): string => `${line.ns}|${formatLabels(line.labels)}|${line.text}`;

/** Older lines appended to those already there, without the ones both hold. */
export function appendOlder(lines: readonly LogLine[], older: readonly LogLine[]): LogLine[] {
  const boundary = lines[lines.length - 1]?.ns;
  const known = new Set(lines.filter((line) => line.ns === boundary).map(lineKey));
  return [...lines, ...older.filter((line) => !known.has(lineKey(line)))];
}

export interface Histogram {
  readonly times: readonly UnixMs[]; // start of each bucket
  readonly levels: readonly { readonly level: Level; readonly counts: readonly number[] }[];
}

/** Counts lines per level and bucket; used when the server cannot count. */
export function histogramOf(lines: readonly LogLine[], range: TimeRange, step: DurationMs): Histogram {
  const first = Math.floor(range.from / step) * step;
  const buckets = Math.min(2000, Math.max(1, Math.ceil((range.to - first) / step)));
  const counts = new Map<Level, number[]>();
  for (const line of lines) {
    const bucket = Math.floor((nsToMs(line.ns) - first) / step);
    if (bucket < 0 || bucket >= buckets) continue;
    const row = counts.get(line.level) ?? new Array<number>(buckets).fill(0);
    row[bucket] = (row[bucket] ?? 0) + 1;
    counts.set(line.level, row);
  }
  return {
    times: Array.from({ length: buckets }, (_, index) => (first + index * step) as UnixMs),
    levels: LEVELS.filter((level) => counts.has(level)).map((level) => ({ level, counts: counts.get(level) ?? [] })),
  };
}

/** The query that counts what `query` selects, per level. */
export const volumeQuery = (query: string, step: string): string =>
  `sum by (detected_level) (count_over_time(${query.trim()} | drop __error__ [${step}]))`;

/** A query that answers numbers (`rate(...)`, `sum by ...`), not lines. */
export const isMetricQuery = (query: string): boolean => !query.trim().startsWith("{");

/** LogQL: a selector, or a function or aggregation over one. Everything else is words to search for. */
export const isLogQuery = (text: string): boolean =>
  /^\s*($|\{|\(*\s*[a-z_]+\s*((by|without)\s*\([^)]*\)\s*)?\((.|\n)*\{)/.test(text);
