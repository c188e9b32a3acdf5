// All a span carries, and its log lines in place: one click, nothing else changes.
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { queryLines } from "../../api/loki";
import { durationUs, msToNs, unixMs, usToMs } from "../../lib/brand";
import { formatDurationUs } from "../../lib/time/duration";
import { formatDateTime } from "../../lib/time/range";
import { spanLogsQuery, traceLogsRange } from "../../lib/trace/logs-query";
import type { Attribute, Span, Trace } from "../../lib/trace/tree";
import { useData } from "../../state/data";
import { useHref } from "../../state/url";
import { Badge, Button, CopyButton, Empty, ErrorNotice, Segmented, Skeleton } from "../kit/kit";
import { LOG_ROW, LogList } from "../logs/log-list";
import css from "./trace-view.module.css";

interface Props {
  readonly trace: Trace;
  readonly span: Span;
  readonly color: string;
  readonly onSpan: (id: string) => void;
}

export function SpanDetail({ trace, span, color, onSpan }: Props) {
  const [logs, setLogs] = useState(false);
  return (
    <div class={css["detail"]} style={{ "--color": color }} data-testid="span-detail">
      <div class={css["detailHead"]}>
        <strong>{span.name}</strong>
        <span class="muted">{span.service}</span>
        {span.kind && <Badge>{span.kind}</Badge>}
        {span.error && <Badge tone="bad">error</Badge>}
        {span.orphan && <Badge tone="warn">parent missing</Badge>}
        <Button small icon="logs" pressed={logs} onClick={() => setLogs(!logs)} testid="span-logs">
          Logs
        </Button>
        <CopyButton text={span.id} label="Copy the span id" />
      </div>
      <dl class={css["facts"]}>
        <Fact name="Start" value={`+${formatDurationUs(durationUs(span.start - trace.start))}`} />
        <Fact name="Duration" value={formatDurationUs(span.duration)} />
        <Fact name="Self" value={formatDurationUs(span.self)} />
        <Fact name="Share" value={`${((span.duration / Math.max(1, trace.duration)) * 100).toFixed(1)}%`} />
        <Fact name="Span id" value={span.id} mono />
      </dl>
      {span.warnings.map((warning) => (
        <p key={warning} class="muted">
          {warning}
        </p>
      ))}
      {logs && <SpanLogs trace={trace} span={span} />}
      <div class={css["sections"]}>
        <Attributes name="Attributes" attributes={span.tags} testid="span-tags" />
        <Attributes name="Resource" attributes={span.process} testid="span-process" />
        {span.events.length > 0 && (
          <section data-testid="span-events">
            <h2>Events</h2>
            {span.events.map((event, index) => (
              <div key={index}>
                <p>
                  <b>{event.name}</b> <span class="muted num">+{formatDurationUs(durationUs(event.at - span.start))}</span>
                </p>
                <Pairs attributes={event.attributes} />
              </div>
            ))}
          </section>
        )}
        {span.references.length > 0 && (
          <section data-testid="span-references">
            <h2>Links</h2>
            {span.references.map((r) => (
              <p key={`${r.traceId}${r.spanId}`}>
                <span class="muted">{r.kind.toLowerCase().replace("_", " ")} </span>
                {r.traceId === trace.id ? (
                  <button type="button" class="link mono" onClick={() => onSpan(r.spanId)}>
                    {r.spanId}
                  </button>
                ) : (
                  <OtherTrace traceId={r.traceId} spanId={r.spanId} />
                )}
              </p>
            ))}
          </section>
        )}
      </div>
    </div>
  );
}

function OtherTrace({ traceId, spanId }: { traceId: string; spanId: string }) {
  const href = useHref();
  return (
    <Link class="link mono" href={href(`/trace/${traceId}`, { span: spanId })}>
      {traceId}
    </Link>
  );
}

function Fact({ name, value, mono }: { name: string; value: string; mono?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={mono ? "mono" : "num"}>{value}</dd>
    </div>
  );
}

function Attributes({ name, attributes, testid }: { name: string; attributes: readonly Attribute[]; testid: string }) {
  if (attributes.length === 0) return null;
  return (
    <section data-testid={testid}>
      <h2>{name}</h2>
      <Pairs attributes={attributes} />
    </section>
  );
}

function Pairs({ attributes }: { attributes: readonly Attribute[] }) {
  return (
    <table class={css["pairs"]}>
      <tbody>
        {[...attributes]
          .sort((a, b) => (a.key < b.key ? -1 : 1))
          .map((a, index) => (
            <tr key={`${a.key} ${index}`}>
              <th scope="row">{a.key}</th>
              <td>{a.value}</td>
            </tr>
          ))}
      </tbody>
    </table>
  );
}

const LIMIT = 200;

function SpanLogs({ trace, span }: { trace: Trace; span: Span }) {
  const [scope, setScope] = useState<"span" | "trace">("span");
  const href = useHref();
  const query = spanLogsQuery(trace.id, scope === "span" ? span.id : undefined);
  const range = traceLogsRange(usToMs(trace.start), usToMs((trace.start + trace.duration) as typeof trace.start));
  const { data, error, loading, retry } = useData(
    ["span-logs", query, range.from, range.to],
    (signal) => queryLines({ query, start: msToNs(range.from), end: msToNs(range.to), limit: LIMIT, forward: true }, signal),
    { keep: false },
  );
  return (
    <div class={css["logs"]} data-testid="span-logs-panel" style={{ height: `${Math.max(data?.lines.length ? 90 : 190, Math.min(320, 40 + LOG_ROW * (data?.lines.length ?? 0) + 16))}px` }}>
      <header>
        <Segmented
          label="Which logs"
          value={scope}
          onChange={setScope}
          testid="span-logs-scope"
          options={[
            { value: "span", label: "This span" },
            { value: "trace", label: "Whole trace" },
          ]}
        />
        <code class="cut" title={query}>
          {query}
        </code>
        <Link class="link" href={href("/logs", { q: query, from: `${range.from}`, to: `${range.to}` })} data-testid="span-logs-open">
          Open in logs
        </Link>
      </header>
      {loading && <Skeleton lines={3} />}
      {error && <ErrorNotice error={error} query={query} retry={retry} />}
      {data && data.lines.length === 0 && (
        <Empty icon="logs" title={scope === "span" ? "No lines name this span" : "No lines name this trace"}>
          Searched {formatDateTime(unixMs(range.from))} to {formatDateTime(unixMs(range.to)).slice(11)}.
          {scope === "span" && (
            <>
              {" "}
              <button type="button" class="link" onClick={() => setScope("trace")}>
                Look in the whole trace
              </button>
            </>
          )}
        </Empty>
      )}
      {data && data.lines.length > 0 && <LogList lines={data.lines} label="Log lines of this span" showTrace={false} />}
    </div>
  );
}
