// The trace search form: tags as people type them, traces in the order they ask for.
import type { TraceSummary } from "../../api/jaeger";

/** `http.status_code=500 error=true "db.statement"="select 1"`; undefined when it cannot be read. */
export function parseTags(text: string): Record<string, string> | undefined {
  const tags: Record<string, string> = {};
  let rest = text.trim();
  while (rest !== "") {
    const match = /^(?:"((?:[^"\\]|\\.)+)"|([^\s=:"]+))\s*[=]\s*(?:"((?:[^"\\]|\\.)*)"|(\S+))\s*,?\s*/.exec(rest);
    if (!match) return undefined;
    const unescape = (s: string): string => s.replace(/\\(.)/g, "$1");
    tags[match[1] !== undefined ? unescape(match[1]) : (match[2] ?? "")] = match[3] !== undefined ? unescape(match[3]) : (match[4] ?? "").replace(/,$/, "");
    rest = rest.slice(match[0].length);
  }
  return tags;
}

export const TRACE_ORDERS = ["newest", "longest", "shortest", "spans", "errors"] as const;
export type TraceOrder = (typeof TRACE_ORDERS)[number];

export function sortTraces(traces: readonly TraceSummary[], order: TraceOrder): TraceSummary[] {
  const by: Record<TraceOrder, (a: TraceSummary, b: TraceSummary) => number> = {
    newest: (a, b) => b.start - a.start,
    longest: (a, b) => b.duration - a.duration,
    shortest: (a, b) => a.duration - b.duration,
    spans: (a, b) => b.spans - a.spans,
    errors: (a, b) => b.errors - a.errors || b.start - a.start,
  };
  return [...traces].sort(by[order]);
}
