// One trace on a page of its own.
import { Link } from "wouter-preact";
import { Page } from "../components/frame/page";
import { Icon } from "../components/kit/icon";
import { TraceView } from "../components/trace/trace-view";
import { useHref, useUrl } from "../state/url";

export function TracePage({ id }: { id: string }) {
  const { params } = useUrl();
  const href = useHref();
  return (
    <Page
      title={`Trace ${id.slice(0, 8)}`}
      testid="page-trace"
      time={false}
      flush
      heading={
        <>
          <Link class="muted" href={href("/traces")} aria-label="Back to traces">
            Traces
          </Link>
          <Icon name="right" size={12} class="faint" />
          <h1 class="mono" title={id}>
            {id}
          </h1>
        </>
      }
    >
      <TraceView key={id} traceId={id.toLowerCase()} spanId={params.get("span") ?? undefined} />
    </Page>
  );
}
