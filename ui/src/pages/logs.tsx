// Logs: a LogQL query, how many lines when, and the lines themselves.
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { download } from "../api/client";
import { compose, exportUrl, fields, type Field } from "../api/logs";
import { logLabels, logLabelValues, queryCounts, queryLines } from "../api/loki";
import type { QueryAnswer } from "../api/prometheus";
import { Page } from "../components/frame/page";
import { Icon } from "../components/kit/icon";
import { Button, Empty, ErrorNotice, Segmented, Skeleton, Warnings } from "../components/kit/kit";
import { QueryInput, type Suggestion } from "../components/kit/query-input";
import { LogList, type LabelKind } from "../components/logs/log-list";
import { PatternList } from "../components/logs/patterns";
import { align } from "../components/viz/align";
import { Legend } from "../components/viz/legend";
import { TimeSeries, type ChartSeries } from "../components/viz/time-series";
import { msToNs, nsToMs, unixNs, type DurationMs } from "../lib/brand";
import { seriesVar } from "../lib/colors";
import { formatCount, formatValue } from "../lib/format";
import { addLabelFilter, addMatcher, formatLabels, quoteString } from "../lib/labels";
import { appendOlder, histogramOf, isLogQuery, isMetricQuery, LEVELS, normaliseLevel, volumeQuery, type LogLine } from "../lib/logs/lines";
import { LOGQL_WORDS } from "../lib/promql-words";
import { promDuration } from "../lib/time/duration";
import { formatDateTime, span, stepFor } from "../lib/time/range";
import { authorization } from "../state/auth";
import { useData, useLatest } from "../state/data";
import { useTime } from "../state/time";
import { useUrl } from "../state/url";
import css from "./logs.module.css";

export const ALL_STREAMS = '{service_name=~".+"}';
const PAGE = 500;

export function LogsPage() {
  const { params, set } = useUrl();
  const time = useTime();
  const query = params.get("q") ?? ALL_STREAMS;
  const [draft, setDraft] = useState(query);
  const [words, setWords] = useState("");
  const [fault, setFault] = useState("");
  const [labelsOpen, setLabelsOpen] = useState(false);
  useEffect(() => setDraft(query), [query]);
  const metric = isMetricQuery(query);

  const run = useCallback(
    (text: string) => {
      setFault("");
      const next = text.trim() || ALL_STREAMS;
      if (next === query) time.refresh();
      else set({ q: next === ALL_STREAMS ? undefined : next });
    },
    [query, set, time],
  );
  /** Narrows a query by what is typed, which the server reads. */
  const search = useCallback(
    (typed: string, within: string) => {
      if (typed.trim() === "") return;
      compose(typed.trim(), within.trim() || ALL_STREAMS, time.range)
        .then((next) => {
          setWords("");
          run(next);
        })
        .catch((reason: unknown) => setFault(reason instanceof Error ? reason.message : "the search could not be read"));
    },
    [run, time.range],
  );
  const submit = (text: string): void => (isLogQuery(text) ? run(text) : search(text, ALL_STREAMS));
  const labels = useData(["log-labels", time.range.from, time.range.to], (signal) => logLabels(time.range, signal));
  const suggestions = useMemo<Suggestion[]>(
    () => [...(labels.data ?? []).map((text) => ({ text, kind: "label" })), ...LOGQL_WORDS.map((text) => ({ text, kind: "stage" }))],
    [labels.data],
  );

  return (
    <Page title="Logs" testid="page-logs" flush>
      <div class={css["page"]}>
        <div class={css["query"]}>
          <QueryInput value={draft} label="Words or a LogQL query" placeholder={'Words, or LogQL, e.g. {service_name="checkout"} |= "error"'} testid="logql" suggestions={suggestions} onChange={setDraft} onRun={submit} />
          <input
            class={css["contains"]}
            value={words}
            placeholder="Narrow: timeout -debug status:>499"
            aria-label="Only lines with these words, phrases and fields"
            data-testid="log-contains"
            onInput={(event) => setWords(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter") search(words, isLogQuery(draft) ? draft : query);
            }}
          />
          <Button icon="tag" label="Labels" pressed={labelsOpen} onClick={() => setLabelsOpen(!labelsOpen)} testid="log-labels-toggle" />
          <Button kind="primary" icon="play" onClick={() => submit(draft)} testid="logql-run">
            Run
          </Button>
        </div>
        {fault && (
          <p class={css["fault"]} role="alert" data-testid="log-search-fault">
            {fault}
          </p>
        )}
        <div class={css["split"]}>
          <LabelPicker names={labels.data ?? []} open={labelsOpen} loading={labels.loading} error={labels.error?.message} onPick={(key, value) => run(addMatcher(draft, key, "=", value))}>
            {!metric && <FieldPicker query={query} onPick={(field, value) => run(addLabelFilter(parsedFor(draft, field), field.name, "=", value))} />}
          </LabelPicker>
          <div class={css["main"]}>{metric ? <MetricResult query={query} /> : <Lines key={query} query={query} onQuery={run} anyLabels={labels.error !== undefined || labels.loading || (labels.data?.length ?? 0) > 0} />}</div>
        </div>
      </div>
    </Page>
  );
}

