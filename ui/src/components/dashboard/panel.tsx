// One panel: asks its queries when it comes into view, draws what they answer.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { queryLines, queryCounts } from "../../api/loki";
import { queryInstant, queryRange, type QueryAnswer, type Series } from "../../api/prometheus";
import { durationMs, msToNs, type DurationMs } from "../../lib/brand";
import { dashboardColor, seriesVar } from "../../lib/colors";
import { thresholdColor, type Panel, type Target } from "../../lib/dashboard/model";
import { reduceSeries } from "../../lib/dashboard/reduce";
import { interpolate, macros, type VariableValues } from "../../lib/dashboard/variables";
import { formatValue } from "../../lib/format";
import { formatLabels, formatLegend } from "../../lib/labels";
import type { LogLine } from "../../lib/logs/lines";
import { parseDuration } from "../../lib/time/duration";
import { stepFor, type TimeRange } from "../../lib/time/range";
import { useData } from "../../state/data";
import { useTime } from "../../state/time";
import { useHref } from "../../state/url";
import { Icon } from "../kit/icon";
import { Empty, ErrorNotice, Progress, Skeleton, Warnings } from "../kit/kit";
import { LogList } from "../logs/log-list";
import { align } from "../viz/align";
import { Legend } from "../viz/legend";
import { BarGauges, Gauges, Stats, type NumberValue } from "../viz/numbers";
import { TimeSeries, type ChartSeries } from "../viz/time-series";
import css from "../../pages/dashboard.module.css";
import { PanelTable } from "./panel-table";

const LOG_LIMIT = 200;

interface Props {
  readonly panel: Panel;
  readonly variables: VariableValues;
  readonly sync: string;
}

/** What the queries of a panel answered. */
export interface PanelData {
  readonly series: readonly NamedSeries[];
  readonly lines: readonly LogLine[];
  readonly warnings: readonly string[];
  readonly step: DurationMs;
}

export interface NamedSeries extends Series {
  readonly refId: string;
  readonly name: string;
}

function points(width: number, panel: Panel): number {
  return Math.max(30, Math.min(panel.maxDataPoints ?? 1100, Math.round(width / 2)));
}

async function ask(panel: Panel, targets: readonly Target[], variables: VariableValues, range: TimeRange, width: number, signal: AbortSignal): Promise<PanelData> {
  const warnings: string[] = [];
  const lines: LogLine[] = [];
  const series: NamedSeries[] = [];
  let widest = durationMs(1000);
  const answers = await Promise.all(
    targets.map(async (target): Promise<{ target: Target; answer: QueryAnswer | undefined }> => {
      const count = points(width, panel);
      const own = interpolate(target.interval, variables);
      const values = new Map([...variables, ...macros(range, count, undefined, own)]);
      const step = stepFor(range, count, parseDuration(own.replace(/^[>=]+/, "")) ?? durationMs(15_000));
      if (step > widest) widest = step;
      const expr = interpolate(target.expr, values);
      if (panel.kind === "logs") {
        const answer = await queryLines({ query: expr, start: msToNs(range.from), end: msToNs(range.to), limit: LOG_LIMIT }, signal);
        lines.push(...answer.lines);
        warnings.push(...answer.warnings);
        return { target, answer: undefined };
      }
      if (target.language === "logql") return { target, answer: await queryCounts(expr, range, step, signal) };
      const instant = target.instant || (panel.kind === "table" && !targets.some((t) => !t.instant && t.legend !== ""));
      return { target, answer: instant ? await queryInstant(expr, range.to, signal) : await queryRange(expr, range, step, signal) };
    }),
  );
  for (const { target, answer } of answers) {
    if (!answer) continue;
    warnings.push(...answer.warnings);
    const all = answer.series.map((s) => s.labels);
    for (const s of answer.series) series.push({ ...s, refId: target.refId, name: formatLegend(interpolate(target.legend, variables), s.labels, all) });
  }
  return { series, lines: lines.sort((a, b) => (a.ns < b.ns ? 1 : a.ns > b.ns ? -1 : 0)), warnings, step: widest };
}

