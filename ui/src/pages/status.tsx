// Status: what runs, what it scrapes, how it is configured.
import { useState } from "preact/hooks";
import { buildInfo, config, readTime, runtimeInfo, targets } from "../api/prometheus";
import { Page } from "../components/frame/page";
import { Badge, Button, Card, Code, Empty, ErrorNotice, LabelList, Segmented, Skeleton, tableClass } from "../components/kit/kit";
import { durationMs } from "../lib/brand";
import { formatValue } from "../lib/format";
import { formatAgo } from "../lib/time/duration";
import { authorization, signOut } from "../state/auth";
import { useData, type Loaded } from "../state/data";
import { StatusTabs } from "./status-tabs";
import css from "./status.module.css";

export function StatusPage() {
  const build = useData(["buildinfo"], buildInfo);
  const runtime = useData(["runtimeinfo"], runtimeInfo, { everyMs: 15_000 });
  const conf = useData(["config"], config);
  return (
    <Page
      title="Status"
      testid="page-status"
      time={false}
      tools={
        authorization() ? (
          <Button onClick={signOut} testid="sign-out">
            Sign out
          </Button>
        ) : undefined
      }
    >
      <div class={css["page"]}>
        <div class={css["wide"]}>
          <StatusTabs here="status" />
        </div>
        <Card title="Build" testid="status-build">
          <Facts loaded={build} />
        </Card>
        <Card title="Runtime" testid="status-runtime">
          <Facts loaded={runtime} />
        </Card>
        <Targets />
        <Card title="Configuration" class={css["wide"]} testid="status-config">
          <div class={css["config"]}>
            {conf.loading && <Skeleton lines={5} />}
            {conf.error && <ErrorNotice error={conf.error} retry={conf.retry} />}
            {conf.data !== undefined && !conf.error && (conf.data ? <Code text={conf.data} testid="config-yaml" /> : <Empty title="All defaults">No configuration file is in use.</Empty>)}
          </div>
        </Card>
      </div>
    </Page>
  );
}

const words = (name: string): string =>
  name
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .replace(/_/g, " ")
    .replace(/^./, (first) => first.toUpperCase());

function Facts({ loaded }: { loaded: Loaded<Record<string, string>> }) {
  if (loaded.loading) return <Skeleton lines={5} />;
  if (loaded.error) return <ErrorNotice error={loaded.error} retry={loaded.retry} />;
  return (
    <dl class={css["facts"]}>
      {Object.entries(loaded.data ?? {})
        .filter(([, value]) => value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{words(name)}</dt>
            <dd class="num">{value}</dd>
          </div>
        ))}
    </dl>
  );
}

function Targets() {
  const { data, error, loading, retry } = useData(["targets"], targets, { everyMs: 5_000 });
  const [show, setShow] = useState<"all" | "down">("all");
  const down = (data ?? []).filter((t) => t.health === "down");
  const shown = show === "down" ? down : [...(data ?? [])].sort((a, b) => (a.health === b.health ? 0 : a.health === "down" ? -1 : 1));
  return (
    <Card
      title="Scrape targets"
      class={css["wide"]}
      testid="status-targets"
      aside={
        <Segmented
          label="Which targets"
          value={show}
          onChange={setShow}
          testid="targets-show"
          options={[
            { value: "all", label: `All ${data?.length ?? ""}` },
            { value: "down", label: `Down ${down.length}` },
          ]}
        />
      }
    >
      {loading && <Skeleton lines={5} />}
      {error && <ErrorNotice error={error} retry={retry} />}
      {data && shown.length === 0 && !error && <Empty icon={show === "down" ? "check" : "status"} title={show === "down" ? "All targets are up" : "No scrape targets"} />}
      {shown.length > 0 && !error && (
        <div class={css["scroll"]}>
          <table class={tableClass} data-testid="targets-table">
            <thead>
              <tr>
                <th scope="col">State</th>
                <th scope="col">Endpoint</th>
                <th scope="col">Labels</th>
                <th scope="col">Last scrape</th>
                <th scope="col">Took</th>
                <th scope="col">Error</th>
              </tr>
            </thead>
            <tbody>
              {shown.slice(0, 500).map((target, index) => {
                const at = readTime(target.lastScrape);
                return (
                  <tr key={`${target.scrapeUrl} ${index}`} data-testid="target-row" data-health={target.health}>
                    <td>
                      <Badge tone={target.health === "up" ? "ok" : target.health === "down" ? "bad" : "plain"} dot>
                        {target.health}
                      </Badge>
                    </td>
                    <td>
                      <div>{target.scrapePool}</div>
                      <span class="muted mono">{target.scrapeUrl}</span>
                    </td>
                    <td>
                      <LabelList labels={target.labels} />
                    </td>
                    <td class="num">{at ? formatAgo(durationMs(Date.now() - at)) : "never"}</td>
                    <td class="num">{at ? formatValue(target.lastScrapeDuration, "s") : ""}</td>
                    <td class={css["error"]}>{target.lastError}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}
