// The Prometheus-compatible API: queries, metadata, rules, alerts, targets, status.
import { unixMs, type DurationMs, type UnixMs } from "../lib/brand";
import type { Labels } from "../lib/labels";
import type { TimeRange } from "../lib/time/range";
import { anything, list, num, obj, or, record, sample, scalarText, ShapeError, str, toNumber } from "./check";
import { getJson, type Params } from "./client";

export interface Series {
  readonly labels: Labels;
  /** Unix seconds and value, in order of time. */
  readonly points: readonly (readonly [number, number])[];
}

export interface QueryAnswer {
  readonly type: "matrix" | "vector" | "scalar" | "string";
  readonly series: readonly Series[];
  readonly text: string | undefined; // of a string result
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
}

const envelope = obj({
  status: str,
  data: anything,
  warnings: or(list(str), []),
  infos: or(list(str), []),
});

const histogramSample = (v: unknown, p: string): readonly [number, number] => {
  // A native histogram is drawn by its count: the page has no heatmap of it yet.
  const pair = Array.isArray(v) ? v : [];
  return [num(pair[0], `${p}[0]`), toNumber(obj({ count: str })(pair[1], `${p}[1]`).count)];
};

const matrix = list(obj({ metric: or(record(str), {}), values: or(list(sample), []), histograms: or(list(histogramSample), []) }));
const vector = list(obj({ metric: or(record(str), {}), value: or<readonly [number, number] | undefined>(sample, undefined), histogram: or<readonly [number, number] | undefined>(histogramSample, undefined) }));

export function readQueryAnswer(json: unknown): QueryAnswer {
  const { data, warnings, infos } = envelope(json, "");
  const { resultType, result } = obj({ resultType: str, result: anything })(data, "data");
  const path = "data.result";
  switch (resultType) {
    case "matrix":
      return {
        type: resultType,
        series: matrix(result, path).map((s) => ({ labels: s.metric, points: s.values.length ? s.values : s.histograms })),
        text: undefined,
        warnings,
        infos,
      };
    case "vector":
      return {
        type: resultType,
        series: vector(result, path).map((s) => {
          const point = s.value ?? s.histogram;
          return { labels: s.metric, points: point ? [point] : [] };
        }),
        text: undefined,
        warnings,
        infos,
      };
    case "scalar":
      return { type: resultType, series: [{ labels: {}, points: [sample(result, path)] }], text: undefined, warnings, infos };
    case "string":
      return { type: resultType, series: [], text: Array.isArray(result) ? str(result[1], path) : "", warnings, infos };
    default:
      throw new ShapeError(`unexpected answer: result type ${resultType}`);
  }
}

const seconds = (ms: number): string => (ms / 1000).toFixed(3);

export async function queryRange(expr: string, range: TimeRange, step: DurationMs, signal?: AbortSignal): Promise<QueryAnswer> {
  const form: Params = { query: expr, start: seconds(range.from), end: seconds(range.to), step: seconds(step) };
  return readQueryAnswer(await getJson("api/v1/query_range", { form, ...(signal && { signal }) }));
}

export async function queryInstant(expr: string, at: UnixMs, signal?: AbortSignal): Promise<QueryAnswer> {
  return readQueryAnswer(await getJson("api/v1/query", { form: { query: expr, time: seconds(at) }, ...(signal && { signal }) }));
}

async function data(path: string, params: Params, signal?: AbortSignal): Promise<unknown> {
  return envelope(await getJson(path, { params, ...(signal && { signal }) }), "").data;
}

export const labelValues = async (label: string, match: string, range: TimeRange | undefined, signal?: AbortSignal): Promise<string[]> =>
  or(list(str), [])(
    await data(
      `api/v1/label/${encodeURIComponent(label)}/values`,
      { "match[]": match || undefined, ...(range && { start: seconds(range.from), end: seconds(range.to) }) },
      signal,
    ),
    "data",
  );

/** The label sets that `match` selects. */
export const series = async (match: string, range: TimeRange, signal?: AbortSignal): Promise<Labels[]> =>
  or(list(record(str)), [])(await data("api/v1/series", { "match[]": match, start: seconds(range.from), end: seconds(range.to) }, signal), "data");

export const labelNames = async (signal?: AbortSignal): Promise<string[]> => or(list(str), [])(await data("api/v1/labels", {}, signal), "data");

export interface Alert {
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly state: string;
  readonly activeAt: string;
  readonly value: string;
}

const alert = obj({
  labels: or(record(str), {}),
  annotations: or(record(str), {}),
  state: str,
  activeAt: or(str, ""),
  value: or(scalarText, ""),
});

/** Those of rules over metrics, then those of rules over logs, which Loki's API tells. */
export const alerts = async (signal?: AbortSignal): Promise<Alert[]> => {
  const both = await Promise.all(["api/v1/alerts", "prometheus/api/v1/alerts"].map((path) => data(path, {}, signal)));
  return both.flatMap((answer) => obj({ alerts: or(list(alert), []) })(answer, "data").alerts);
};

