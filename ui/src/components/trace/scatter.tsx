// Found traces by start and duration, on a log scale: outliers are seen before they are read.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { TraceSummary } from "../../api/jaeger";
import { durationUs, unixMs } from "../../lib/brand";
import { niceDecades, scatterPoints, type ScatterPoint } from "../../lib/trace/scatter";
import { formatDurationUs } from "../../lib/time/duration";
import { formatClock, type TimeRange } from "../../lib/time/range";
import { useTheme } from "../../state/theme";
import css from "./scatter.module.css";

const LEFT = 58;
const RIGHT = 14;
const TOP = 10;
const BOTTOM = 20;
const REACH = 14; // pixels within which the pointer takes a point

interface Props {
  readonly traces: readonly TraceSummary[];
  readonly range: TimeRange;
  readonly current: string;
  readonly onPick: (id: string) => void;
}

export function Scatter({ traces, range, current, onPick }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [over, setOver] = useState<ScatterPoint | undefined>();
  const theme = useTheme().resolved;
  const plot = useMemo(() => {
    const box = { width: Math.max(1, size.width - LEFT - RIGHT), height: Math.max(1, size.height - TOP - BOTTOM) };
    return scatterPoints(traces, range, box);
  }, [traces, range, size]);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setSize({ width: element.clientWidth, height: element.clientHeight }));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || size.width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    element.width = size.width * ratio;
    element.height = size.height * ratio;
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    context.font = `11px ${color("--font")}`;
    context.textBaseline = "middle";
    context.strokeStyle = color("--grid");
    context.fillStyle = color("--faint");
    context.textAlign = "right";
    for (const tick of niceDecades(plot.min, plot.max)) {
      const y = TOP + plot.y(tick);
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(size.width - RIGHT, y);
      context.stroke();
      context.fillText(formatDurationUs(durationUs(tick)), LEFT - 8, y);
    }
    context.textAlign = "center";
    const ticks = Math.max(2, Math.min(8, Math.floor(size.width / 150)));
    for (let n = 0; n <= ticks; n++) {
      const at = plot.from + ((plot.to - plot.from) * n) / ticks;
      const x = LEFT + ((size.width - LEFT - RIGHT) * n) / ticks;
      context.textAlign = n === ticks ? "right" : n === 0 ? "left" : "center";
      context.fillText(formatClock(unixMs(at)), x, size.height - 9);
    }
    for (const point of plot.points) {
      const chosen = current.startsWith(`trace:${point.trace.id}`) || point === over;
      context.beginPath();
      context.arc(LEFT + point.x, TOP + point.y, chosen ? 6 : Math.min(6, 2.5 + Math.log10(point.trace.spans + 1)), 0, Math.PI * 2);
      context.fillStyle = color(point.trace.errors > 0 ? "--bad" : "--series-1");
      context.globalAlpha = chosen ? 1 : 0.65;
      context.fill();
      context.globalAlpha = 1;
      if (chosen) {
        context.strokeStyle = color("--text");
        context.stroke();
      }
    }
  }, [plot, size, over, current, theme]);

  const nearest = (event: MouseEvent): ScatterPoint | undefined => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box) return undefined;
    const [x, y] = [event.clientX - box.left - LEFT, event.clientY - box.top - TOP];
    let best: ScatterPoint | undefined;
    let distance = REACH;
    for (const point of plot.points) {
      const d = Math.hypot(point.x - x, point.y - y);
      if (d < distance) [best, distance] = [point, d];
    }
    return best;
  };

  // The list below holds the same traces for keyboards and screen readers.
  return (
    <div
      class={css["scatter"]}
      data-over={over !== undefined}
      data-testid="trace-scatter"
      aria-hidden="true"
      onMouseMove={(event) => setOver(nearest(event))}
      onMouseLeave={() => setOver(undefined)}
      onClick={(event) => {
        const point = nearest(event);
        if (point) onPick(point.trace.id);
      }}
    >
      <canvas ref={canvas} />
      {over && (
        <div class={css["tip"]} style={over.x > size.width / 2 ? { right: `${size.width - LEFT - over.x + 10}px`, top: `${over.y}px` } : { left: `${LEFT + over.x + 10}px`, top: `${over.y}px` }}>
          <b>{formatDurationUs(over.trace.duration)}</b> {over.trace.rootName} <span class="muted">{over.trace.rootService}</span>
        </div>
      )}
    </div>
  );
}
