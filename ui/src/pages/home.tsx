// Home: what is coming in, what is wrong, and how to send more.
import { useMemo, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { logLabelValues, queryLines } from "../api/loki";
import { services } from "../api/jaeger";
import { alerts, labelValues, queryRange, readTime, targets } from "../api/prometheus";
import { Page } from "../components/frame/page";
import { Icon, type IconName } from "../components/kit/icon";
import { Badge, Button, Card, Code, ColorDot, Empty, ErrorNotice, LabelList, Segmented, Skeleton } from "../components/kit/kit";
import { LOG_ROW, LogList } from "../components/logs/log-list";
import { Sparkline } from "../components/viz/numbers";
import { durationMs, msToNs, unixMs } from "../lib/brand";
import { colorIndex, seriesVar } from "../lib/colors";
import { formatValue } from "../lib/format";
import { ownTelemetryOnly, snippets, type SnippetGroup } from "../lib/first-run";
import { formatAgo } from "../lib/time/duration";
import { useData } from "../state/data";
import { useHref } from "../state/url";
import css from "./home.module.css";

const SIGNALS: readonly { id: string; name: string; unit: string; icon: IconName; expr: string; path: string; color: string }[] = [
  { id: "samples", name: "Metrics", unit: "samples/s", icon: "metrics", expr: "sum(rate(trefoil_ingest_samples_total[1m]))", path: "/explore/metrics", color: "var(--series-1)" },
  { id: "lines", name: "Logs", unit: "lines/s", icon: "logs", expr: "sum(rate(trefoil_ingest_log_records_total[1m]))", path: "/logs", color: "var(--series-3)" },
  { id: "spans", name: "Traces", unit: "spans/s", icon: "traces", expr: "sum(rate(trefoil_ingest_spans_total[1m]))", path: "/traces", color: "var(--series-5)" },
  { id: "series", name: "Active series", unit: "series", icon: "dashboards", expr: "trefoil_tsdb_series_active", path: "/d/trefoil", color: "var(--series-2)" },
];

const LIVE_MS = 5_000;
const WINDOW_MS = 15 * 60_000;

export function HomePage() {
  const [showSnippets, setShowSnippets] = useState(false);
  const sources = useData(
    ["sources"],
    async (signal) => {
      const now = Date.now();
      const hour = { from: unixMs(now - 3_600_000), to: unixMs(now) };
      const [jobs, logs, traced] = await Promise.all([
        labelValues("job", "", hour, signal),
        logLabelValues("service_name", hour, signal),
        services(signal),
      ]);
      return [...jobs, ...logs, ...traced];
    },
    { everyMs: 15_000 },
  );
  const first = sources.data !== undefined && sources.error === undefined && ownTelemetryOnly(sources.data);
  return (
    <Page
      title="Trefoil"
      heading={<h1>Home</h1>}
      time={false}
      testid="page-home"
      tools={
        <Button icon="plus" pressed={first ? undefined : showSnippets} onClick={() => setShowSnippets(!showSnippets)} testid="send-data">
          Send data
        </Button>
      }
    >
      <div class={css["grid"]}>
        {SIGNALS.map((signal) => (
          <Signal key={signal.id} signal={signal} />
        ))}
        {(first || showSnippets) && <FirstRun first={first} />}
        <FiringAlerts />
        <Targets />
        <Services />
        <LatestErrors />
      </div>
    </Page>
  );
}

function Signal({ signal }: { signal: (typeof SIGNALS)[number] }) {
  const href = useHref();
  const { data, error, loading } = useData(
    ["signal", signal.id],
    (abort) => {
      const now = Math.floor(Date.now() / 15_000) * 15_000;
      return queryRange(signal.expr, { from: unixMs(now - WINDOW_MS), to: unixMs(now + 15_000) }, durationMs(15_000), abort);
    },
    { everyMs: LIVE_MS },
  );
  const points = useMemo(() => data?.series[0]?.points.map(([, value]) => value) ?? [], [data]);
  const last = points[points.length - 1] ?? null;
  return (
    <Link class={css["signal"]} href={href(signal.path)} data-testid={`signal-${signal.id}`}>
      <header>
        <Icon name={signal.icon} size={15} />
        {signal.name}
      </header>
      <Sparkline points={points} color={signal.color} class={css["spark"]} />
      {loading ? (
        <strong class="faint">…</strong>
      ) : error ? (
        <strong title={error.message}>
          – <small>{error.message.slice(0, 60)}</small>
        </strong>
      ) : (
        <strong>
          <span data-testid={`signal-${signal.id}-value`}>{last === null ? "0" : formatValue(last, "short")}</span>
          <small>{signal.unit}</small>
        </strong>
      )}
    </Link>
  );
}

function FiringAlerts() {
  const href = useHref();
  const { data, error, loading, retry } = useData(["alerts"], alerts, { everyMs: LIVE_MS });
  const shown = (data ?? []).filter((a) => a.state !== "inactive").sort((a, b) => (a.state === b.state ? 0 : a.state === "firing" ? -1 : 1));
  const firing = shown.filter((a) => a.state === "firing").length;
  return (
    <Card
      class={css["third"]}
      testid="home-alerts"
      title="Alerts"
      aside={
        <>
          {data && (firing > 0 ? <Badge tone="bad" testid="home-alerts-firing">{firing} firing</Badge> : <Badge tone="ok" testid="home-alerts-firing">none firing</Badge>)}
          <Link class="link" href={href("/alerts")}>
            All
          </Link>
        </>
      }
    >
      {loading && <Skeleton />}
      {error && <ErrorNotice error={error} retry={retry} />}
      {data && shown.length === 0 && !error && (
        <Empty icon="check" title="Nothing is firing">
          Rules that fire show here at once.
        </Empty>
      )}
      <ul class={css["list"]}>
        {shown.slice(0, 20).map((alert, index) => {
          const since = readTime(alert.activeAt);
          return (
            <li class={css["item"]} key={index} data-testid="home-alert">
              <ColorDot color={alert.state === "firing" ? "var(--bad)" : "var(--warn)"} />
              <div class={css["name"]}>
                <div class="cut">
                  <b>{alert.labels["alertname"] ?? "alert"}</b> <span class="muted">{alert.annotations["summary"] ?? ""}</span>
                </div>
                <LabelList labels={alert.labels} hide={["alertname"]} />
              </div>
              <span class="faint num">{since ? formatAgo(durationMs(Date.now() - since)) : alert.state}</span>
            </li>
          );
        })}
      </ul>
    </Card>
  );
}

function Targets() {
  const href = useHref();
  const { data, error, loading, retry } = useData(["targets"], targets, { everyMs: LIVE_MS });
  const up = (data ?? []).filter((t) => t.health === "up").length;
  const total = data?.length ?? 0;
  const sorted = [...(data ?? [])].sort((a, b) => (a.health === b.health ? 0 : a.health === "down" ? -1 : 1));
  return (
    <Card
      class={css["third"]}
      testid="home-targets"
      title="Targets"
      aside={
        <>
          {data && total > 0 && (
            <Badge tone={up === total ? "ok" : "bad"} testid="home-targets-up">
              {up} of {total} up
            </Badge>
          )}
          <Link class="link" href={href("/status")}>
            All
          </Link>
        </>
      }
    >
      {loading && <Skeleton />}
      {error && <ErrorNotice error={error} retry={retry} />}
      {data && total === 0 && (
        <Empty icon="status" title="No scrape targets">
          Add scrape_configs to the configuration, or push with OpenTelemetry or remote write.
        </Empty>
      )}
      <ul class={css["list"]}>
        {sorted.slice(0, 50).map((target, index) => (
          <li class={css["item"]} key={`${target.scrapeUrl} ${index}`} data-testid="home-target" title={target.lastError}>
            <ColorDot color={target.health === "up" ? "var(--ok)" : target.health === "down" ? "var(--bad)" : "var(--faint)"} />
            <span class={`${css["name"]} cut`}>
              <b>{target.labels["job"] ?? target.scrapePool}</b> <span class="muted">{target.labels["instance"] ?? target.scrapeUrl}</span>
            </span>
            <span class="faint">{target.health === "up" ? formatValue(target.lastScrapeDuration, "s") : target.health}</span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Services() {
  const href = useHref();
  const { data, error, loading, retry } = useData(["services"], services, { everyMs: 15_000 });
  return (
    <Card
      class={css["third"]}
      testid="home-services"
      title="Services in traces"
      aside={
        <Link class="link" href={href("/traces")}>
          Search traces
        </Link>
      }
    >
      {loading && <Skeleton />}
      {error && <ErrorNotice error={error} retry={retry} />}
      {data?.length === 0 && (
        <Empty icon="traces" title="No traces yet">
          Services appear here with their first span.
        </Empty>
      )}
      <div class={css["list"]}>
        {data?.map((name) => (
          <Link class={css["item"]} key={name} href={href("/traces", { service: name })} data-testid="home-service">
            <ColorDot color={seriesVar(colorIndex(name))} />
            <span class={`${css["name"]} cut`}>{name}</span>
            <Icon name="right" size={13} class="faint" />
          </Link>
        ))}
      </div>
    </Card>
  );
}

const ERRORS = '{service_name=~".+"} | detected_level=~"error|critical|fatal"';

/** The newest lines that say something failed. */
function LatestErrors() {
  const href = useHref();
  const { data, error, loading, retry } = useData(
    ["latest-errors"],
    (signal) => {
      const now = unixMs(Date.now());
      return queryLines({ query: ERRORS, start: msToNs(unixMs(now - 3_600_000)), end: msToNs(now), limit: 50 }, signal);
    },
    { everyMs: 10_000 },
  );
  const shown = data?.lines ?? [];
  return (
    <Card
      class={css["full"]}
      testid="home-errors"
      title="Latest errors in logs"
      aside={
        <Link class="link" href={href("/logs", { q: ERRORS })}>
          All
        </Link>
      }
    >
      {loading && <Skeleton />}
      {error && <ErrorNotice error={error} query={ERRORS} retry={retry} />}
      {data && !error && shown.length === 0 && (
        <Empty icon="check" title="No errors in the last hour">
          Log lines of level error or worse show here.
        </Empty>
      )}
      {shown.length > 0 && !error && (
        <div class={css["lines"]} style={{ height: `${Math.min(300, shown.length * LOG_ROW + 4)}px` }}>
          <LogList lines={shown} label="Latest errors" />
        </div>
      )}
    </Card>
  );
}

function FirstRun({ first }: { first: boolean }) {
  const groups = snippets(new URL(document.baseURI));
  const [way, setWay] = useState(groups[0]?.id ?? "otel");
  const shown: SnippetGroup | undefined = groups.find((group) => group.id === way);
  return (
    <Card class={`${css["full"]} ${css["first"]}`} testid="first-run">
      <header>
        <div>
          <h2>{first ? "Ready for your data" : "Send data to this server"}</h2>
          <p class="muted">
            {first ? "So far only Trefoil's own telemetry is here. The counters above move as soon as yours arrives." : "Copy a snippet; this server's address is already in it."}
          </p>
        </div>
        <Segmented label="How to send" value={way} onChange={setWay} testid="first-run-way" options={groups.map((group) => ({ value: group.id, label: group.name }))} />
      </header>
      <div class={css["steps"]}>
        {shown?.snippets.map((snippet) => (
          <div key={snippet.title}>
            <h3>{snippet.title}</h3>
            <Code text={snippet.text} testid="snippet" />
          </div>
        ))}
      </div>
    </Card>
  );
}
