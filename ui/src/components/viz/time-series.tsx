// Lines, areas and bars over time on uPlot. Knows nothing of the network: takes aligned series.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { unixMs } from "../../lib/brand";
import { formatValue } from "../../lib/format";
import { formatDateTime, type TimeRange } from "../../lib/time/range";
import { useLatest } from "../../state/data";
import { useTheme } from "../../state/theme";
import css from "./viz.module.css";

export interface ChartSeries {
  readonly key: string;
  readonly label: string;
  readonly values: readonly (number | null)[];
  readonly color: string; // may be a var(): resolved for the canvas
}

export interface ChartLine {
  readonly value: number;
  readonly color: string;
}

interface Props {
  readonly times: readonly number[]; // Unix seconds, ascending
  readonly series: readonly ChartSeries[];
  readonly range: TimeRange;
  readonly label: string;
  readonly unit?: string;
  readonly decimals?: number | undefined;
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  readonly stacked?: boolean;
  readonly bars?: boolean;
  readonly fill?: number; // 0..1
  readonly hidden?: ReadonlySet<string>;
  readonly lines?: readonly ChartLine[];
  readonly sync?: string;
  readonly compact?: boolean;
  readonly onZoom?: (range: TimeRange) => void;
}

const cssColor = (color: string, style: CSSStyleDeclaration): string => {
  const name = /^var\((--[\w-]+)\)$/.exec(color)?.[1];
  return name ? style.getPropertyValue(name).trim() || "#888888" : color;
};

/** `#rrggbb` with an alpha; other spellings are mixed by the browser. */
const faded = (color: string, alpha: number): string =>
  /^#[0-9a-f]{6}$/i.test(color) ? color + Math.round(alpha * 255).toString(16).padStart(2, "0") : `color-mix(in srgb, ${color} ${Math.round(alpha * 100)}%, transparent)`;

/** Sums each series with those below it, hidden ones left out. */
export function stack(series: readonly ChartSeries[], hidden: ReadonlySet<string>): (number | null)[][] {
  const sums: number[] = [];
  return series.map((s) => {
    if (hidden.has(s.key)) return s.values.map(() => null);
    return s.values.map((value, index) => {
      sums[index] = (sums[index] ?? 0) + (value ?? 0);
      return sums[index] ?? 0;
    });
  });
}

interface Hover {
  readonly index: number;
  readonly left: number;
  readonly top: number;
  readonly value: number; // of the pointer on the y axis
}

/** Units that scale by 1024: their axis steps by powers of two. */
const BINARY = /^(bytes|kbytes|mbytes|gbytes|bits|binBps|binbps)$/;
const POWERS_OF_TWO = Array.from({ length: 60 }, (_, exponent) => 2 ** exponent);

const NOTHING: ReadonlySet<string> = new Set();
const TOOLTIP_ROWS = 12;

