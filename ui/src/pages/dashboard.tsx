// One dashboard: its variables, its rows, its panels on a grid of 24 columns.
import { useEffect, useMemo, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { dashboard } from "../api/dashboards";
import { labelNames, labelValues, queryInstant, series } from "../api/prometheus";
import { DashboardPanel } from "../components/dashboard/panel";
import { Page } from "../components/frame/page";
import { Icon } from "../components/kit/icon";
import { Button, Card, Empty, ErrorNotice, Popover, Skeleton } from "../components/kit/kit";
import { sections, type Dashboard, type Variable } from "../lib/dashboard/model";
import { ALL, chooseValue, filterOptions, interpolate, macros, parseVariableQuery, resultOption, sortOptions, staticOptions, type VariableValue, type VariableValues } from "../lib/dashboard/variables";
import { formatLabels } from "../lib/labels";
import type { TimeRange } from "../lib/time/range";
import { useData } from "../state/data";
import { useTime } from "../state/time";
import { useHref, useUrl } from "../state/url";
import css from "./dashboard.module.css";

export function DashboardPage({ uid }: { uid: string }) {
  const { data, error, loading, retry } = useData(["dashboard", uid], (signal) => dashboard(uid, signal), { keep: false });
  const href = useHref();
  const { params, set } = useUrl();

  // A dashboard opens with its own range unless the link says otherwise.
  useEffect(() => {
    if (!data || params.get("from") || !data.from) return;
    set({ from: data.from, to: data.to, refresh: params.get("refresh") ?? data.refresh }, true);
  }, [data]);

  return (
    <Page
      title={data?.title ?? "Dashboard"}
      testid="page-dashboard"
      heading={
        <>
          <Link class="muted" href={href("/dashboards")}>
            Dashboards
          </Link>
          <Icon name="right" size={12} class="faint" />
          <h1>{data?.title ?? uid}</h1>
        </>
      }
    >
      {loading && (
        <Card>
          <Skeleton lines={8} />
        </Card>
      )}
      {error?.status === 404 ? (
        <Empty icon="dashboards" title="There is no such dashboard" actions={<Link class="link" href={href("/dashboards")}>All dashboards</Link>}>
          Nothing has the uid {uid}.
        </Empty>
      ) : (
        error && <ErrorNotice error={error} retry={retry} />
      )}
      {data && <View dashboard={data} />}
    </Page>
  );
}

function View({ dashboard: d }: { dashboard: Dashboard }) {
  const { values, options, error, loading } = useVariables(d.variables);
  const parts = useMemo(() => sections(d), [d]);
  const [toggled, setToggled] = useState<ReadonlySet<number>>(new Set());
  if (d.panels.length === 0) return <Empty icon="dashboards" title="This dashboard has no panels" />;
  return (
    <>
      <VariableBar variables={d.variables} values={values} options={options} />
      {error && <ErrorNotice error={error} />}
      {loading ? (
        <Skeleton lines={6} />
      ) : (
        parts.map(({ row, panels }, index) => {
          const shut = row ? row.collapsed !== toggled.has(row.id) : false;
          return (
            <section key={row?.id ?? `top ${index}`} aria-label={row?.title}>
              {row && (
                <button
                  type="button"
                  class={css["rowHead"]}
                  aria-expanded={!shut}
                  data-testid="dashboard-section"
                  onClick={() =>
                    setToggled((old) => {
                      const next = new Set(old);
                      if (!next.delete(row.id)) next.add(row.id);
                      return next;
                    })
                  }
                >
                  <Icon name={shut ? "right" : "down"} size={14} />
                  {interpolate(row.title, values)} {shut && <span>{panels.length} panels</span>}
                </button>
              )}
              {!shut && panels.length > 0 && (
                <div class={css["grid"]}>
                  {panels.map((panel) => (
                    <DashboardPanel key={panel.id} panel={panel} variables={values} sync={`dashboard ${d.uid}`} />
                  ))}
                </div>
              )}
            </section>
          );
        })
      )}
    </>
  );
}

interface Resolved {
  readonly values: VariableValues;
  readonly options: ReadonlyMap<string, readonly string[]>;
}

/** Variables are resolved in order: a later one may use those before it. */
async function resolve(variables: readonly Variable[], chosen: URLSearchParams, range: TimeRange, signal: AbortSignal): Promise<Resolved> {
  const values = new Map<string, VariableValue>(macros(range, 300));
  const options = new Map<string, readonly string[]>();
  for (const variable of variables) {
    let found = staticOptions(variable);
    if (variable.type === "query") found = sortOptions(filterOptions(await queryOptions(interpolate(variable.query, values), range, signal), interpolate(variable.regex, values)), variable.sort);
    options.set(variable.name, found);
    values.set(variable.name, chooseValue(variable, found, chosen.getAll(`var-${variable.name}`)));
  }
  return { values, options };
}

async function queryOptions(query: string, range: TimeRange, signal: AbortSignal): Promise<string[]> {
  const parsed = parseVariableQuery(query);
  switch (parsed.kind) {
    case "label_values":
      return labelValues(parsed.label, parsed.selector, range, signal);
    case "label_names":
      return labelNames(signal);
    case "metrics": {
      const names = await labelValues("__name__", "", range, signal);
      return filterOptions(names, `/${parsed.regex.replace(/\//g, "\\/")}/`);
    }
    case "query_result": {
      const answer = await queryInstant(parsed.expr, range.to, signal);
      return answer.series.map((s) => resultOption(formatLabels(s.labels), `${s.points[0]?.[1] ?? ""}`, range.to));
    }
    case "series":
      return (await series(parsed.selector, range, signal)).map(formatLabels);
    default:
      return [];
  }
}

function useVariables(variables: readonly Variable[]) {
  const { params } = useUrl();
  const { range, tick } = useTime();
  const chosen = useMemo(() => {
    const only = new URLSearchParams();
    for (const [key, value] of params) if (key.startsWith("var-")) only.append(key, value);
    return only;
  }, [params]);
  const asks = variables.some((v) => v.type === "query");
  const answer = useData(["variables", variables, chosen.toString(), range.from, range.to, tick], (signal) => resolve(variables, chosen, range, signal), { enabled: asks });
  const fixed = useMemo<Resolved>(() => {
    const values = new Map<string, VariableValue>();
    const options = new Map<string, readonly string[]>();
    for (const variable of variables) {
      const found = staticOptions(variable);
      options.set(variable.name, found);
      values.set(variable.name, chooseValue(variable, found, chosen.getAll(`var-${variable.name}`)));
    }
    return { values, options };
  }, [variables, chosen]);
  const resolved = answer.data ?? fixed;
  return { ...resolved, error: answer.error, loading: asks && answer.loading };
}

function VariableBar({ variables, values, options }: { variables: readonly Variable[] } & Resolved) {
  const shown = variables.filter((v) => !v.hidden && v.type !== "datasource" && v.type !== "other" && v.type !== "constant");
  if (shown.length === 0) return null;
  return (
    <div class={css["vars"]} data-testid="variables">
      {shown.map((variable) => (
        <VariableControl key={variable.name} variable={variable} value={values.get(variable.name)} options={options.get(variable.name) ?? []} />
      ))}
    </div>
  );
}

function VariableControl({ variable, value, options }: { variable: Variable; value: VariableValue | undefined; options: readonly string[] }) {
  const { params, set } = useUrl();
  const [open, setOpen] = useState(false);
  const key = `var-${variable.name}`;
  const written = params.getAll(key);
  const all = variable.includeAll && (written.length > 0 ? written.includes(ALL) || written.includes("All") : (value?.values.length ?? 0) === options.length && value?.multi === true);
  const chosen = value?.values ?? [];

  if (variable.type === "textbox") {
    return (
      <label>
        {variable.label}
        <input value={chosen[0] ?? ""} data-testid={key} onChange={(event) => set({ [key]: event.currentTarget.value })} />
      </label>
    );
  }
  if (!variable.multi) {
    return (
      <label>
        {variable.label}
        <select value={all ? ALL : (chosen[0] ?? "")} data-testid={key} onChange={(event) => set({ [key]: event.currentTarget.value })}>
          {variable.includeAll && <option value={ALL}>All</option>}
          {[...new Set([...options, ...(all ? [] : chosen)])].map((option) => (
            <option key={option} value={option}>
              {option}
            </option>
          ))}
        </select>
      </label>
    );
  }
  const setMany = (next: readonly string[]): void => {
    // Several values are several parameters of one name, which `set` cannot write in one go.
    const search = new URLSearchParams(window.location.search);
    search.delete(key);
    for (const item of next) search.append(key, item);
    window.history.pushState(null, "", `${window.location.pathname}?${search}`);
  };
  const toggle = (option: string): void => {
    const now = all ? [] : chosen;
    const next = now.includes(option) ? now.filter((item) => item !== option) : [...now, option];
    setMany(next.length > 0 ? next : variable.includeAll ? [ALL] : []);
  };
  return (
    <label>
      {variable.label}
      <Popover
        start
        open={open}
        onOpen={setOpen}
        label={variable.label}
        trigger={(expanded, press) => (
          <Button expanded={expanded} onClick={press} testid={key}>
            <span class={`${css["choice"]} cut`}>{all ? "All" : chosen.join(" + ") || "None"}</span>
            <Icon name="down" size={12} />
          </Button>
        )}
      >
        <div class={css["options"]}>
          {variable.includeAll && (
            <label>
              <input type="checkbox" checked={all} onChange={() => setMany([ALL])} /> All
            </label>
          )}
          {options.slice(0, 1000).map((option) => (
            <label key={option}>
              <input type="checkbox" checked={!all && chosen.includes(option)} onChange={() => toggle(option)} /> {option}
            </label>
          ))}
        </div>
      </Popover>
    </label>
  );
}