export function DashboardPanel({ panel, variables, sync }: Props) {
  const ref = useRef<HTMLElement>(null);
  const [seen, setSeen] = useState(false);
  const [width, setWidth] = useState(0);
  const { range, tick } = useTime();
  const href = useHref();

  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    setWidth(element.clientWidth);
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        setSeen(true);
        observer.disconnect();
      },
      { rootMargin: "100% 0px" },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const targets = useMemo(() => panel.targets.filter((t) => !t.hidden && t.language !== "other"), [panel]);
  const variableKey = useMemo(() => JSON.stringify([...variables].filter(([name]) => !name.startsWith("__"))), [variables]);
  const wanted = seen && width > 0 && targets.length > 0 && panel.kind !== "text" && panel.kind !== "unsupported";
  const { data, error, loading, busy, retry } = useData(
    ["panel", panel, variableKey, range.from, range.to, tick, Math.round(width / 100)],
    (signal) => ask(panel, targets, variables, range, width, signal),
    { enabled: wanted },
  );
  const first = targets[0];
  const explore = first && href(first.language === "logql" ? "/logs" : "/explore/metrics", { q: interpolate(first.expr, new Map([...variables, ...macros(range, points(width || 600, panel))])) });
  const title = interpolate(panel.title, variables);

  return (
    <section
      ref={ref}
      class={css["panel"]}
      style={{ gridColumn: `${panel.x + 1} / span ${panel.w}`, gridRow: `${panel.y + 1} / span ${panel.h}`, "--height": `${panel.h * 30 + (panel.h - 1) * 8}px` }}
      aria-label={title || first?.expr || panel.type}
      data-testid="panel"
      data-kind={panel.kind}
      data-title={title}
    >
      <header title={panel.description || undefined}>
        <h2 class="cut">{title}</h2>
        {explore && (
          <Link href={explore} aria-label="Open the query in explore" title="Open the query in explore" data-testid="panel-explore">
            <Icon name="external" size={13} />
          </Link>
        )}
      </header>
      <Progress active={busy && !loading} />
      <div class={`${css["body"]} ${panel.kind === "text" || panel.kind === "table" ? css["scroll"] : ""}`}>
        <PanelBody panel={panel} data={data} loading={wanted ? loading : !seen} failed={error !== undefined} noTargets={targets.length === 0} range={range} sync={sync} />
        {error && (
          <div class={css["problem"]}>
            <ErrorNotice error={error} query={first?.expr ?? ""} retry={retry} />
          </div>
        )}
        {data && data.warnings.length > 0 && !error && (
          <div class={css["problem"]}>
            <Warnings warnings={data.warnings} />
          </div>
        )}
      </div>
    </section>
  );
}

interface BodyProps {
  panel: Panel;
  data: PanelData | undefined;
  loading: boolean;
  failed: boolean;
  noTargets: boolean;
  range: TimeRange;
  sync: string;
}

function PanelBody({ panel, data, loading, failed, noTargets, range, sync }: BodyProps) {
  if (panel.kind === "text") return <div class={css["text"]}>{panel.content}</div>;
  if (panel.kind === "unsupported") {
    return (
      <Empty icon="dashboards" title="Not drawn yet" testid="panel-unsupported">
        Panels of type {panel.type || "unknown"} are not supported.
      </Empty>
    );
  }
  if (noTargets) return <Empty title="No query" testid="panel-empty" />;
  if (loading && !failed) return <Skeleton lines={3} />;
  if (!data) return null;
  if (panel.kind === "logs") {
    if (data.lines.length === 0) return <Empty icon="logs" title="No lines in this range" testid="panel-empty" />;
    return (
      <div class={css["logs"]}>
        <LogList lines={data.lines} label={panel.title || "Log lines"} />
      </div>
    );
  }
  if (data.series.length === 0) return <Empty title={panel.noValue || "No data in this range"} testid="panel-empty" />;
  switch (panel.kind) {
    case "timeseries":
      return <Chart panel={panel} data={data} range={range} sync={sync} />;
    case "table":
      return <PanelTable panel={panel} data={data} />;
    case "stat":
      return <Stats values={numbers(panel, data)} />;
    case "gauge":
      return <Gauges values={numbers(panel, data)} min={panel.min ?? 0} max={panel.max ?? scaleMax(panel, data)} />;
    case "bargauge":
      return <BarGauges values={numbers(panel, data)} min={panel.min ?? 0} max={panel.max ?? scaleMax(panel, data)} />;
    default:
      return null;
  }
}

