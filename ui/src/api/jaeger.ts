// The Jaeger-compatible API (v1 JSON): services, operations, trace search, one trace.
import { durationUs, msToUs, unixUs, type DurationUs, type UnixUs } from "../lib/brand";
import type { TimeRange } from "../lib/time/range";
import { buildTrace, type Attribute, type FlatSpan, type Trace } from "../lib/trace/tree";
import { list, num, obj, or, record, scalarText, str } from "./check";
import { ApiError, getJson } from "./client";

const tag = obj({ key: str, value: or(scalarText, "") });
const reference = obj({ refType: or(str, "CHILD_OF"), traceID: str, spanID: str });
const event = obj({ timestamp: num, fields: or(list(tag), []) });
const span = obj({
  traceID: str,
  spanID: str,
  operationName: or(str, ""),
  references: or(list(reference), []),
  startTime: num,
  duration: num,
  tags: or(list(tag), []),
  logs: or(list(event), []),
  processID: or(str, ""),
  warnings: or(list(str), []),
});
const process = obj({ serviceName: or(str, "unknown_service"), tags: or(list(tag), []) });
const trace = obj({ traceID: str, spans: or(list(span), []), processes: or(record(process), {}), warnings: or(list(str), []) });
type WireTrace = ReturnType<typeof trace>;

const envelope = obj({ data: or(list(trace), []) });
const nameList = obj({ data: or(list(str), []) });

const find = (tags: readonly Attribute[], key: string): string => tags.find((t) => t.key === key)?.value ?? "";

const isError = (tags: readonly Attribute[]): boolean =>
  tags.some((t) => (t.key === "error" && t.value !== "false" && t.value !== "") || (t.key === "otel.status_code" && t.value === "ERROR"));

export function flatSpans(wire: WireTrace): FlatSpan[] {
  return wire.spans.map((s) => {
    const owner = wire.processes[s.processID];
    const parent = s.references.find((r) => r.refType === "CHILD_OF" && r.traceID === s.traceID);
    return {
      id: s.spanID,
      parentId: parent?.spanID,
      service: owner?.serviceName ?? "unknown_service",
      name: s.operationName || "(no name)",
      start: unixUs(s.startTime),
      duration: durationUs(Math.max(0, s.duration)),
      error: isError(s.tags),
      kind: find(s.tags, "span.kind"),
      tags: s.tags,
      process: owner?.tags ?? [],
      events: s.logs.map((log) => ({
        at: unixUs(log.timestamp),
        name: find(log.fields, "event") || "event",
        attributes: log.fields.filter((field) => field.key !== "event"),
      })),
      references: s.references.filter((r) => r !== parent).map((r) => ({ kind: r.refType, traceId: r.traceID, spanId: r.spanID })),
      warnings: s.warnings,
    };
  });
}

export async function getTrace(id: string, signal?: AbortSignal): Promise<Trace> {
  const [first] = envelope(await getJson(`jaeger/api/traces/${encodeURIComponent(id)}`, { ...(signal && { signal }) }), "").data;
  if (!first || first.spans.length === 0) throw new ApiError("trace not found", 404, "not_found");
  return buildTrace(first.traceID, flatSpans(first));
}

export interface TraceSearch {
  readonly service: string;
  readonly operation: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly minDuration: string;
  readonly maxDuration: string;
  readonly limit: number;
}

export interface TraceSummary {
  readonly id: string;
  readonly rootService: string;
  readonly rootName: string;
  readonly start: UnixUs;
  readonly duration: DurationUs;
  readonly spans: number;
  readonly errors: number;
  readonly services: readonly { readonly name: string; readonly spans: number; readonly errors: number }[];
}

export function summarise(t: Trace): TraceSummary {
  return {
    id: t.id,
    rootService: t.root?.service ?? "",
    rootName: t.root?.name ?? "",
    start: t.start,
    duration: t.duration,
    spans: t.spans.length,
    errors: t.errors,
    services: t.services,
  };
}

export async function searchTraces(search: TraceSearch, range: TimeRange, signal?: AbortSignal): Promise<TraceSummary[]> {
  const json = await getJson("jaeger/api/traces", {
    params: {
      service: search.service,
      operation: search.operation || undefined,
      tags: Object.keys(search.tags).length > 0 ? JSON.stringify(search.tags) : undefined,
      minDuration: search.minDuration || undefined,
      maxDuration: search.maxDuration || undefined,
      limit: search.limit,
      start: msToUs(range.from),
      end: msToUs(range.to),
    },
    ...(signal && { signal }),
  });
  return envelope(json, "")
    .data.map((wire) => summarise(buildTrace(wire.traceID, flatSpans(wire))))
    .sort((a, b) => b.start - a.start);
}

export const services = async (signal?: AbortSignal): Promise<string[]> =>
  nameList(await getJson("jaeger/api/services", { ...(signal && { signal }) }), "").data.sort();

export const operations = async (service: string, signal?: AbortSignal): Promise<string[]> =>
  nameList(await getJson(`jaeger/api/services/${encodeURIComponent(service)}/operations`, { ...(signal && { signal }) }), "").data.sort();
