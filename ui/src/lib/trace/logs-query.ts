// From a span to its log lines: the query and the time to look in.
import { durationMs, unixMs, type UnixMs } from "../brand";
import { quoteString } from "../labels";
import type { TimeRange } from "../time/range";

const AROUND = durationMs(5 * 60_000);

/** Lines of every stream that carry the trace id, and the span id when given. */
export const spanLogsQuery = (traceId: string, spanId?: string): string =>
  `{service_name=~".+"} | trace_id=${quoteString(traceId)}${spanId ? ` | span_id=${quoteString(spanId)}` : ""}`;

/** Log clocks and span clocks differ, and lines arrive late: five minutes on both sides. */
export const traceLogsRange = (start: UnixMs, end: UnixMs): TimeRange => ({ from: unixMs(start - AROUND), to: unixMs(end + AROUND) });
