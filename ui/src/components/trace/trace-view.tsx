// One trace: head, minimap, waterfall. The same view fills the page and the drawer.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { getTrace } from "../../api/jaeger";
import { durationUs, usToMs, type DurationUs } from "../../lib/brand";
import { assignColors, seriesVar } from "../../lib/colors";
import { formatDurationUs } from "../../lib/time/duration";
import { formatDateTime } from "../../lib/time/range";
import { ancestors, findSpans, nextError, visibleSpans, type Span, type Trace } from "../../lib/trace/tree";
import { useData } from "../../state/data";
import { useKeys, type KeyAction } from "../../state/keys";
import { Icon } from "../kit/icon";
import { Badge, Button, ColorDot, CopyButton, Empty, ErrorNotice, Skeleton } from "../kit/kit";
import { Windowed } from "../kit/windowed";
import { Minimap, WHOLE, type Lens } from "./minimap";
import { SpanDetail } from "./span-detail";
import css from "./trace-view.module.css";

const ROW = 26;

export function TraceView({ traceId, spanId, compact = false }: { traceId: string; spanId?: string | undefined; compact?: boolean }) {
  const { data, error, loading, retry } = useData(["trace", traceId], (signal) => getTrace(traceId, signal), { keep: false });
  if (loading) return <Skeleton lines={10} />;
  if (error?.status === 404) {
    return (
      <Empty icon="traces" title="This trace is not here" testid="trace-missing" actions={<Button icon="refresh" onClick={retry}>Look again</Button>}>
        No span with the id {traceId} is stored. It may not have arrived yet, may have been sampled away, or is older than the retention.
      </Empty>
    );
  }
  if (error || !data) return error ? <ErrorNotice error={error} retry={retry} /> : null;
  return <Waterfall trace={data} spanId={spanId} compact={compact} />;
}

