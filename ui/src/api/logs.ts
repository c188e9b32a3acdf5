// The server's own API for logs: what is around a line, the shapes of lines, the fields they have, all of them as a file.
import { msToNs, nsToMs, unixNs, type UnixMs, type UnixNs } from "../lib/brand";
import type { Labels } from "../lib/labels";
import { toLines, type Level, type LogLine, normaliseLevel } from "../lib/logs/lines";
import type { TimeRange } from "../lib/time/range";
import { bool, list, num, obj, or, record, str } from "./check";
import { apiUrl, getJson, type Params } from "./client";

const line = obj({
  time: str,
  line: str,
  stream: or(record(str), {}),
  fields: or(record(str), {}),
  parsed: or(record(str), {}),
});

const lines = (answered: readonly ReturnType<typeof line>[]): LogLine[] =>
  answered.flatMap((one) => toLines([{ labels: one.stream, entries: [{ ns: one.time, text: one.line, metadata: one.fields, parsed: one.parsed }] }], true));

async function data(path: string, params: Params, signal?: AbortSignal): Promise<unknown> {
  const answer = obj({ data: (v) => v })(await getJson(`api/v1/logs/${path}`, { params, ...(signal && { signal }) }), "");
  return answer.data;
}

const bounds = (range: TimeRange): Params => ({ start: `${msToNs(range.from)}`, end: `${msToNs(range.to)}` });

export interface Around {
  /** Oldest first; those of the line's own time are in it. */
  readonly lines: readonly LogLine[];
  readonly more: boolean;
}

/** The lines around a time, `count` on each side, that have all the labels. */
export async function around(at: UnixNs, labels: Labels, count: number, signal?: AbortSignal): Promise<Around> {
  const shape = obj({ before: list(line), at: list(line), after: list(line), moreBefore: bool, moreAfter: bool });
  const filter = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  const found = shape(await data("context", { time: `${at}`, before: count, after: count, filter }, signal), "data");
  return { lines: lines([...found.before, ...found.at, ...found.after]), more: found.moreBefore || found.moreAfter };
}

/** The LogQL that finds, among the lines of a query, what is typed: words, phrases, fields. */
export async function compose(typed: string, query: string, range: TimeRange, signal?: AbortSignal): Promise<string> {
  return obj({ query: str })(await data("search", { q: typed, query, ...bounds(range), limit: 1 }, signal), "data").query;
}

export interface Pattern {
  readonly pattern: string;
  readonly level: Level;
  readonly count: number;
  readonly firstSeen: UnixMs;
  readonly lastSeen: UnixMs;
}

const pattern = obj({ pattern: str, level: or(str, "unknown"), count: num, firstSeen: str, lastSeen: str });

/** The shapes of a query's lines, most frequent first; with `newSince` those that no line of the day before had. */
export async function patterns(query: string, range: TimeRange, newSince: UnixMs | undefined, signal?: AbortSignal): Promise<Pattern[]> {
  const params = { query, ...bounds(range), ...(newSince !== undefined && { new_since: `${msToNs(newSince)}` }) };
  const found = obj({ patterns: list(pattern) })(await data("patterns", params, signal), "data");
  const time = (ns: string): UnixMs => nsToMs(unixNs(ns));
  return found.patterns.map((p) => ({ pattern: p.pattern, level: normaliseLevel(p.level), count: p.count, firstSeen: time(p.firstSeen), lastSeen: time(p.lastSeen) }));
}

export interface FieldValue {
  readonly value: string;
  readonly count: number;
}

export interface Field {
  readonly name: string;
  /** `stream`, `metadata`, `json` or `logfmt`. */
  readonly source: string;
  readonly lines: number;
  readonly distinct: number;
  readonly values: readonly FieldValue[];
}

const field = obj({
  name: str,
  source: str,
  lines: num,
  distinct: num,
  values: list(obj({ value: str, count: num })),
});

/** The fields of a query's newest lines, and how many lines these are. */
export async function fields(query: string, range: TimeRange, signal?: AbortSignal): Promise<{ readonly fields: readonly Field[]; readonly lines: number }> {
  return obj({ fields: list(field), lines: num })(await data("fields", { query, ...bounds(range), values: 20 }, signal), "data");
}

/** Where all lines of a query can be had as a file, oldest first. */
export const exportUrl = (query: string, range: TimeRange, format: "jsonl" | "csv"): string =>
  apiUrl("api/v1/logs/export", { query, ...bounds(range), format });
