// Links written for other products, turned into this page's own state.
import { parseDuration } from "./time/duration";

/** `g0.expr`, `g0.range_input`, `g0.end_input`, `g0.tab` of Prometheus to the metrics page's parameters. */
export function promGraphParams(from: URLSearchParams): Record<string, string | undefined> {
  const expr = from.get("g0.expr") ?? from.get("g0.query") ?? "";
  const width = from.get("g0.range_input") ?? "";
  const end = from.get("g0.end_input") ?? "";
  const tab = from.get("g0.tab") ?? "";
  const out: Record<string, string | undefined> = { q: expr || undefined };
  if (tab === "1" || tab === "table") out["view"] = "table";
  const widthMs = parseDuration(width);
  if (widthMs !== undefined) {
    // Prometheus writes UTC without saying so.
    const endMs = end ? Date.parse(`${end.replace(" ", "T")}${/Z|[+-]\d\d:?\d\d$/.test(end) ? "" : "Z"}`) : Number.NaN;
    if (Number.isNaN(endMs)) {
      out["from"] = `now-${width}`;
      out["to"] = "now";
    } else {
      out["from"] = `${endMs - widthMs}`;
      out["to"] = `${endMs}`;
    }
  }
  return out;
}

type Json = Record<string, unknown>;

const object = (v: unknown): Json => (typeof v === "object" && v !== null && !Array.isArray(v) ? (v as Json) : {});
const text = (v: unknown): string => (typeof v === "string" || typeof v === "number" ? `${v}` : "");

export interface Place {
  readonly path: string;
  readonly params: Record<string, string | undefined>;
}

/** Grafana's explore links, `?left={...}` and `?panes={...}`: the first query of the first pane. */
export function grafanaExplore(from: URLSearchParams): Place {
  const nowhere = { path: "/explore/metrics", params: {} };
  let pane: Json;
  try {
    const written: unknown = JSON.parse(from.get("panes") ?? from.get("left") ?? "{}");
    pane = from.has("panes") ? object(Object.values(object(written))[0]) : object(written);
  } catch {
    return nowhere;
  }
  const query = object(Array.isArray(pane["queries"]) ? pane["queries"][0] : undefined);
  const range = object(pane["range"]);
  const time = { from: text(range["from"]) || undefined, to: text(range["to"]) || undefined };
  const source = `${text(pane["datasource"])} ${text(object(query["datasource"])["type"])} ${text(object(query["datasource"])["uid"])}`.toLowerCase();
  const expr = text(query["expr"]) || text(query["query"]);
  if (/tempo|jaeger|zipkin/.test(source)) {
    return /^[0-9a-f]{16,32}$/i.test(expr) ? { path: `/trace/${expr.toLowerCase()}`, params: time } : { path: "/traces", params: time };
  }
  if (source.includes("loki")) return { path: "/logs", params: { q: expr || undefined, ...time } };
  return { ...nowhere, params: { q: expr || undefined, ...time } };
}