const rule = obj({
  name: str,
  query: or(str, ""),
  type: or(str, "recording"),
  state: or(str, ""),
  duration: or(num, 0),
  keepFiringFor: or(num, 0),
  labels: or(record(str), {}),
  annotations: or(record(str), {}),
  alerts: or(list(alert), []),
  health: or(str, "unknown"),
  lastError: or(str, ""),
  lastEvaluation: or(str, ""),
  evaluationTime: or(num, 0),
});

const ruleGroup = obj({
  name: str,
  file: or(str, ""),
  interval: or(num, 0),
  rules: or(list(rule), []),
  evaluationTime: or(num, 0),
  lastEvaluation: or(str, ""),
});
type ToldRule = ReturnType<typeof rule>;
/** With the page that shows what its query gives. */
export type Rule = ToldRule & { readonly page: "/explore/metrics" | "/logs" };
export type RuleGroup = Omit<ReturnType<typeof ruleGroup>, "rules"> & { readonly rules: readonly Rule[] };

/** Groups of rules over metrics, then those of rules over logs, which Loki's API tells. */
export const rules = async (signal?: AbortSignal): Promise<RuleGroup[]> => {
  const told = async (path: string, page: Rule["page"]): Promise<RuleGroup[]> => {
    const { groups } = obj({ groups: or(list(ruleGroup), []) })(await data(path, {}, signal), "data");
    return groups.map((group) => ({ ...group, rules: group.rules.map((one) => ({ ...one, page })) }));
  };
  return (await Promise.all([told("api/v1/rules", "/explore/metrics"), told("prometheus/api/v1/rules", "/logs")])).flat();
};

const target = obj({
  labels: or(record(str), {}),
  discoveredLabels: or(record(str), {}),
  scrapePool: or(str, ""),
  scrapeUrl: or(str, ""),
  lastError: or(str, ""),
  lastScrape: or(str, ""),
  lastScrapeDuration: or(num, 0),
  health: or(str, "unknown"),
});
export type Target = ReturnType<typeof target>;

export const targets = async (signal?: AbortSignal): Promise<Target[]> =>
  obj({ activeTargets: or(list(target), []) })(await data("api/v1/targets", {}, signal), "data").activeTargets;

export const buildInfo = async (signal?: AbortSignal): Promise<Record<string, string>> =>
  record(scalarText)(await data("api/v1/status/buildinfo", {}, signal), "data");

const flat = (v: unknown): string => (typeof v === "object" && v !== null ? JSON.stringify(v) : `${v ?? ""}`);

export const runtimeInfo = async (signal?: AbortSignal): Promise<Record<string, string>> =>
  record<string>(flat)(await data("api/v1/status/runtimeinfo", {}, signal), "data");

export const config = async (signal?: AbortSignal): Promise<string> =>
  obj({ yaml: str })(await data("api/v1/status/config", {}, signal), "data").yaml;

const counted = or(list(obj({ name: str, value: num })), []);
export type Counted = ReturnType<typeof counted>;

const offender = obj({
  job: or(str, ""),
  limit: or(str, ""),
  limitValue: or(num, 0),
  series: or(num, 0),
  refused: or(num, 0),
  firstRefused: or(str, ""),
  lastRefused: or(str, ""),
  label: or(str, ""),
  labelValues: or(num, 0),
  metric: or(str, ""),
});
export type Offender = ReturnType<typeof offender>;

const cardinalityOf = obj({
  series: num,
  labelPairs: or(num, 0),
  minTime: or<number | undefined>(num, undefined),
  maxTime: or<number | undefined>(num, undefined),
  seriesByJob: counted,
  seriesByMetric: counted,
  valuesByLabel: counted,
  bytesByLabel: counted,
  seriesByPair: counted,
  offenders: or(list(offender), []),
});
export type Cardinality = ReturnType<typeof cardinalityOf>;

/** What the active series are made of; each list has at most `limit` entries, greatest first. */
export const cardinality = async (limit: number, signal?: AbortSignal): Promise<Cardinality> =>
  cardinalityOf(await data("api/v1/status/cardinality", { limit }, signal), "data");

const metadatum = obj({ type: or(str, ""), help: or(str, ""), unit: or(str, "") });
export type Metadata = ReturnType<typeof metadatum>;

export async function metricMetadata(metric: string, signal?: AbortSignal): Promise<Metadata | undefined> {
  const all = or(record(or(list(metadatum), [])), {})(await data("api/v1/metadata", { metric }, signal), "data");
  return all[metric]?.[0];
}

/** RFC 3339 text to a time; undefined when missing or Go's zero time. */
export function readTime(text: string): UnixMs | undefined {
  const at = Date.parse(text);
  return Number.isNaN(at) || at <= 0 ? undefined : unixMs(at);
}

