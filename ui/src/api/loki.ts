// The Loki-compatible API: lines, counts over lines, labels.
import { msToNs, type DurationMs, type UnixNs } from "../lib/brand";
import { toLines, type LogLine, type LogStream } from "../lib/logs/lines";
import type { TimeRange } from "../lib/time/range";
import { anything, list, obj, or, record, scalarText, ShapeError, str } from "./check";
import { getJson } from "./client";
import { readQueryAnswer, type QueryAnswer } from "./prometheus";

const entry = (v: unknown, p: string): LogStream["entries"][number] => {
  if (!Array.isArray(v)) throw new ShapeError(`unexpected answer: ${p} should be a [time, line] pair`);
  const extra = or(obj({ structuredMetadata: or(record(scalarText), {}), parsed: or(record(scalarText), {}) }), {
    structuredMetadata: {},
    parsed: {},
  })(v[2], `${p}[2]`);
  return { ns: str(v[0], `${p}[0]`), text: str(v[1], `${p}[1]`), metadata: extra.structuredMetadata, parsed: extra.parsed };
};

const streams = list(obj({ stream: or(record(str), {}), values: or(list(entry), []) }));

export interface LinesAnswer {
  readonly lines: readonly LogLine[];
  readonly warnings: readonly string[];
}

export interface LinesQuery {
  readonly query: string;
  readonly start: UnixNs;
  readonly end: UnixNs;
  readonly limit: number;
  readonly forward?: boolean;
}

export async function queryLines(q: LinesQuery, signal?: AbortSignal): Promise<LinesAnswer> {
  const json = await getJson("loki/api/v1/query_range", {
    params: {
      query: q.query,
      start: `${q.start}`,
      end: `${q.end}`,
      limit: q.limit,
      direction: q.forward ? "forward" : "backward",
    },
    headers: { "X-Loki-Response-Encoding-Flags": "categorize-labels" },
    ...(signal && { signal }),
  });
  const { data, warnings } = obj({ data: obj({ resultType: str, result: anything }), warnings: or(list(str), []) })(json, "");
  if (data.resultType !== "streams") throw new ShapeError("this query answers numbers, not lines");
  const read = streams(data.result, "data.result").map((s) => ({ labels: s.stream, entries: s.values }));
  return { lines: toLines(read, q.forward), warnings };
}

export async function queryCounts(query: string, range: TimeRange, step: DurationMs, signal?: AbortSignal): Promise<QueryAnswer> {
  const json = await getJson("loki/api/v1/query_range", {
    params: { query, start: `${msToNs(range.from)}`, end: `${msToNs(range.to)}`, step: `${step}ms` },
    ...(signal && { signal }),
  });
  return readQueryAnswer(json);
}

const names = obj({ data: or(list(str), []) });

export const logLabels = async (range: TimeRange, signal?: AbortSignal): Promise<string[]> =>
  names(await getJson("loki/api/v1/labels", { params: { start: `${msToNs(range.from)}`, end: `${msToNs(range.to)}` }, ...(signal && { signal }) }), "").data;

export const logLabelValues = async (label: string, range: TimeRange, signal?: AbortSignal): Promise<string[]> =>
  names(
    await getJson(`loki/api/v1/label/${encodeURIComponent(label)}/values`, {
      params: { start: `${msToNs(range.from)}`, end: `${msToNs(range.to)}` },
      ...(signal && { signal }),
    }),
    "",
  ).data;
