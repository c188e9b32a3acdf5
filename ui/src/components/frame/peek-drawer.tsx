// What one looks at without leaving the page: kept in the URL as `?peek=trace:<id>[:span:<id>]`.
import { lazy, Suspense } from "preact/compat";
import { useRef, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { useHref } from "../../state/url";
import { Icon } from "../kit/icon";
import { Button, Empty, Skeleton } from "../kit/kit";
import { parsePeek } from "../../lib/peek";
import css from "./frame.module.css";

const TraceView = lazy(() => import("../trace/trace-view").then((m) => ({ default: m.TraceView })));

export function PeekDrawer({ what, onClose }: { what: string; onClose: () => void }) {
  const peek = parsePeek(what);
  const href = useHref();
  const ref = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(52);

  const resize = (clientX: number): void => {
    const percent = ((window.innerWidth - clientX) / window.innerWidth) * 100;
    setWidth(Math.max(30, Math.min(80, percent)));
  };

  return (
    <aside class={css["drawer"]} ref={ref} style={{ width: `${width}%` }} aria-label="Details" data-testid="peek">
      <div
        class={css["grip"]}
        role="separator"
        aria-orientation="vertical"
        aria-label="Drawer width"
        aria-valuenow={Math.round(width)}
        tabIndex={0}
        onKeyDown={(event) => {
          if (event.key === "ArrowLeft") setWidth((w) => Math.min(80, w + 4));
          else if (event.key === "ArrowRight") setWidth((w) => Math.max(30, w - 4));
        }}
        onPointerDown={(event) => {
          const grip = event.currentTarget;
          grip.setPointerCapture(event.pointerId);
          grip.onpointermove = (move) => resize(move.clientX);
          grip.onpointerup = () => {
            grip.onpointermove = null;
          };
        }}
      />
      <header>
        <h2 class="cut">
          Trace <span class="mono muted">{peek?.traceId.slice(0, 16)}</span>
        </h2>
        {peek && (
          <Link class="link" href={href(`/trace/${peek.traceId}`, { span: peek.spanId })} data-testid="peek-open" aria-label="Open as a page" title="Open as a page">
            <Icon name="external" />
          </Link>
        )}
        <Button kind="ghost" icon="close" label="Close" onClick={onClose} testid="peek-close" />
      </header>
      <div class={css["content"]}>
        {peek ? (
          <Suspense fallback={<Skeleton lines={8} />}>
            <TraceView key={peek.traceId} traceId={peek.traceId} spanId={peek.spanId} compact />
          </Suspense>
        ) : (
          <Empty title="This link cannot be opened">It should be trace:id or trace:id:span:id.</Empty>
        )}
      </div>
    </aside>
  );
}