export function TimeSeries(props: Props) {
  const { times, series, range, label, unit = "short", decimals, min, max, stacked = false, bars = false, fill = 0, hidden = NOTHING, lines, sync, compact = false } = props;
  const box = useRef<HTMLDivElement>(null);
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [hover, setHover] = useState<Hover | undefined>();
  const onZoom = useLatest(props.onZoom);
  const latestRange = useLatest(range);
  const theme = useTheme().resolved;

  const shown = useMemo(() => (stacked ? stack(series, hidden) : series.map((s) => s.values)), [series, stacked, hidden]);
  // Stacked series are drawn from the top sum down, so that each covers what is under it.
  const order = useMemo(() => (stacked ? [...series.keys()].reverse() : [...series.keys()]), [series, stacked]);
  const data = useMemo(
    () => [times as number[], ...order.map((index) => (shown[index] ?? []) as (number | null)[])] as uPlot.AlignedData,
    [times, shown, order],
  );
  const shape = `${series.map((s) => `${s.key}${s.color}`).join("|")} ${unit} ${decimals} ${min} ${max} ${stacked} ${bars} ${fill} ${compact} ${sync} ${theme} ${JSON.stringify(lines ?? [])}`;

  useLayoutEffect(() => {
    const host = holder.current;
    const outer = box.current;
    if (!host || !outer) return;
    const style = getComputedStyle(document.documentElement);
    const font = `11px ${style.getPropertyValue("--font").trim() || "sans-serif"}`;
    const gridColor = cssColor("var(--grid)", style);
    const axisColor = cssColor("var(--faint)", style);
    const barPaths = uPlot.paths.bars?.({ size: [0.82, 40], radius: 0 });
    const options: uPlot.Options = {
      width: Math.max(50, outer.clientWidth),
      height: Math.max(30, outer.clientHeight),
      padding: compact ? [8, 16, 0, 0] : [10, 16, 0, 0],
      legend: { show: false },
      cursor: {
        points: { size: 6, width: 1.5 },
        drag: { x: true, y: false, setScale: false },
        focus: { prox: 24 },
        ...(sync ? { sync: { key: sync, setSeries: false, scales: ["x", null] as [string, null] } } : {}),
      },
      scales: {
        x: { time: true, range: () => [latestRange.current.from / 1000, latestRange.current.to / 1000] },
        y: {
          range: (_self, low, high) => {
            if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return [min ?? 0, max ?? 1];
            const fromZero = bars || stacked || (low >= 0 && low < high * 0.5);
            const [a, b] = uPlot.rangeNum(fromZero ? Math.min(0, low) : low, high === low ? high + Math.abs(high || 1) * 0.1 : high, {
              min: { pad: fromZero ? 0 : 0.08, soft: 0, mode: 3 },
              max: { pad: 0.08, soft: 0, mode: high > 0 ? 0 : 3 },
            });
            return [min ?? a ?? 0, max ?? b ?? 1];
          },
        },
      },
      axes: [
        {
          stroke: axisColor,
          font,
          grid: { stroke: gridColor, width: 1 },
          ticks: { show: false },
          size: compact ? 20 : 26,
          gap: 4,
          space: 80,
          values: (_self, splits, _axis, _space, increment) => splits.map((at) => tickLabel(at, increment)),
        },
        {
          stroke: axisColor,
          font,
          grid: { stroke: gridColor, width: 1 },
          ticks: { show: false },
          gap: 6,
          space: compact ? 24 : 34,
          size: (self, values) => {
            const longest = (values ?? []).reduce((most, value) => Math.max(most, value?.length ?? 0), 0);
            self.ctx.font = font;
            return Math.max(30, longest * 6.4 + 14);
          },
          ...(BINARY.test(unit) ? { incrs: POWERS_OF_TWO } : {}),
          values: (_self, splits) => splits.map((value) => formatValue(value, unit)),
        },
      ],
      series: [
        {},
        ...order.map((index): uPlot.Series => {
          const s = series[index];
          const color = cssColor(s?.color ?? "var(--series-1)", style);
          const alpha = bars ? 0.85 : stacked ? Math.max(fill, 0.25) : fill;
          return {
            label: s?.label ?? "",
            stroke: color,
            width: bars ? 0 : 1.5,
            ...(alpha > 0 ? { fill: stacked && !bars ? solid(color, alpha, cssColor("var(--surface)", style)) : faded(color, alpha) } : {}),
            ...(bars && barPaths ? { paths: barPaths } : {}),
            points: { show: false },
            show: true,
          };
        }),
      ],
      hooks: {
        setCursor: [
          (self) => {
            const { idx, left, top } = self.cursor;
            if (idx === null || idx === undefined || left === undefined || left < 0) setHover(undefined);
            else setHover({ index: idx, left, top: top ?? 0, value: self.posToVal(top ?? 0, "y") });
          },
        ],
        setSelect: [
          (self) => {
            if (self.select.width > 4) {
              const from = unixMs(self.posToVal(self.select.left, "x") * 1000);
              const to = unixMs(self.posToVal(self.select.left + self.select.width, "x") * 1000);
              onZoom.current?.({ from, to });
            }
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
        draw: [
          (self) => {
            for (const line of lines ?? []) {
              const y = Math.round(self.valToPos(line.value, "y", true));
              if (y < self.bbox.top || y > self.bbox.top + self.bbox.height) continue;
              self.ctx.save();
              self.ctx.strokeStyle = cssColor(line.color, style);
              self.ctx.setLineDash([6, 4]);
              self.ctx.beginPath();
              self.ctx.moveTo(self.bbox.left, y);
              self.ctx.lineTo(self.bbox.left + self.bbox.width, y);
              self.ctx.stroke();
              self.ctx.restore();
            }
          },
        ],
      },
    };
    const chart = new uPlot(options, data, host);
    plot.current = chart;
    const observer = new ResizeObserver(() => {
      if (outer.clientWidth > 0) chart.setSize({ width: Math.max(50, outer.clientWidth), height: Math.max(30, outer.clientHeight) });
    });
    observer.observe(outer);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = undefined;
    };
    // `shape` stands for everything the options are made from.
  }, [shape]);

  useEffect(() => {
    const chart = plot.current;
    if (!chart) return;
    chart.batch(() => {
      order.forEach((index, at) => {
        const visible = !hidden.has(series[index]?.key ?? "");
        if (chart.series[at + 1]?.show !== visible) chart.setSeries(at + 1, { show: visible });
      });
      chart.setData(data);
    });
  }, [data, hidden, range.from, range.to]);

  return (
    <div class={css["chart"]} ref={box} role="img" aria-label={summary(label, series, unit)} data-testid="chart">
      <div class={css["canvas"]} ref={holder} />
      {hover && <Tooltip hover={hover} times={times} series={series} hidden={hidden} unit={unit} decimals={decimals} width={box.current?.clientWidth ?? 600} offset={plot.current ? plot.current.bbox.left / devicePixelRatio : 0} />}
    </div>
  );
}

/** What a reader without sight of the chart is told. */
function summary(label: string, series: readonly ChartSeries[], unit: string): string {
  const last = series.slice(0, 5).map((s) => `${s.label || "value"} ${formatValue([...s.values].reverse().find((v) => v !== null) ?? null, unit)}`);
  return `${label}: ${series.length} series${last.length ? `; last: ${last.join(", ")}` : ""}`;
}

/** A colour mixed with the background: a stack must not let what is under it shine through. */
function solid(color: string, alpha: number, over: string): string {
  const read = (hex: string): number[] => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  if (!/^#[0-9a-f]{6}$/i.test(color) || !/^#[0-9a-f]{6}$/i.test(over)) return color;
  const [a, b] = [read(color), read(over)];
  return `rgb(${a.map((channel, index) => Math.round(channel * alpha + (b[index] ?? 0) * (1 - alpha))).join(" ")})`;
}

function tickLabel(at: number, increment: number): string {
  const text = formatDateTime(unixMs(at * 1000));
  if (increment >= 86_400) return text.slice(5, 10);
  const clock = text.slice(11, increment < 60 ? 19 : 16);
  return clock === "00:00" ? text.slice(5, 10) : clock;
}

interface TooltipProps {
  hover: Hover;
  times: readonly number[];
  series: readonly ChartSeries[];
  hidden: ReadonlySet<string>;
  unit: string;
  decimals: number | undefined;
  width: number;
  offset: number;
}

function Tooltip({ hover, times, series, hidden, unit, decimals, width, offset }: TooltipProps) {
  const at = times[hover.index];
  if (at === undefined) return null;
  const rows = series
    .filter((s) => !hidden.has(s.key))
    .map((s) => ({ s, value: s.values[hover.index] ?? null }))
    .filter((row) => row.value !== null);
  if (rows.length === 0) return null;
  const nearest = rows.reduce((best, row) => (Math.abs((row.value ?? 0) - hover.value) < Math.abs((best.value ?? 0) - hover.value) ? row : best));
  const sorted = [...rows].sort((a, b) => (b.value ?? 0) - (a.value ?? 0));
  let top = sorted.slice(0, TOOLTIP_ROWS);
  if (!top.includes(nearest)) top = [...top.slice(0, -1), nearest];
  const left = offset + hover.left;
  const position = left > width / 2 ? { right: `${Math.round(width - left + 12)}px`, left: "auto" } : { left: `${Math.round(left + 12)}px` };
  return (
    <div class={css["tooltip"]} style={{ ...position, top: "8px" }} data-testid="tooltip">
      <time class="num">{formatDateTime(unixMs(at * 1000))}</time>
      {top.map((row) => (
        <div key={row.s.key} data-near={row === nearest && rows.length > 1}>
          <i class={css["swatch"]} style={{ color: row.s.color }} />
          <span class="cut">{row.s.label}</span>
          <b>{formatValue(row.value, unit, decimals)}</b>
        </div>
      ))}
      {sorted.length > top.length && <div class="muted">and {sorted.length - top.length} more</div>}
    </div>
  );
}