interface LabelPickerProps {
  names: readonly string[];
  open: boolean;
  loading: boolean;
  error: string | undefined;
  onPick: (key: string, value: string) => void;
  children?: preact.ComponentChildren;
}

function LabelPicker({ names, open, loading, error, onPick, children }: LabelPickerProps) {
  const [shown, setShown] = useState("service_name");
  return (
    <aside class={css["labels"]} data-open={open} aria-label="Labels" data-testid="label-picker">
      <h2>Labels</h2>
      {error && <p class="muted">{error}</p>}
      {loading && <Skeleton lines={3} />}
      {!error && !loading && names.length === 0 && <p class="faint">None in this range</p>}
      {names.map((name) => (
        <div key={name}>
          <button type="button" class={css["labelName"]} aria-expanded={shown === name} data-testid="label-name" onClick={() => setShown(shown === name ? "" : name)}>
            <Icon name={shown === name ? "down" : "right"} size={12} class="faint" />
            <span class="cut">{name}</span>
          </button>
          {shown === name && <LabelValues name={name} onPick={(value) => onPick(name, value)} />}
        </div>
      ))}
      {children}
    </aside>
  );
}

/** The query with the parser that finds a field. */
function parsedFor(query: string, field: Field): string {
  const base = query.trim() || ALL_STREAMS;
  const isParsed = field.source === "json" || field.source === "logfmt";
  return isParsed && !new RegExp(`\\|\\s*${field.source}\\b`).test(base) ? `${base} | ${field.source}` : base;
}

/** What the newest lines have beside the labels of their streams, with the most frequent values. */
function FieldPicker({ query, onPick }: { query: string; onPick: (field: Field, value: string) => void }) {
  const { range, tick } = useTime();
  const [shown, setShown] = useState("");
  const { data } = useData(["log-fields", query, range.from, range.to, tick], (signal) => fields(query, range, signal));
  const own = (data?.fields ?? []).filter((field) => field.source !== "stream");
  if (own.length === 0) return null;
  return (
    <section data-testid="field-picker" aria-label="Fields">
      <h2>Fields of the newest {formatCount(data?.lines ?? 0)} lines</h2>
      {own.slice(0, 200).map((field) => (
        <div key={field.name}>
          <button type="button" class={css["labelName"]} aria-expanded={shown === field.name} title={`${field.source}, in ${formatCount(field.lines)} lines`} data-testid="field-name" onClick={() => setShown(shown === field.name ? "" : field.name)}>
            <Icon name={shown === field.name ? "down" : "right"} size={12} class="faint" />
            <span class="cut">{field.name}</span>
            <span class={`${css["count"]} num faint`}>{formatCount(field.distinct)}</span>
          </button>
          {shown === field.name &&
            field.values.map(({ value, count }) => (
              <button type="button" class={css["labelValue"]} key={value} title={`${field.name}="${value}"`} data-testid="field-value" onClick={() => onPick(field, value)}>
                <span class="cut">{value || '""'}</span>
                <span class={`${css["count"]} num faint`}>{formatCount(count)}</span>
              </button>
            ))}
        </div>
      ))}
    </section>
  );
}

