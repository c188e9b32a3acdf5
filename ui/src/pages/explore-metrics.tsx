// Metrics: a PromQL editor, the result as a graph or a table.
import { useEffect, useMemo, useState } from "preact/hooks";
import { labelNames, labelValues, metricMetadata, queryInstant, queryRange, type QueryAnswer } from "../api/prometheus";
import { Page } from "../components/frame/page";
import { Badge, Button, Card, CopyButton, Empty, ErrorNotice, Notice, Segmented, Skeleton, tableClass, Warnings } from "../components/kit/kit";
import { QueryInput, type Suggestion } from "../components/kit/query-input";
import { align } from "../components/viz/align";
import { Legend } from "../components/viz/legend";
import { TimeSeries, type ChartSeries } from "../components/viz/time-series";
import { formatClock, formatDateTime, stepFor } from "../lib/time/range";
import { unixMs } from "../lib/brand";
import { seriesVar } from "../lib/colors";
import { formatCount, formatValue } from "../lib/format";
import { formatLabels } from "../lib/labels";
import { metricNames } from "../lib/promql-names";
import { PROMQL_FUNCTIONS } from "../lib/promql-words";
import { promDuration } from "../lib/time/duration";
import { useData } from "../state/data";
import { useTime } from "../state/time";
import { useUrl } from "../state/url";
import css from "./explore-metrics.module.css";

const POINTS = 400;
const DRAWN = 100;
const EXAMPLES = [
  "sum by (job) (up)",
  "sum(rate(trefoil_ingest_samples_total[1m]))",
  "histogram_quantile(0.99, sum by (le) (rate(trefoil_http_request_duration_seconds_bucket[5m])))",
];

type View = "graph" | "table";

export function MetricsPage() {
  const { params, set } = useUrl();
  const time = useTime();
  const expr = params.get("q") ?? "";
  const view: View = params.get("view") === "table" ? "table" : "graph";
  const [draft, setDraft] = useState(expr);
  useEffect(() => setDraft(expr), [expr]);

  const { range, tick } = time;
  const step = stepFor(range, POINTS);
  const answer = useData(
    ["metrics", expr, view, range.from, range.to, tick],
    (signal) => (view === "graph" ? queryRange(expr, range, step, signal) : queryInstant(expr, range.to, signal)),
    { enabled: expr !== "" },
  );
  const suggestions = useSuggestions();

  const run = (query: string): void => {
    const next = query.trim();
    if (next === expr) time.refresh();
    else set({ q: next || undefined });
  };

  return (
    <Page title="Metrics" testid="page-metrics" busy={answer.busy}>
      <div class={css["page"]}>
        <div class={css["query"]}>
          <QueryInput value={draft} label="PromQL query" placeholder="PromQL, e.g. sum by (job) (rate(http_requests_total[5m]))" testid="promql" suggestions={suggestions} onChange={setDraft} onRun={run} />
          <Button kind="primary" icon="play" onClick={() => run(draft)} testid="promql-run">
            Run
          </Button>
        </div>
        <MetricFacts expr={expr} />
        {answer.error && <ErrorNotice error={answer.error} query={expr} retry={answer.retry} />}
        {answer.data && !answer.error && <Warnings warnings={answer.data.warnings} infos={answer.data.infos} />}
        {expr === "" ? (
          <Card class={css["result"]}>
            <Start onPick={(query) => run(query)} />
          </Card>
        ) : (
          <Card
            class={css["result"]}
            title={
              answer.data && !answer.error ? (
                <span class="muted num" data-testid="result-count">
                  {formatCount(answer.data.series.length)} series{view === "graph" ? `, step ${promDuration(step)}` : ` at ${formatDateTime(range.to)}`}
                </span>
              ) : (
                <span class="muted">Result</span>
              )
            }
            aside={
              <Segmented
                label="Result as"
                value={view}
                testid="view"
                onChange={(next) => set({ view: next === "graph" ? undefined : next })}
                options={[
                  { value: "graph", label: "Graph" },
                  { value: "table", label: "Table" },
                ]}
              />
            }
          >
            {answer.loading && !answer.error && <Skeleton lines={8} />}
            {answer.data && !answer.error && (view === "graph" ? <Graph expr={expr} answer={answer.data} step={step} /> : <ResultTable expr={expr} answer={answer.data} />)}
          </Card>
        )}
      </div>
    </Page>
  );
}

async function loadWords(signal: AbortSignal): Promise<{ names: string[]; labels: string[] }> {
  const [names, labels] = await Promise.all([labelValues("__name__", "", undefined, signal), labelNames(signal).catch(() => [])]);
  return { names, labels };
}

function useSuggestions(): readonly Suggestion[] {
  const { data } = useData(["promql-words"], loadWords, { everyMs: 60_000 });
  return useMemo(
    () => [
      ...(data?.names ?? []).map((text) => ({ text, kind: "metric" })),
      ...PROMQL_FUNCTIONS.map((text) => ({ text, kind: "function" })),
      ...(data?.labels ?? []).map((text) => ({ text, kind: "label" })),
    ],
    [data],
  );
}

