// Alerts: what fires now, and every rule with its state and health.
import { useMemo, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { readTime, rules, type Alert, type Rule, type RuleGroup } from "../api/prometheus";
import { Page } from "../components/frame/page";
import { Icon } from "../components/kit/icon";
import { Badge, Card, Empty, ErrorNotice, LabelList, Segmented, Skeleton, type Tone } from "../components/kit/kit";
import { durationMs } from "../lib/brand";
import { formatValue } from "../lib/format";
import { formatAgo, formatDurationMs, promDuration } from "../lib/time/duration";
import { formatDateTime } from "../lib/time/range";
import { useData } from "../state/data";
import { useHref } from "../state/url";
import css from "./alerts.module.css";

type Show = "all" | "active" | "unhealthy";

const TONES: Record<string, Tone> = { firing: "bad", pending: "warn", inactive: "ok", ok: "ok", err: "bad" };

export function AlertsPage() {
  const { data, error, loading, retry } = useData(["rules"], rules, { everyMs: 5_000 });
  const [show, setShow] = useState<Show>("all");
  const [text, setText] = useState("");
  const active = useMemo(() => activeAlerts(data ?? []), [data]);
  const groups = useMemo(() => filterGroups(data ?? [], show, text), [data, show, text]);
  const count = (state: string): number => active.filter(({ alert }) => alert.state === state).length;
  return (
    <Page title="Alerts" testid="page-alerts" time={false}>
      <div class={css["page"]}>
        {error && <ErrorNotice error={error} retry={retry} />}
        {loading && (
          <Card>
            <Skeleton lines={8} />
          </Card>
        )}
        {data && !error && (
          <>
            <Card
              testid="active-alerts"
              title="Active now"
              aside={
                <>
                  <Badge tone={count("firing") ? "bad" : "ok"} testid="count-firing">
                    {count("firing")} firing
                  </Badge>
                  <Badge tone={count("pending") ? "warn" : "plain"} testid="count-pending">
                    {count("pending")} pending
                  </Badge>
                </>
              }
            >
              {active.length === 0 && (
                <Empty icon="check" title="Nothing is firing">
                  {data.length === 0 ? "There are no rules yet." : `${data.reduce((sum, g) => sum + g.rules.length, 0)} rules in ${data.length} groups are quiet.`}
                </Empty>
              )}
              {active.map(({ alert, rule }, index) => (
                <AlertLine key={index} alert={alert} rule={rule} />
              ))}
            </Card>
            <div class={css["tools"]}>
              <input value={text} placeholder="Search rules" aria-label="Search rules" data-focus="search" data-testid="rule-search" onInput={(event) => setText(event.currentTarget.value)} />
              <Segmented
                label="Which rules"
                value={show}
                onChange={setShow}
                testid="rule-show"
                options={[
                  { value: "all", label: "All rules" },
                  { value: "active", label: "Active" },
                  { value: "unhealthy", label: "Unhealthy" },
                ]}
              />
            </div>
            {data.length === 0 && (
              <Card>
                <Empty icon="alerts" title="No rules">
                  Name rule files under rule_files in the configuration; Prometheus rule files work as they are.
                </Empty>
              </Card>
            )}
            {data.length > 0 && groups.length === 0 && (
              <Card>
                <Empty icon="filter" title="Filtered away">
                  No rule passes this filter.
                </Empty>
              </Card>
            )}
            {groups.map((group) => (
              <Group key={`${group.file} ${group.name}`} group={group} />
            ))}
          </>
        )}
      </div>
    </Page>
  );
}

interface ActiveAlert {
  readonly alert: Alert;
  readonly rule: Rule;
}

function activeAlerts(groups: readonly RuleGroup[]): ActiveAlert[] {
  const order = (state: string): number => (state === "firing" ? 0 : 1);
  return groups
    .flatMap((group) => group.rules.flatMap((rule) => rule.alerts.map((alert) => ({ alert, rule }))))
    .filter(({ alert }) => alert.state === "firing" || alert.state === "pending")
    .sort((a, b) => order(a.alert.state) - order(b.alert.state) || (a.alert.activeAt < b.alert.activeAt ? 1 : -1));
}

function filterGroups(groups: readonly RuleGroup[], show: Show, text: string): RuleGroup[] {
  const want = text.trim().toLowerCase();
  const fits = (rule: Rule): boolean => {
    if (show === "active" && rule.state !== "firing" && rule.state !== "pending") return false;
    if (show === "unhealthy" && rule.health !== "err") return false;
    return want === "" || `${rule.name} ${rule.query} ${JSON.stringify(rule.labels)}`.toLowerCase().includes(want);
  };
  return groups.map((group) => ({ ...group, rules: group.rules.filter(fits) })).filter((group) => group.rules.length > 0);
}

function AlertLine({ alert, rule }: ActiveAlert) {
  const since = readTime(alert.activeAt);
  const href = useHref();
  const summary = alert.annotations["summary"] ?? alert.annotations["description"] ?? alert.annotations["message"] ?? "";
  return (
    <div class={css["alert"]} data-testid="alert-row" data-state={alert.state}>
      <span>
        <Badge tone={TONES[alert.state] ?? "plain"} dot>
          {alert.state}
        </Badge>
      </span>
      <div class={css["body"]}>
        <div>
          <Link class="link" href={href(rule.page, { q: rule.query })}>
            <b>{alert.labels["alertname"] ?? rule.name}</b>
          </Link>{" "}
          <span class="muted">{summary}</span>
        </div>
        <LabelList labels={alert.labels} hide={["alertname"]} />
      </div>
      <div class={css["side"]}>
        <b>{formatValue(Number(alert.value), "short")}</b>
        <br />
        <span title={since ? formatDateTime(since) : ""}>{since ? formatAgo(durationMs(Date.now() - since)) : ""}</span>
      </div>
    </div>
  );
}

function Group({ group }: { group: RuleGroup }) {
  return (
    <Card
      testid="rule-group"
      title={
        <span class={css["groupHead"]}>
          {group.name} <small class="mono">{group.file}</small>
        </span>
      }
      aside={
        <span class="faint num">
          every {promDuration(durationMs(group.interval * 1000))}
          {group.evaluationTime > 0 && `, took ${formatDurationMs(durationMs(group.evaluationTime * 1000))}`}
        </span>
      }
    >
      {group.rules.map((rule, index) => (
        <RuleLine key={`${rule.name} ${index}`} rule={rule} />
      ))}
    </Card>
  );
}

function RuleLine({ rule }: { rule: Rule }) {
  const href = useHref();
  const evaluated = readTime(rule.lastEvaluation);
  const recording = rule.type === "recording";
  const state = rule.health === "err" ? "err" : recording ? "ok" : rule.state || "inactive";
  return (
    <div class={css["rule"]} data-testid="rule-row" data-state={state} data-health={rule.health}>
      <span>
        <Badge tone={TONES[state] ?? "plain"} dot>
          {state === "err" ? "error" : recording ? "record" : state}
        </Badge>
      </span>
      <div class={css["body"]}>
        <div>
          <b>{rule.name}</b> {rule.duration > 0 && <span class="muted">for {promDuration(durationMs(rule.duration * 1000))}</span>}
        </div>
        <Link href={href(rule.page, { q: rule.query })} title={rule.page === "/logs" ? "Open in logs" : "Open in metrics"}>
          <code>{rule.query}</code>
        </Link>
        {rule.lastError && (
          <span class={css["error"]} data-testid="rule-error">
            <Icon name="error" size={12} /> {rule.lastError}
          </span>
        )}
        {Object.keys(rule.labels).length > 0 && <LabelList labels={rule.labels} />}
      </div>
      <div class={css["side"]}>
        {evaluated ? (
          <span title={formatDateTime(evaluated)}>
            evaluated {formatAgo(durationMs(Date.now() - evaluated))}
            <br />
            in {formatDurationMs(durationMs(rule.evaluationTime * 1000))}
          </span>
        ) : (
          "not evaluated yet"
        )}
      </div>
    </div>
  );
}