function LabelValues({ name, onPick }: { name: string; onPick: (value: string) => void }) {
  const { range } = useTime();
  const { data, error, loading } = useData(["log-label-values", name, range.from, range.to], (signal) => logLabelValues(name, range, signal));
  if (loading) return <Skeleton lines={2} />;
  if (error) return <p class="muted">{error.message}</p>;
  return (
    <>
      {data?.slice(0, 200).map((value) => (
        <button type="button" class={css["labelValue"]} key={value} title={`${name}="${value}"`} data-testid="label-value" onClick={() => onPick(value)}>
          <span class="cut">{value || '""'}</span>
        </button>
      ))}
      {(data?.length ?? 0) > 200 && <p class="faint">and {(data?.length ?? 0) - 200} more</p>}
    </>
  );
}

const FORMATS = [
  { format: "csv", label: "CSV" },
  { format: "jsonl", label: "JSON lines" },
] as const;

/** All lines of the query as a file. */
function Export({ query }: { query: string }) {
  const { range } = useTime();
  const [error, setError] = useState("");
  return (
    <span class={css["export"]} data-testid="log-export">
      {error ? <span role="alert">{error}</span> : <span class="muted">Save as</span>}
      {FORMATS.map(({ format, label }) => {
        const url = exportUrl(query, range, format);
        const onClick = (event: MouseEvent): void => {
          if (!authorization()) return; // the link does it
          event.preventDefault();
          setError("");
          download(url, `logs.${format}`).catch((reason: unknown) => setError(reason instanceof Error ? reason.message : "the lines could not be saved"));
        };
        return (
          <a key={format} class="link" href={url} download onClick={onClick} data-testid={`log-export-${format}`}>
            {label}
          </a>
        );
      })}
    </span>
  );
}

const VIEWS = [
  { value: "lines", label: "Lines" },
  { value: "patterns", label: "Patterns" },
] as const;
type View = (typeof VIEWS)[number]["value"];