const matches = (panel: Panel, s: NamedSeries) =>
  panel.overrides.filter((o) => {
    if (o.by === "ref") return o.match === s.refId;
    if (o.by === "name") return o.match === s.name;
    const written = /^\/(.*)\/([a-z]*)$/.exec(o.match);
    try {
      return new RegExp(written?.[1] ?? o.match, written?.[2]).test(s.name);
    } catch {
      return false;
    }
  });

const lastWins = <T,>(items: readonly (T | undefined)[]): T | undefined => [...items].reverse().find((item) => item !== undefined);

function scaleMax(panel: Panel, data: PanelData): number {
  if (panel.unit === "percent") return 100;
  if (panel.unit === "percentunit") return 1;
  return Math.max(0, ...data.series.map((s) => reduceSeries(s.points.map(([, v]) => v), panel.calc) ?? 0)) || 1;
}

function numbers(panel: Panel, data: PanelData): NumberValue[] {
  return data.series.slice(0, 60).map((s, index) => {
    const values = s.points.map(([, v]) => (Number.isFinite(v) ? v : null));
    const value = reduceSeries(values, panel.calc);
    const mapping = panel.mappings.find((m) => m.match === `${value}` || (m.match === "null" && value === null));
    const changed = matches(panel, s);
    const threshold = mapping?.color ?? thresholdColor(panel.thresholds, value);
    return {
      key: `${s.refId} ${index}`,
      label: lastWins(changed.map((o) => o.displayName)) ?? s.name,
      value,
      text: mapping?.text ?? (value === null && panel.noValue ? panel.noValue : formatValue(value, lastWins(changed.map((o) => o.unit)) ?? panel.unit, panel.decimals)),
      color: threshold ? dashboardColor(threshold) : "var(--ok)",
      points: values,
    };
  });
}

function Chart({ panel, data, range, sync }: { panel: Panel; data: PanelData; range: TimeRange; sync: string }) {
  const { setRange } = useTime();
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const shown = useMemo(() => data.series.slice(0, 300), [data]);
  const aligned = useMemo(() => align(shown, range, data.step), [shown, range, data.step]);
  const series = useMemo<ChartSeries[]>(
    () =>
      shown.map((s, index) => {
        const changed = matches(panel, s);
        const color = lastWins(changed.map((o) => o.color));
        return {
          key: `${s.refId} ${formatLabels(s.labels)}`,
          label: lastWins(changed.map((o) => o.displayName)) ?? s.name,
          values: aligned.values[index] ?? [],
          color: color ? dashboardColor(color) : seriesVar(index),
        };
      }),
    [shown, aligned, panel],
  );
  return (
    <div class={css["series"]}>
      <div>
        <TimeSeries
          label={panel.title}
          times={aligned.times}
          series={series}
          range={range}
          unit={panel.unit || "short"}
          decimals={panel.decimals}
          min={panel.min}
          max={panel.max}
          stacked={panel.stacked}
          bars={panel.bars}
          fill={panel.fill}
          hidden={hidden}
          sync={sync}
          compact
          onZoom={setRange}
        />
      </div>
      {panel.legendShown && (
        <div class={css["legend"]}>
          <Legend series={series} hidden={hidden} onHidden={setHidden} unit={panel.unit || "short"} decimals={panel.decimals} />
        </div>
      )}
    </div>
  );
}
