// The dashboards there are.
import { useMemo, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { dashboards } from "../api/dashboards";
import { Page } from "../components/frame/page";
import { Icon } from "../components/kit/icon";
import { Badge, Card, Empty, ErrorNotice, Skeleton } from "../components/kit/kit";
import { slug } from "../lib/dashboard/slug";
import { useData } from "../state/data";
import { useHref, useUrl } from "../state/url";
import css from "./dashboards.module.css";

export function DashboardsPage() {
  const { data, error, loading, retry, busy } = useData(["dashboards"], dashboards);
  const { params, set } = useUrl();
  const href = useHref();
  const [text, setText] = useState("");
  const tag = params.get("tag") ?? "";
  const tags = useMemo(() => [...new Set((data ?? []).flatMap((d) => d.tags))].sort(), [data]);
  const shown = (data ?? [])
    .filter((d) => (!tag || d.tags.includes(tag)) && `${d.title} ${d.tags.join(" ")}`.toLowerCase().includes(text.toLowerCase()))
    .sort((a, b) => (a.title < b.title ? -1 : 1));
  return (
    <Page title="Dashboards" testid="page-dashboards" time={false} busy={busy}>
      <div class={css["tools"]}>
        <input value={text} placeholder="Search dashboards" aria-label="Search dashboards" data-focus="search" data-testid="dashboard-search" onInput={(event) => setText(event.currentTarget.value)} />
        {tags.map((name) => (
          <button type="button" key={name} class={css["tag"]} aria-pressed={name === tag} onClick={() => set({ tag: name === tag ? undefined : name })}>
            {name}
          </button>
        ))}
      </div>
      {error && <ErrorNotice error={error} retry={retry} />}
      <Card>
        {loading && <Skeleton lines={5} />}
        {data?.length === 0 && <Empty icon="dashboards" title="No dashboards">Put dashboard JSON files where the server's configuration says, and they show here.</Empty>}
        {data && data.length > 0 && shown.length === 0 && (
          <Empty icon="filter" title="Filtered away">
            None of {data.length} dashboards matches.
          </Empty>
        )}
        {shown.map((d) => (
          <Link class={css["row"]} key={d.uid} href={href(`/d/${encodeURIComponent(d.uid)}/${slug(d.title)}`)} data-testid="dashboard-row">
            <Icon name="dashboards" class="faint" />
            <span class="cut">{d.title || d.uid}</span>
            <span class={css["tags"]}>
              {d.tags.map((name) => (
                <Badge key={name}>{name}</Badge>
              ))}
            </span>
          </Link>
        ))}
      </Card>
    </Page>
  );
}
