// Where each found trace stands in the plot of start against duration.
import type { TraceSummary } from "../../api/jaeger";
import type { TimeRange } from "../time/range";

export interface ScatterPoint {
  readonly trace: TraceSummary;
  readonly x: number; // pixels from the left
  readonly y: number; // pixels from the top
}

export interface ScatterPlot {
  readonly points: readonly ScatterPoint[];
  readonly from: number; // milliseconds
  readonly to: number;
  readonly min: number; // microseconds
  readonly max: number;
  /** The height of a duration, in pixels from the top. */
  y(us: number): number;
}

/** The time axis follows the traces when they fill less than a third of the range. */
export function scatterPoints(traces: readonly TraceSummary[], range: TimeRange, box: { width: number; height: number }): ScatterPlot {
  const starts = traces.map((t) => t.start / 1000);
  let from: number = range.from;
  let to: number = range.to;
  const [first, last] = [Math.min(...starts), Math.max(...starts)];
  if (traces.length > 1 && last - first < (to - from) / 3) {
    const pad = Math.max(1, (last - first) * 0.04);
    from = first - pad;
    to = last + pad;
  }
  const durations = traces.map((t) => Math.max(1, t.duration));
  const min = Math.min(...durations, 1e9) * 0.8;
  const max = Math.max(...durations, 1) * 1.25;
  const y = (us: number): number => box.height * (1 - (Math.log(Math.max(1, us)) - Math.log(min)) / (Math.log(max) - Math.log(min)));
  const points = traces.map((trace) => ({ trace, x: box.width * ((trace.start / 1000 - from) / Math.max(1, to - from)), y: y(trace.duration) }));
  return { points, from, to, min, max, y };
}

/** Round durations between two ends, in steps of 1, 3, 10, at most five of them. */
export function niceDecades(min: number, max: number): number[] {
  const ticks: number[] = [];
  for (let decade = 10 ** Math.floor(Math.log10(Math.max(1, min))); decade <= max; decade *= 10) {
    for (const factor of [1, 3]) if (decade * factor >= min && decade * factor <= max) ticks.push(decade * factor);
  }
  const every = Math.ceil(ticks.length / 5);
  return ticks.filter((_, index) => index % Math.max(1, every) === 0);
}