function Lines({ query, onQuery, anyLabels }: { query: string; onQuery: (query: string) => void; anyLabels: boolean }) {
  const time = useTime();
  const { range, tick } = time;
  const first = useData(["lines", query, range.from, range.to, tick], (signal) =>
    queryLines({ query, start: msToNs(range.from), end: msToNs(range.to), limit: PAGE }, signal),
  );
  const older = useOlder(query, first.data?.lines);
  const lines = older.lines;

  const onFilter = (kind: LabelKind, key: string, op: "=" | "!=", value: string): void => {
    onQuery(kind === "stream" ? addMatcher(query, key, op, value) : addLabelFilter(query, key, op, value));
  };
  const showDate = span(range) > 12 * 3_600_000;
  const filtered = query !== ALL_STREAMS;
  const [view, setView] = useState<View>("lines");
  const asFile = lines.length > 0 && !first.error;

  return (
    <>
      <div class={css["notices"]}>
        {first.error && <ErrorNotice error={first.error} query={query} retry={first.retry} />}
        {first.data && <Warnings warnings={first.data.warnings} />}
      </div>
      {!first.error && <Volume query={query} lines={first.data?.lines ?? []} complete={(first.data?.lines.length ?? 0) < PAGE} onLevel={(level) => onQuery(addLabelFilter(query, "detected_level", "=", level))} shown={lines.length} loading={first.loading} />}
      {!first.error && (
        <div class={css["views"]}>
          <Segmented label="Show" value={view} options={VIEWS} onChange={setView} testid="log-view" />
          {asFile && <Export query={query} />}
        </div>
      )}
      {view === "patterns" && !first.error && <PatternList query={query} onFilter={(stage, pattern) => onQuery(`${query.trim()} ${stage} ${quoteString(pattern)}`)} />}
      {first.loading && view === "lines" && <Skeleton lines={14} />}
      {first.data && !first.error && lines.length === 0 && view === "lines" && (
        <Empty
          icon="logs"
          title={!anyLabels ? "No logs in this range" : filtered ? "No line passes this query" : "No log lines in this range"}
          actions={
            <>
              <Button onClick={() => time.setRaw({ from: "now-24h", to: "now" })} testid="empty-widen">
                Look at the last 24 hours
              </Button>
              {filtered && (
                <Button onClick={() => onQuery(ALL_STREAMS)} testid="empty-unfilter">
                  Remove the filters
                </Button>
              )}
            </>
          }
        >
          {anyLabels && filtered ? "There are logs, but none like this" : "No stream has a line"} between {formatDateTime(range.from)} and {formatDateTime(range.to)}.
        </Empty>
      )}
      {lines.length > 0 && !first.error && view === "lines" && (
        <LogList
          lines={lines}
          label="Log lines"
          showDate={showDate}
          onFilter={onFilter}
          footer={
            <div class={css["footer"]}>
              {older.error ? (
                <>
                  {older.error} <Button onClick={older.load}>Try again</Button>
                </>
              ) : older.end ? (
                <span data-testid="logs-end">That is all: {formatCount(lines.length)} lines in this range.</span>
              ) : (
                <Button icon="down" disabled={older.busy} onClick={older.load} testid="load-older">
                  {older.busy ? "Loading older lines" : "Load older lines"}
                </Button>
              )}
            </div>
          }
        />
      )}
    </>
  );
}

/** Pages further back from the oldest line there is. */
function useOlder(query: string, first: readonly LogLine[] | undefined) {
  const { range } = useTime();
  const [lines, setLines] = useState<readonly LogLine[]>([]);
  const [end, setEnd] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const current = useLatest(first);
  useEffect(() => {
    setLines(first ?? []);
    setEnd(first !== undefined && first.length < PAGE);
    setError("");
  }, [first]);
  const load = (): void => {
    const oldest = lines[lines.length - 1];
    if (busy || end || !oldest) return;
    setBusy(true);
    setError("");
    // The end is exclusive: one nanosecond more, so that lines of the same instant are not lost.
    queryLines({ query, start: msToNs(range.from), end: unixNs(oldest.ns + 1n), limit: PAGE })
      .then((answer) => {
        if (current.current !== first) return; // the query moved on meanwhile
        const next = appendOlder(lines, answer.lines);
        setLines(next);
        setEnd(answer.lines.length < PAGE || next.length === lines.length);
      })
      .catch((reason: unknown) => setError(reason instanceof Error ? reason.message : "older lines could not be loaded"))
      .finally(() => setBusy(false));
  };
  return { lines: first === undefined ? [] : lines, end, busy, error, load };
}

interface VolumeProps {
  query: string;
  lines: readonly LogLine[];
  complete: boolean;
  shown: number;
  loading: boolean;
  onLevel: (level: string) => void;
}

