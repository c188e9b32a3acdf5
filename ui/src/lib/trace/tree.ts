// A trace as a tree in drawing order, built once from the flat spans a trace backend answers.
import { durationUs, unixUs, type DurationUs, type UnixUs } from "../brand";

export interface Attribute {
  readonly key: string;
  readonly value: string;
}

export interface SpanEvent {
  readonly at: UnixUs;
  readonly name: string;
  readonly attributes: readonly Attribute[];
}

export interface SpanReference {
  readonly kind: string;
  readonly traceId: string;
  readonly spanId: string;
}

/** A span as read from the wire, before it has a place in the tree. */
export interface FlatSpan {
  readonly id: string;
  readonly parentId: string | undefined;
  readonly service: string;
  readonly name: string;
  readonly start: UnixUs;
  readonly duration: DurationUs;
  readonly error: boolean;
  readonly kind: string;
  readonly tags: readonly Attribute[];
  readonly process: readonly Attribute[];
  readonly events: readonly SpanEvent[];
  readonly references: readonly SpanReference[];
  readonly warnings: readonly string[];
}

export interface Span extends FlatSpan {
  readonly depth: number;
  /** Number of spans below this one; in drawing order they follow it directly. */
  readonly descendants: number;
  readonly children: number;
  /** Errors among the spans below, so that a collapsed row still tells. */
  readonly errorsBelow: number;
  /** Duration minus the time covered by children. */
  readonly self: DurationUs;
  /** The parent is named but not in the trace. */
  readonly orphan: boolean;
}

export interface ServiceCount {
  readonly name: string;
  readonly spans: number;
  readonly errors: number;
}

export interface Trace {
  readonly id: string;
  readonly spans: readonly Span[]; // depth first, siblings by start
  readonly start: UnixUs;
  readonly duration: DurationUs;
  readonly root: Span | undefined;
  readonly services: readonly ServiceCount[];
  readonly errors: number;
  readonly depth: number;
}

/** Time of `parent` not covered by any child, in microseconds. */
export function selfTime(parent: { start: number; duration: number }, children: readonly { start: number; duration: number }[]): DurationUs {
  const end = parent.start + parent.duration;
  let covered = 0;
  let at = parent.start;
  for (const child of [...children].sort((a, b) => a.start - b.start)) {
    const from = Math.max(at, child.start);
    const to = Math.min(end, child.start + child.duration);
    if (to > from) {
      covered += to - from;
      at = to;
    }
  }
  return durationUs(Math.max(0, parent.duration - covered));
}

