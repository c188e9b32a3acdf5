// The whole trace in 52 pixels; dragging looks closer at a part of it.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Trace } from "../../lib/trace/tree";
import { useTheme } from "../../state/theme";
import css from "./trace-view.module.css";

/** Part of the trace shown, as shares of its duration. */
export interface Lens {
  readonly from: number;
  readonly to: number;
}

export const WHOLE: Lens = { from: 0, to: 1 };

interface Props {
  readonly trace: Trace;
  readonly colors: ReadonlyMap<string, number>;
  readonly lens: Lens;
  readonly onLens: (lens: Lens) => void;
}

export function Minimap({ trace, colors, lens, onLens }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [drag, setDrag] = useState<Lens | undefined>();
  const theme = useTheme().resolved;

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const draw = (): void => {
      const ratio = window.devicePixelRatio || 1;
      const { clientWidth: width, clientHeight: height } = element;
      element.width = width * ratio;
      element.height = height * ratio;
      const context = element.getContext("2d");
      if (!context) return;
      context.scale(ratio, ratio);
      const style = getComputedStyle(document.documentElement);
      const palette = new Map([...colors].map(([name, index]) => [name, style.getPropertyValue(`--series-${index + 1}`).trim()]));
      const bad = style.getPropertyValue("--bad").trim();
      const count = trace.spans.length;
      const rowHeight = Math.max(1, Math.min(4, (height - 8) / Math.max(1, count)));
      const length = Math.max(1, trace.duration);
      trace.spans.forEach((span, index) => {
        const y = 4 + (index / Math.max(1, count)) * (height - 8);
        const x = ((span.start - trace.start) / length) * width;
        context.fillStyle = span.error ? bad : (palette.get(span.service) ?? "gray");
        context.fillRect(x, y, Math.max(1, (span.duration / length) * width), rowHeight * 0.8);
      });
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [trace, colors, theme]);

  const at = (event: PointerEvent): number => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const shown = drag ? { from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) } : lens;
  const zoomed = shown.from > 0 || shown.to < 1;

  return (
    <div
      class={css["minimap"]}
      data-testid="minimap"
      aria-hidden="true"
      title="Drag to look closer, double-click to see all"
      onDblClick={() => onLens(WHOLE)}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        setDrag({ from: at(event), to: at(event) });
      }}
      onPointerMove={(event) => {
        if (drag) setDrag({ from: drag.from, to: at(event) });
      }}
      onPointerUp={() => {
        if (drag && Math.abs(drag.to - drag.from) > 0.005) onLens({ from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) });
        setDrag(undefined);
      }}
    >
      <canvas ref={canvas} />
      {zoomed && <div class={css["lens"]} style={{ left: `${shown.from * 100}%`, right: `${(1 - shown.to) * 100}%` }} />}
    </div>
  );
}