/** Counted by the server; when it cannot, the lines at hand are counted, and that is said. */
function Volume({ query, lines, complete, shown, loading, onLevel }: VolumeProps) {
  const time = useTime();
  const { range, tick } = time;
  const step = stepFor(range, 80);
  const counted = useData(["volume", query, range.from, range.to, tick], (signal) => queryCounts(volumeQuery(query, promDuration(step)), range, step, signal));
  const local = counted.error !== undefined;
  const { times, series, total } = useMemo(() => (local || !counted.data ? localVolume(lines, range, step) : serverVolume(counted.data, range, step)), [local, counted.data, lines, range, step]);
  const partial = local && !complete;
  return (
    <>
      <div class={css["volume"]} data-testid="log-volume" data-source={local ? "client" : "server"}>
        <TimeSeries label="Lines over time by level" times={times} series={series} range={range} stacked bars compact unit="short" onZoom={time.setRange} />
      </div>
      <div class={css["tools"]}>
        <span class="muted num" data-testid="log-count">
          {loading ? "Loading" : `${formatCount(shown)} lines shown`}{total > shown ? ` of ${formatValue(total, "short")}` : ""}
          {partial && <span data-testid="volume-partial">, the histogram counts only these</span>}
        </span>
        <span class={css["levels"]}>
          {series.map((s) => (
            <button type="button" key={s.key} onClick={() => onLevel(s.key)} title={`Only ${s.label}`} data-testid={`level-${s.key}`}>
              <i style={{ color: s.color }} />
              {s.label} <span class="num faint">{formatValue(s.values.reduce<number>((sum, v) => sum + (v ?? 0), 0), "short")}</span>
            </button>
          ))}
        </span>
      </div>
    </>
  );
}

interface VolumeData {
  readonly times: readonly number[];
  readonly series: readonly ChartSeries[];
  readonly total: number;
}

function localVolume(lines: readonly LogLine[], range: Parameters<typeof histogramOf>[1], step: DurationMs): VolumeData {
  const histogram = histogramOf(lines, range, step);
  return {
    times: histogram.times.map((at) => at / 1000),
    series: histogram.levels.map((l) => ({ key: l.level, label: l.level, values: l.counts, color: `var(--level-${l.level})` })),
    total: lines.filter((line) => nsToMs(line.ns) >= range.from).length,
  };
}

function serverVolume(answer: QueryAnswer, range: Parameters<typeof histogramOf>[1], step: DurationMs): VolumeData {
  const aligned = align(answer.series, range, step);
  const series = LEVELS.flatMap((level): ChartSeries[] => {
    const rows = answer.series.flatMap((s, index) => (normaliseLevel(s.labels["detected_level"]) === level ? [aligned.values[index] ?? []] : []));
    if (rows.length === 0) return [];
    const values = aligned.times.map((_, at) => rows.reduce((sum, row) => sum + (row[at] ?? 0), 0));
    return [{ key: level, label: level, values, color: `var(--level-${level})` }];
  });
  const total = series.reduce((sum, s) => sum + s.values.reduce<number>((a, v) => a + (v ?? 0), 0), 0);
  return { times: aligned.times, series, total };
}

function MetricResult({ query }: { query: string }) {
  const time = useTime();
  const { range, tick } = time;
  const step = stepFor(range, 300);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const answer = useData(["log-metric", query, range.from, range.to, tick], (signal) => queryCounts(query, range, step, signal));
  const drawn = useMemo(() => (answer.data?.series ?? []).slice(0, 200), [answer.data]);
  const aligned = useMemo(() => align(drawn, range, step), [drawn, range, step]);
  const series = useMemo<ChartSeries[]>(() => drawn.map((s, index) => ({ key: formatLabels(s.labels), label: formatLabels(s.labels), values: aligned.values[index] ?? [], color: seriesVar(index) })), [drawn, aligned]);
  if (answer.loading) return <Skeleton lines={8} />;
  return (
    <>
      <div class={css["notices"]}>
        {answer.error && <ErrorNotice error={answer.error} query={query} retry={answer.retry} />}
        {answer.data && <Warnings warnings={answer.data.warnings} />}
      </div>
      {answer.data && !answer.error && series.length === 0 && <Empty icon="logs" title="Nothing in this range">The query counts no line here.</Empty>}
      {series.length > 0 && !answer.error && (
        <>
          <div class={css["chart"]}>
            <TimeSeries label="Query result" times={aligned.times} series={series} range={range} hidden={hidden} onZoom={time.setRange} />
          </div>
          <Legend series={series} hidden={hidden} onHidden={setHidden} unit="short" calcs={["mean", "max", "last"]} />
        </>
      )}
    </>
  );
}