function Waterfall({ trace, spanId, compact }: { trace: Trace; spanId: string | undefined; compact: boolean }) {
  const colors = useMemo(() => assignColors(trace.services.map((s) => s.name)), [trace]);
  const [collapsed, setCollapsed] = useState<ReadonlySet<string>>(new Set());
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set(spanId ? [spanId] : []));
  const [current, setCurrent] = useState(() => Math.max(0, trace.spans.findIndex((s) => s.id === spanId)));
  const [lens, setLens] = useState<Lens>(WHOLE);
  const [text, setText] = useState("");
  const found = useMemo(() => findSpans(trace, text), [trace, text]);
  const rows = useMemo(() => visibleSpans(trace, collapsed), [trace, collapsed]);
  const host = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const index = trace.spans.findIndex((s) => s.id === spanId);
    if (spanId && index >= 0) {
      setCurrent(index);
      setOpen(new Set([spanId]));
    }
  }, [spanId, trace]);

  const opened = useMemo(() => {
    const map = new Map<number, string>();
    rows.forEach((index, row) => {
      const id = trace.spans[index]?.id;
      if (id && open.has(id)) map.set(row, id);
    });
    return map;
  }, [rows, open, trace]);

  const fold = useCallback((id: string, shut: boolean) => {
    setCollapsed((old) => {
      const next = new Set(old);
      if (shut) next.add(id);
      else next.delete(id);
      return next;
    });
  }, []);

  const toggleOpen = useCallback((id: string) => {
    setOpen((old) => {
      const next = new Set(old);
      if (!next.delete(id)) next.add(id);
      return next;
    });
  }, []);

  const goTo = useCallback(
    (index: number) => {
      if (index < 0) return;
      const above = ancestors(trace, index);
      setCollapsed((old) => (above.some((id) => old.has(id)) ? new Set([...old].filter((id) => !above.includes(id))) : old));
      setCurrent(index);
    },
    [trace],
  );

  const keys = useMemo<KeyAction[]>(
    () => [
      { keys: "n", label: "Next error", group: "Trace", run: () => goTo(nextError(trace, current, 1)) },
      { keys: "p", label: "Previous error", group: "Trace", run: () => goTo(nextError(trace, current, -1)) },
      { keys: "0", label: "See the whole trace", group: "Trace", run: () => setLens(WHOLE) },
    ],
    [trace, current, goTo],
  );
  useKeys(keys);

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget) return;
    const row = rows.indexOf(current);
    const span = trace.spans[current];
    if (!span) return;
    const move = event.key === "ArrowDown" || event.key === "j" ? 1 : event.key === "ArrowUp" || event.key === "k" ? -1 : 0;
    if (move !== 0) setCurrent(rows[Math.max(0, Math.min(rows.length - 1, row + move))] ?? current);
    else if (event.key === "ArrowRight") {
      if (collapsed.has(span.id)) fold(span.id, false);
      else if (span.children > 0) setCurrent(current + 1);
    } else if (event.key === "ArrowLeft") {
      if (span.children > 0 && !collapsed.has(span.id)) fold(span.id, true);
      else {
        const [parent] = ancestors(trace, current);
        const index = trace.spans.findIndex((s) => s.id === parent);
        if (index >= 0) setCurrent(index);
      }
    } else if (event.key === "Enter" || event.key === " ") toggleOpen(span.id);
    else return;
    event.preventDefault();
  };

  const width = Math.max(1, trace.duration);
  const view = lens.to - lens.from;
  const place = (us: number): number => (((us - trace.start) / width - lens.from) / view) * 100;

  const row = (position: number) => {
    const index = rows[position] ?? -1;
    const span = trace.spans[index];
    if (!span) return null;
    const shut = collapsed.has(span.id);
    const left = place(span.start);
    const right = place(span.start + span.duration);
    const labelRight = right < 72;
    const labelLeft = !labelRight && left > 22;
    return (
      <div
        key={span.id}
        class={css["row"]}
        role="treeitem"
        aria-level={span.depth + 1}
        aria-expanded={span.children > 0 ? !shut : undefined}
        aria-selected={index === current}
        aria-label={`${span.service} ${span.name}, ${formatDurationUs(span.duration)}${span.error ? ", error" : ""}`}
        data-testid="span-row"
        data-span={span.id}
        data-current={index === current}
        data-dim={text !== "" && !found.has(span.id)}
        style={{ "--color": seriesVar(colors.get(span.service) ?? 0) }}
        onClick={() => {
          setCurrent(index);
          toggleOpen(span.id);
        }}
      >
        <div class={css["name"]} style={{ paddingLeft: `${Math.min(span.depth, 30) * (compact ? 9 : 12) + 4}px` }}>
          {span.children > 0 ? (
            <button
              type="button"
              class={css["twist"]}
              tabIndex={-1}
              aria-label={shut ? "Expand" : "Collapse"}
              data-testid="span-toggle"
              onClick={(event) => {
                event.stopPropagation();
                fold(span.id, !shut);
              }}
            >
              <Icon name={shut ? "right" : "down"} size={13} />
            </button>
          ) : (
            <span class={css["twist"]} />
          )}
          <i class={css["service"]} />
          {(span.error || (shut && span.errorsBelow > 0)) && (
            <span class={css["bad"]} title={span.error ? "Error" : `${span.errorsBelow} errors below`}>
              <Icon name="error" size={13} />
            </span>
          )}
          <div class={`${css["label"]} cut`} title={`${span.service}: ${span.name}`}>
            <b>{span.name}</b>
            <span>{span.service}</span>
          </div>
          {shut && <span class={css["below"]}>+{span.descendants}</span>}
        </div>
        <div class={css["time"]}>
          <div class={css["bar"]} data-error={span.error} style={{ left: `${left}%`, width: `${Math.max(0, right - left)}%` }} />
          {span.events.slice(0, 20).map((event, at) => (
            <i key={at} class={css["mark"]} style={{ left: `${place(event.at)}%` }} title={event.name} />
          ))}
          <span class={css["duration"]} style={labelRight ? { left: `${Math.max(0, right)}%` } : labelLeft ? { right: `${100 - left}%` } : { left: `${Math.max(0, left)}%`, color: right - left > 12 ? "var(--on-series)" : "var(--text)", fontWeight: 600 }}>
            {formatDurationUs(span.duration)}
          </span>
        </div>
      </div>
    );
  };

  return (
    <div class={css["view"]} ref={host} data-testid="trace-view">
      <header class={css["head"]}>
        <dl>
          {compact && trace.root && (
            <div>
              <dd class="cut">
                {trace.root.service}: {trace.root.name}
              </dd>
            </div>
          )}
          <Fact name="Started" value={formatDateTime(usToMs(trace.start), true)} />
          <Fact name="Duration" value={formatDurationUs(trace.duration)} testid="trace-duration" />
          <Fact name="Spans" value={`${trace.spans.length}`} testid="trace-spans" />
          <Fact name="Depth" value={`${trace.depth}`} />
        </dl>
        {trace.errors > 0 && (
          <Badge tone="bad" testid="trace-errors">
            {trace.errors} {trace.errors === 1 ? "error" : "errors"}
          </Badge>
        )}
        <div class={css["find"]}>
          <input value={text} placeholder="Find in trace" aria-label="Find in trace" data-testid="trace-find" data-focus="search" onInput={(event) => setText(event.currentTarget.value)} />
          {text && <span class="muted num">{found.size}</span>}
          {trace.errors > 0 && <Button small label="Next error (n)" icon="down" onClick={() => goTo(nextError(trace, current, 1))} testid="trace-next-error" />}
          <CopyButton text={trace.id} label="Copy the trace id" />
        </div>
      </header>
      {!compact && (
        <div class={css["services"]} data-testid="trace-services">
          {trace.services.map((s) => (
            <span key={s.name}>
              <ColorDot color={seriesVar(colors.get(s.name) ?? 0)} />
              {s.name} <span class="faint num">{s.spans}</span>
            </span>
          ))}
        </div>
      )}
      <Minimap trace={trace} colors={colors} lens={lens} onLens={setLens} />
      <Axis from={durationUs(lens.from * width)} to={durationUs(lens.to * width)} lens={lens} onReset={() => setLens(WHOLE)} />
      <Windowed
        class={css["rows"]}
        label="Spans"
        role="tree"
        testid="waterfall"
        count={rows.length}
        rowHeight={ROW}
        row={row}
        opened={opened}
        reveal={rows.indexOf(current)}
        onKeyDown={onKeyDown}
        extra={(position) => {
          const span = trace.spans[rows[position] ?? -1];
          return span ? <SpanDetail trace={trace} span={span} color={seriesVar(colors.get(span.service) ?? 0)} onSpan={(id) => openSpan(trace, id, goTo, setOpen)} /> : null;
        }}
      />
    </div>
  );
}

function openSpan(trace: Trace, id: string, goTo: (index: number) => void, setOpen: (change: (old: ReadonlySet<string>) => ReadonlySet<string>) => void): void {
  const index = trace.spans.findIndex((s: Span) => s.id === id);
  if (index < 0) return;
  goTo(index);
  setOpen((old) => new Set(old).add(id));
}

function Fact({ name, value, testid }: { name: string; value: string; testid?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd data-testid={testid}>{value}</dd>
    </div>
  );
}

function Axis({ from, to, lens, onReset }: { from: DurationUs; to: DurationUs; lens: Lens; onReset: () => void }) {
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const zoomed = lens.from > 0 || lens.to < 1;
  return (
    <div class={css["axis"]}>
      <div>
        {zoomed ? (
          <button type="button" class="link" onClick={onReset}>
            See all
          </button>
        ) : (
          "Service and operation"
        )}
      </div>
      <div class={css["ticks"]} aria-hidden="true">
        {ticks.map((part) => (
          <span key={part} style={{ left: `${part * 100}%` }}>
            {formatDurationUs(durationUs(from + (to - from) * part))}
          </span>
        ))}
      </div>
    </div>
  );
}