/** Type and help of the metric, when the query names just one. */
function MetricFacts({ expr }: { expr: string }) {
  const names = metricNames(expr);
  const metric = names[0] ?? "";
  const known = names.length === 1;
  const { data } = useData(["metadata", metric], (signal) => metricMetadata(metric, signal).then((m) => m ?? null), { enabled: known, keep: false });
  if (!data || (!data.help && !data.type)) return null;
  return (
    <p class={css["metricLine"]} data-testid="metric-facts">
      <code>{metric}</code>
      {data.type && <Badge tone="info">{data.type}</Badge>}
      <span class="muted">{data.help}</span>
    </p>
  );
}

function Start({ onPick }: { onPick: (query: string) => void }) {
  return (
    <Empty icon="metrics" title="Ask for a metric" testid="metrics-start">
      Type a name to complete it, Enter to run. Try:
      <span class={css["examples"]}>
        {EXAMPLES.map((example) => (
          <button type="button" class="link mono" key={example} onClick={() => onPick(example)}>
            {example}
          </button>
        ))}
      </span>
    </Empty>
  );
}

/** Which of the cases it is: no such metric at all, or none in this range or with these labels. */
function NoSeries({ expr }: { expr: string }) {
  const time = useTime();
  const known = useData(["promql-words"], loadWords);
  const missing = known.data && !known.error ? metricNames(expr).filter((name) => !known.data?.names.includes(name)) : [];
  if (known.data?.names.length === 0) {
    return (
      <Empty icon="metrics" title="No metrics yet" testid="empty-nothing">
        Nothing has been scraped or written so far. Home shows how to send data.
      </Empty>
    );
  }
  if (missing.length > 0) {
    return (
      <Empty icon="search" title={`There is no metric named ${missing[0]}`} testid="empty-unknown">
        Type part of a name above to see those there are.
      </Empty>
    );
  }
  return (
    <Empty
      icon="search"
      title="Nothing in this range"
      actions={
        <Button onClick={() => time.setRaw({ from: "now-24h", to: "now" })} testid="empty-widen">
          Look at the last 24 hours
        </Button>
      }
    >
      The query is right, but no series matches between {formatDateTime(time.range.from)} and {formatDateTime(time.range.to)}. Check label values, or widen the range.
    </Empty>
  );
}

function Graph({ expr, answer, step }: { expr: string; answer: QueryAnswer; step: ReturnType<typeof stepFor> }) {
  const time = useTime();
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [all, setAll] = useState(false);
  const drawn = useMemo(() => (all ? answer.series.slice(0, 2000) : answer.series.slice(0, DRAWN)), [answer, all]);
  const aligned = useMemo(() => align(drawn, time.range, step), [drawn, time.range, step]);
  const series = useMemo<ChartSeries[]>(
    () => drawn.map((s, index) => ({ key: formatLabels(s.labels), label: formatLabels(s.labels), values: aligned.values[index] ?? [], color: seriesVar(index) })),
    [drawn, aligned],
  );
  useEffect(() => setHidden(new Set()), [answer]);
  if (answer.text !== undefined) return <Empty title={answer.text} />;
  if (answer.series.length === 0) return <NoSeries expr={expr} />;
  return (
    <>
      {answer.series.length > drawn.length && (
        <Notice tone="info" testid="partial">
          Drawing the first {drawn.length} of {formatCount(answer.series.length)} series.{" "}
          {!all && (
            <button type="button" class="link" onClick={() => setAll(true)}>
              Draw more
            </button>
          )}
        </Notice>
      )}
      <div class={css["chart"]}>
        <TimeSeries label="Query result" times={aligned.times} series={series} range={time.range} hidden={hidden} fill={series.length === 1 ? 0.1 : 0} onZoom={time.setRange} />
      </div>
      <div class={css["legend"]}>
        <Legend series={series} hidden={hidden} onHidden={setHidden} unit="short" calcs={["min", "mean", "max", "last"]} />
      </div>
    </>
  );
}

function ResultTable({ expr, answer }: { expr: string; answer: QueryAnswer }) {
  const [shown, setShown] = useState(500);
  if (answer.text !== undefined) return <Empty title={answer.text} />;
  if (answer.series.length === 0) return <NoSeries expr={expr} />;
  return (
    <div class={css["table"]}>
      <table class={tableClass} data-testid="result-table">
        <thead>
          <tr>
            <th scope="col">Series</th>
            <th scope="col" class={css["value"]}>
              Value
            </th>
            <th scope="col">
              <span class="hidden-text">Copy</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {answer.series.slice(0, shown).map((s) => {
            const name = formatLabels(s.labels);
            const last = s.points[s.points.length - 1];
            return (
              <tr key={name} data-testid="result-row">
                <td class="mono">{name}</td>
                <td class={css["value"]} title={last ? `${last[1]} at ${formatClock(unixMs(last[0] * 1000))}` : ""}>
                  {last ? (Math.abs(last[1]) < 1e15 ? `${Number(last[1].toPrecision(12))}` : formatValue(last[1], "short")) : "–"}
                </td>
                <td>
                  <CopyButton text={name} label="Copy the series" />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {answer.series.length > shown && (
        <p>
          <Button onClick={() => setShown(shown + 2000)}>Show more of {formatCount(answer.series.length)}</Button>
        </p>
      )}
    </div>
  );
}

