// Traces: a search form and what it found.
import { useEffect, useMemo, useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { operations, searchTraces, services, type TraceSummary } from "../api/jaeger";
import { Page } from "../components/frame/page";
import { Badge, Button, Card, Empty, ErrorNotice, Notice, Skeleton } from "../components/kit/kit";
import { Scatter } from "../components/trace/scatter";
import { durationMs, usToMs } from "../lib/brand";
import { assignColors, seriesVar } from "../lib/colors";
import { tracePeek } from "../lib/peek";
import { formatAgo, formatDurationUs, parseDuration } from "../lib/time/duration";
import { formatDateTime } from "../lib/time/range";
import { parseTags, sortTraces, TRACE_ORDERS, type TraceOrder } from "../lib/trace/search";
import { useData } from "../state/data";
import { useTime } from "../state/time";
import { useHref, useUrl, type Patch } from "../state/url";
import css from "./traces.module.css";

const LIMITS = ["20", "50", "100", "200", "500"];

export function TracesPage() {
  const { params, set } = useUrl();
  const time = useTime();
  const { range, tick } = time;
  const known = useData(["services", tick], services);
  const service = params.get("service") ?? known.data?.find((name) => name !== "trefoil") ?? known.data?.[0] ?? "";
  const operation = params.get("operation") ?? "";
  const tagText = params.get("tags") ?? "";
  const minDuration = params.get("minDuration") ?? "";
  const maxDuration = params.get("maxDuration") ?? "";
  const limit = Number(params.get("limit") ?? "20") || 20;
  const tags = useMemo(() => parseTags(tagText) ?? {}, [tagText]);

  const answer = useData(
    ["traces", service, operation, tagText, minDuration, maxDuration, limit, range.from, range.to, tick],
    (signal) => searchTraces({ service, operation, tags, minDuration, maxDuration, limit }, range, signal),
    { enabled: service !== "" },
  );
  const filtered = Boolean(operation || tagText || minDuration || maxDuration);

  return (
    <Page title="Traces" testid="page-traces" busy={answer.busy}>
      <SearchForm key={params.toString()} services={known.data ?? []} service={service} onSearch={(patch) => (set(patch), time.refresh())} />
      {known.error && <ErrorNotice error={known.error} retry={known.retry} />}
      {answer.error && <ErrorNotice error={answer.error} retry={answer.retry} />}
      {(known.loading || answer.loading) && !answer.error && !known.error && (
        <Card>
          <Skeleton lines={10} />
        </Card>
      )}
      {known.data?.length === 0 && (
        <Card>
          <Empty icon="traces" title="No traces yet" actions={<HomeLink />}>
            No service has sent a span. Point an OpenTelemetry exporter at this server.
          </Empty>
        </Card>
      )}
      {answer.data && !answer.error && answer.data.length === 0 && (
        <Card>
          <Empty
            icon="traces"
            title={filtered ? "No trace passes these filters" : "No traces in this range"}
            actions={
              <>
                <Button onClick={() => time.setRaw({ from: "now-24h", to: "now" })} testid="empty-widen">
                  Look at the last 24 hours
                </Button>
                {filtered && (
                  <Button onClick={() => set({ operation: undefined, tags: undefined, minDuration: undefined, maxDuration: undefined })} testid="empty-unfilter">
                    Remove the filters
                  </Button>
                )}
              </>
            }
          >
            {service} between {formatDateTime(range.from)} and {formatDateTime(range.to)}.
          </Empty>
        </Card>
      )}
      {answer.data && answer.data.length > 0 && !answer.error && <Results traces={answer.data} limit={limit} />}
    </Page>
  );
}

function HomeLink() {
  const href = useHref();
  return (
    <Link class="link" href={href("/")}>
      How to send data
    </Link>
  );
}

function SearchForm({ services: names, service, onSearch }: { services: readonly string[]; service: string; onSearch: (patch: Patch) => void }) {
  const { params } = useUrl();
  const [, navigate] = useLocation();
  const href = useHref();
  const [chosen, setChosen] = useState(service);
  useEffect(() => setChosen(service), [service]);
  const [operation, setOperation] = useState(params.get("operation") ?? "");
  const [tags, setTags] = useState(params.get("tags") ?? "");
  const [min, setMin] = useState(params.get("minDuration") ?? "");
  const [max, setMax] = useState(params.get("maxDuration") ?? "");
  const [limit, setLimit] = useState(params.get("limit") ?? "20");
  const known = useData(["operations", chosen], (signal) => operations(chosen, signal), { enabled: chosen !== "" });

  const traceId = /^\s*([0-9a-f]{16}|[0-9a-f]{32})\s*$/i.exec(tags)?.[1]?.toLowerCase();
  const badTags = !traceId && parseTags(tags) === undefined;
  const badMin = min !== "" && parseDuration(min) === undefined;
  const badMax = max !== "" && parseDuration(max) === undefined;

  return (
    <form
      class={css["form"]}
      data-testid="trace-search"
      onSubmit={(event) => {
        event.preventDefault();
        if (traceId) navigate(href(`/trace/${traceId}`));
        else if (!badTags && !badMin && !badMax) onSearch({ service: chosen, operation, tags: tags.trim(), minDuration: min.trim(), maxDuration: max.trim(), limit: limit === "20" ? undefined : limit });
      }}
    >
      <label>
        Service
        <select
          value={chosen}
          data-testid="trace-service"
          onChange={(event) => {
            setChosen(event.currentTarget.value);
            setOperation("");
            onSearch({ service: event.currentTarget.value, operation: undefined });
          }}
        >
          {!names.includes(chosen) && <option value={chosen}>{chosen}</option>}
          {names.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Operation
        <select value={operation} data-testid="trace-operation" onChange={(event) => setOperation(event.currentTarget.value)}>
          <option value="">any</option>
          {operation && !known.data?.includes(operation) && <option value={operation}>{operation}</option>}
          {known.data?.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Tags, or a trace id
        <input value={tags} placeholder="error=true http.status_code=500" aria-invalid={badTags} spellcheck={false} data-testid="trace-tags" data-focus="search" onInput={(event) => setTags(event.currentTarget.value)} />
      </label>
      <label>
        At least
        <input value={min} placeholder="100ms" aria-invalid={badMin} data-testid="trace-min-duration" onInput={(event) => setMin(event.currentTarget.value)} />
      </label>
      <label>
        At most
        <input value={max} placeholder="2s" aria-invalid={badMax} data-testid="trace-max-duration" onInput={(event) => setMax(event.currentTarget.value)} />
      </label>
      <label>
        Limit
        <select value={limit} data-testid="trace-limit" onChange={(event) => setLimit(event.currentTarget.value)}>
          {[...new Set([...LIMITS, limit])].map((n) => (
            <option key={n} value={n}>
              {n}
            </option>
          ))}
        </select>
      </label>
      <Button type="submit" kind="primary" icon="search" testid="trace-search-run" disabled={badTags || badMin || badMax}>
        {traceId ? "Open" : "Search"}
      </Button>
    </form>
  );
}

function Results({ traces, limit }: { traces: readonly TraceSummary[]; limit: number }) {
  const { params, set } = useUrl();
  const { range } = useTime();
  const order = TRACE_ORDERS.find((o) => o === params.get("sort")) ?? "newest";
  const sorted = useMemo(() => sortTraces(traces, order), [traces, order]);
  const longest = Math.max(1, ...traces.map((t) => t.duration));
  const colors = useMemo(() => assignColors(traces.flatMap((t) => t.services.map((s) => s.name))), [traces]);
  const peek = params.get("peek") ?? "";
  const href = useHref();
  const failed = traces.filter((t) => t.errors > 0).length;
  return (
    <Card
      testid="trace-results"
      title={
        <span>
          <span data-testid="trace-count">{traces.length}</span> traces{failed > 0 && <span class="muted">, {failed} with errors</span>}
        </span>
      }
      aside={
        <label class={css["sort"]}>
          <span class="muted">Order</span>
          <select value={order} data-testid="trace-order" onChange={(event) => set({ sort: event.currentTarget.value === "newest" ? undefined : (event.currentTarget.value as TraceOrder) }, true)}>
            {TRACE_ORDERS.map((o) => (
              <option key={o} value={o}>
                {o}
              </option>
            ))}
          </select>
        </label>
      }
    >
      {traces.length >= limit && (
        <Notice tone="info" testid="partial">
          The limit of {limit} is reached; there may be more. Narrow the search or raise the limit.
        </Notice>
      )}
      <Scatter traces={traces} range={range} current={peek} onPick={(id) => set({ peek: tracePeek(id) })} />
      {sorted.map((t) => {
        const color = seriesVar(colors.get(t.rootService) ?? 0);
        const at = usToMs(t.start);
        return (
          <Link
            key={t.id}
            class={css["row"]}
            href={href(`/trace/${t.id}`)}
            data-testid="trace-row"
            data-trace={t.id}
            data-open={peek.startsWith(`trace:${t.id}`)}
            onClick={(event: MouseEvent) => {
              // A plain click looks into the trace beside the list; the link itself opens the page.
              if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
              event.preventDefault();
              set({ peek: tracePeek(t.id) });
            }}
          >
            <div class={css["name"]}>
              <div class="cut">
                <b>{t.rootName}</b> <span class="muted">{t.rootService}</span> <span class="faint mono">{t.id.slice(0, 8)}</span>
              </div>
              <div class={css["services"]}>
                {t.services.slice(0, 8).map((s) => (
                  <span key={s.name}>
                    <i style={{ color: seriesVar(colors.get(s.name) ?? 0) }} />
                    {s.name} {s.spans}
                  </span>
                ))}
                {t.services.length > 8 && <span>+{t.services.length - 8}</span>}
              </div>
            </div>
            <div class={css["duration"]} style={{ "--color": color }}>
              <div class={css["track"]}>
                <i style={{ width: `${(t.duration / longest) * 100}%` }} />
              </div>
              <b>{formatDurationUs(t.duration)}</b>
            </div>
            <div class={css["right"]}>
              {t.errors > 0 ? (
                <Badge tone="bad">
                  {t.errors} {t.errors === 1 ? "error" : "errors"}
                </Badge>
              ) : (
                `${t.spans} ${t.spans === 1 ? "span" : "spans"}`
              )}
            </div>
            <time class={css["when"]} dateTime={new Date(at).toISOString()} title={formatDateTime(at, true)}>
              {formatAgo(durationMs(Date.now() - at))}
            </time>
          </Link>
        );
      })}
    </Card>
  );
}