export function buildTrace(id: string, flat: readonly FlatSpan[]): Trace {
  const byId = new Map<string, FlatSpan>();
  for (const span of flat) if (!byId.has(span.id)) byId.set(span.id, span);
  const unique = [...byId.values()];
  const childrenOf = new Map<string, FlatSpan[]>();
  const roots: FlatSpan[] = [];
  for (const span of unique) {
    if (span.parentId && span.parentId !== span.id && byId.has(span.parentId)) {
      const siblings = childrenOf.get(span.parentId);
      if (siblings) siblings.push(span);
      else childrenOf.set(span.parentId, [span]);
    } else roots.push(span);
  }
  const byStart = (a: FlatSpan, b: FlatSpan): number => a.start - b.start || b.duration - a.duration;
  for (const siblings of childrenOf.values()) siblings.sort(byStart);
  roots.sort(byStart);

  type Mutable = { -readonly [K in keyof Span]: Span[K] };
  const spans: Mutable[] = [];
  const placed = new Set<string>();
  // An explicit stack: traces may be deeper than the call stack allows. The second visit closes a span.
  const place = (start: FlatSpan): void => {
    const stack: { span: FlatSpan; depth: number; index: number }[] = [{ span: start, depth: 0, index: -1 }];
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      if (!top) break;
      if (top.index >= 0) {
        const row = spans[top.index];
        if (row) {
          row.descendants = spans.length - top.index - 1;
          for (let below = top.index + 1; below < spans.length; ) {
            const child = spans[below];
            if (!child) break;
            row.errorsBelow += child.errorsBelow + (child.error ? 1 : 0);
            below += child.descendants + 1;
          }
        }
        stack.pop();
        continue;
      }
      top.index = spans.length;
      const children = childrenOf.get(top.span.id) ?? [];
      placed.add(top.span.id);
      spans.push({
        ...top.span,
        depth: top.depth,
        descendants: 0,
        children: children.length,
        errorsBelow: 0,
        self: selfTime(top.span, children),
        orphan: Boolean(top.span.parentId) && !byId.has(top.span.parentId ?? ""),
      });
      for (let child = children.length - 1; child >= 0; child--) {
        const span = children[child];
        if (span && !placed.has(span.id)) stack.push({ span, depth: top.depth + 1, index: -1 });
      }
    }
  };
  for (const root of roots) place(root);
  // Spans that only reach each other in a circle have no root: the earliest of them becomes one.
  for (const span of [...unique].sort(byStart)) if (!placed.has(span.id)) place(span);

  const services = new Map<string, { spans: number; errors: number }>();
  let from = Number.POSITIVE_INFINITY;
  let to = Number.NEGATIVE_INFINITY;
  let errors = 0;
  let depth = 0;
  for (const span of spans) {
    const count = services.get(span.service) ?? { spans: 0, errors: 0 };
    count.spans++;
    if (span.error) {
      count.errors++;
      errors++;
    }
    services.set(span.service, count);
    from = Math.min(from, span.start);
    to = Math.max(to, span.start + span.duration);
    depth = Math.max(depth, span.depth + 1);
  }
  return {
    id,
    spans,
    start: unixUs(spans.length ? from : 0),
    duration: durationUs(spans.length ? to - from : 0),
    root: spans.find((span) => span.depth === 0 && !span.orphan) ?? spans[0],
    services: [...services].map(([name, count]) => ({ name, ...count })).sort((a, b) => b.spans - a.spans),
    errors,
    depth,
  };
}

/** Indexes of the spans drawn when the spans in `collapsed` hide what is below them. */
export function visibleSpans(trace: Trace, collapsed: ReadonlySet<string>): number[] {
  const rows: number[] = [];
  for (let index = 0; index < trace.spans.length; index++) {
    const span = trace.spans[index];
    if (!span) break;
    rows.push(index);
    if (collapsed.has(span.id)) index += span.descendants;
  }
  return rows;
}

/** Ids of the spans above `index`, nearest first. */
export function ancestors(trace: Trace, index: number): string[] {
  const ids: string[] = [];
  let depth = trace.spans[index]?.depth ?? 0;
  for (let at = index - 1; at >= 0 && depth > 0; at--) {
    const span = trace.spans[at];
    if (span && span.depth < depth) {
      ids.push(span.id);
      depth = span.depth;
    }
  }
  return ids;
}

/** The next span with an error after (`1`) or before (`-1`) `from`, wrapping round; -1 when there is none. */
export function nextError(trace: Trace, from: number, direction: 1 | -1): number {
  const count = trace.spans.length;
  for (let step = 1; step <= count; step++) {
    const index = (((from + direction * step) % count) + count) % count;
    if (trace.spans[index]?.error) return index;
  }
  return -1;
}

/** Spans whose name, service, id or attributes contain `text`. */
export function findSpans(trace: Trace, text: string): Set<string> {
  const want = text.trim().toLowerCase();
  const found = new Set<string>();
  if (want === "") return found;
  for (const span of trace.spans) {
    const hit =
      span.name.toLowerCase().includes(want) ||
      span.service.toLowerCase().includes(want) ||
      span.id.startsWith(want) ||
      span.tags.some((tag) => tag.value.toLowerCase().includes(want) || `${tag.key}=${tag.value}`.toLowerCase().includes(want));
    if (hit) found.add(span.id);
  }
  return found;
}
