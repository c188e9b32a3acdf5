// Cardinality: what the active series are made of, who makes too many, and how their number grows.
import { useMemo, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { cardinality, queryRange, readTime, type Cardinality, type Counted, type Offender } from "../api/prometheus";
import { Page } from "../components/frame/page";
import { Badge, Button, Card, Empty, ErrorNotice, Segmented, Skeleton } from "../components/kit/kit";
import { align } from "../components/viz/align";
import { Legend } from "../components/viz/legend";
import { TimeSeries, type ChartSeries } from "../components/viz/time-series";
import { durationMs, unixMs } from "../lib/brand";
import { ofJob, ofLabel, ofMetric, ofPair, percent, share } from "../lib/cardinality";
import { seriesVar } from "../lib/colors";
import { formatCount, formatValue } from "../lib/format";
import { formatAgo } from "../lib/time/duration";
import { formatDateTime, stepFor } from "../lib/time/range";
import { useData } from "../state/data";
import { useTime } from "../state/time";
import { useHref } from "../state/url";
import { StatusTabs } from "./status-tabs";
import css from "./cardinality.module.css";

const FEW = 12;
const MANY = 100;

export function CardinalityPage() {
  const [limit, setLimit] = useState(FEW);
  const { data, error, loading, busy, retry } = useData(["cardinality", limit], (signal) => cardinality(limit, signal), { everyMs: 15_000 });
  const more = limit < MANY ? () => setLimit(MANY) : undefined;
  return (
    <Page title="Cardinality" testid="page-cardinality" busy={busy}>
      <div class={css["page"]}>
        <div class={css["wide"]}>
          <StatusTabs here="cardinality" />
        </div>
        {error && (
          <div class={css["wide"]}>
            <ErrorNotice error={error} retry={retry} />
          </div>
        )}
        {loading && !error && (
          <Card class={css["wide"]}>
            <Skeleton lines={8} />
          </Card>
        )}
        {data && !error && data.offenders.length > 0 && <Offenders offenders={data.offenders} />}
        {data && !error && <Facts found={data} />}
        <Growth />
        {data && !error && (data.series === 0 ? <Nothing /> : <Lists found={data} more={more} />)}
      </div>
    </Page>
  );
}

function Nothing() {
  const href = useHref();
  return (
    <Card class={css["wide"]}>
      <Empty
        icon="metrics"
        title="No active series"
        testid="cardinality-empty"
        actions={
          <Link class="link" href={href("/")}>
            How to send data
          </Link>
        }
      >
        No series has a sample in memory: nothing was scraped or written lately.
      </Empty>
    </Card>
  );
}

function Facts({ found }: { found: Cardinality }) {
  const time = (ms: number | undefined): string => (ms === undefined ? "–" : formatDateTime(unixMs(ms)));
  const facts = [
    ["Active series", formatCount(found.series), "cardinality-series"],
    ["Label pairs", formatCount(found.labelPairs), "cardinality-pairs"],
    ["First sample in memory", time(found.minTime), "cardinality-first"],
    ["Last sample in memory", time(found.maxTime), "cardinality-last"],
  ] as const;
  return (
    <Card class={css["wide"]} testid="cardinality-facts">
      <dl class={css["facts"]}>
        {facts.map(([name, value, testid]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd class="num" data-testid={testid}>
              {value}
            </dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}

function Offenders({ offenders }: { offenders: readonly Offender[] }) {
  return (
    <Card
      class={css["wide"]}
      testid="cardinality-offenders"
      title="New series are refused"
      aside={<Badge tone="bad">{offenders.length === 1 ? "1 offender" : `${offenders.length} offenders`}</Badge>}
    >
      {offenders.map((o) => (
        <OffenderLine key={`${o.job} ${o.limit}`} offender={o} />
      ))}
    </Card>
  );
}

const ago = (text: string): string => {
  const at = readTime(text);
  return at === undefined ? "at an unknown time" : formatAgo(durationMs(Date.now() - at));
};

function OffenderLine({ offender: o }: { offender: Offender }) {
  const href = useHref();
  const query = (q: string): string => href("/explore/metrics", { q, view: "table" });
  return (
    <section class={css["offender"]} data-testid="offender" data-job={o.job} aria-label={`Job ${o.job || "without a name"}`}>
      <header>
        <Badge tone="bad" dot>
          {o.job || "no job"}
        </Badge>
        <strong>
          label <code data-testid="offender-label">{o.label || "unknown"}</code> is exploding
        </strong>
        <span class="muted">
          about {formatCount(o.labelValues)} values, mostly in <code>{o.metric || "several metrics"}</code>
        </span>
      </header>
      <p>
        {formatCount(o.refused)} new series refused, first {ago(o.firstRefused)}, last {ago(o.lastRefused)}. The job has {formatCount(o.series)} active series; the limit{" "}
        <code>{o.limit}</code> is {formatCount(o.limitValue)}. Series that exist go on being stored, and so does everybody else.
      </p>
      <p class="muted">
        Take the label away at the source or with <code>{`metric_relabel_configs: [{action: labeldrop, regex: ${o.label || "LABEL"}}]`}</code>, or raise <code>{o.limit}</code>.
      </p>
      <div class={css["actions"]}>
        {o.label && (
          <Link class="link" href={query(ofLabel(o.label, o.metric))}>
            Values of {o.label}
          </Link>
        )}
        {o.metric && (
          <Link class="link" href={query(ofMetric(o.metric))}>
            Who sends {o.metric}
          </Link>
        )}
        {o.job && (
          <Link class="link" href={query(ofJob(o.job))}>
            Metrics of this job
          </Link>
        )}
      </div>
    </section>
  );
}

const GROWTH = {
  active: { label: "Active", expr: "sum(trefoil_tsdb_series_active)", unit: "short", name: () => "active series" },
  created: { label: "New per second", expr: "sum(rate(trefoil_tsdb_series_created_total[5m]))", unit: "short", name: () => "new series a second" },
  jobs: {
    label: "By job",
    expr: "topk(10, sum by (job) (scrape_samples_post_metric_relabeling))",
    unit: "short",
    name: (labels: Readonly<Record<string, string>>) => labels["job"] ?? "",
  },
} as const;

function Growth() {
  const time = useTime();
  const [view, setView] = useState<keyof typeof GROWTH>("active");
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const shown = GROWTH[view];
  const { range, tick } = time;
  const step = stepFor(range, 300, durationMs(15_000));
  const answer = useData(["growth", view, range.from, range.to, tick], (signal) => queryRange(shown.expr, range, step, signal), { keep: false });
  const aligned = useMemo(() => align(answer.data?.series ?? [], range, step), [answer.data, range, step]);
  const series = useMemo<ChartSeries[]>(
    () => (answer.data?.series ?? []).map((s, index) => ({ key: shown.name(s.labels) || `${index}`, label: shown.name(s.labels), values: aligned.values[index] ?? [], color: seriesVar(index) })),
    [answer.data, aligned, shown],
  );
  return (
    <Card
      title="Growth"
      class={css["wide"]}
      testid="cardinality-growth"
      aside={
        <Segmented
          label="Growth of"
          value={view}
          onChange={(next) => {
            setHidden(new Set());
            setView(next);
          }}
          testid="growth"
          options={Object.entries(GROWTH).map(([value, { label }]) => ({ value: value as keyof typeof GROWTH, label }))}
        />
      }
    >
      {answer.loading && !answer.error && <Skeleton lines={5} />}
      {answer.error && <ErrorNotice error={answer.error} query={shown.expr} retry={answer.retry} />}
      {answer.data && !answer.error && series.length === 0 && (
        <Empty icon="metrics" title="Nothing in this range" testid="growth-empty">
          {view === "jobs" ? "No target was scraped in this range." : "The server has no metrics of its own here; they are off when self_telemetry.enabled is false."}
        </Empty>
      )}
      {series.length > 0 && !answer.error && (
        <>
          <div class={css["chart"]}>
            <TimeSeries label={`Growth: ${shown.label}`} times={aligned.times} series={series} range={range} hidden={hidden} unit={shown.unit} min={0} fill={series.length === 1 ? 0.1 : 0} onZoom={time.setRange} />
          </div>
          {series.length > 1 && (
            <div class={css["legend"]}>
              <Legend series={series} hidden={hidden} onHidden={setHidden} unit={shown.unit} calcs={["min", "max", "last"]} />
            </div>
          )}
        </>
      )}
    </Card>
  );
}

function Lists({ found, more }: { found: Cardinality; more: (() => void) | undefined }) {
  const { series } = found;
  const values = found.valuesByLabel[0]?.value ?? 0;
  const bytes = found.bytesByLabel[0]?.value ?? 0;
  return (
    <>
      <Counts title="Series by job" testid="by-job" rows={found.seriesByJob} total={series} query={ofJob} more={more} />
      <Counts title="Series by metric" testid="by-metric" rows={found.seriesByMetric} total={series} query={ofMetric} more={more} />
      <Counts title="Values by label" testid="by-label" rows={found.valuesByLabel} total={values} parts={false} query={ofLabel} more={more} />
      <Counts title="Series by label pair" testid="by-pair" rows={found.seriesByPair} total={series} query={ofPair} more={more} />
      <Counts title="Bytes of values by label" testid="by-bytes" rows={found.bytesByLabel} total={bytes} parts={false} unit="bytes" query={ofLabel} more={more} />
    </>
  );
}

interface CountsProps {
  title: string;
  testid: string;
  rows: Counted;
  /** What a full bar stands for. */
  total: number;
  /** Show the part of the total; false when the rows are no parts of it. */
  parts?: boolean;
  unit?: string;
  query: (name: string) => string;
  more: (() => void) | undefined;
}

function Counts({ title, testid, rows, total, parts = true, unit, query, more }: CountsProps) {
  const href = useHref();
  return (
    <Card title={title} testid={testid}>
      {rows.length === 0 ? (
        <Empty title="None" testid={`${testid}-empty`}>
          No active series has one.
        </Empty>
      ) : (
        <div class={css["rows"]}>
          {rows.map(({ name, value }) => (
            <Link class={css["row"]} key={name} href={href("/explore/metrics", { q: query(name), view: "table" })} title={query(name)} data-testid={`${testid}-row`}>
              <i style={{ width: `${share(value, total) * 100}%` }} aria-hidden="true" />
              <span class={`mono cut ${css["name"]}`}>{name}</span>
              {parts && <span class={`num ${css["share"]}`}>{percent(share(value, total))}</span>}
              <span class={css["count"]}>{unit ? formatValue(value, unit) : formatCount(value)}</span>
            </Link>
          ))}
        </div>
      )}
      {more && rows.length >= FEW && (
        <p class={css["more"]}>
          <Button small onClick={more} testid={`${testid}-more`}>
            Show more
          </Button>
        </p>
      )}
    </Card>
  );
}
