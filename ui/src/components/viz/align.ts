// Series with their own timestamps brought onto one time axis, as the chart wants them.
import type { Series } from "../../api/prometheus";
import type { DurationMs } from "../../lib/brand";
import type { TimeRange } from "../../lib/time/range";

export interface Aligned {
  readonly times: readonly number[]; // Unix seconds
  readonly values: readonly (readonly (number | null)[])[]; // per series
}

/** All steps of the range are on the axis, so that a gap in the data is a gap in the line. */
export function align(series: readonly Series[], range: TimeRange, step: DurationMs): Aligned {
  const first = range.from / 1000;
  const width = step / 1000;
  const known = new Set<number>();
  for (const s of series) for (const [at] of s.points) known.add(at);
  if (known.size === 0) return { times: [], values: series.map(() => []) };
  const anchor = Math.min(...[...known].slice(0, 1), ...series.map((s) => s.points[0]?.[0] ?? Number.POSITIVE_INFINITY));
  const steps = Math.ceil((range.to / 1000 - first) / width);
  if (steps <= 12_000) {
    for (let at = anchor; at >= first - 1e-6; at -= width) known.add(round(at));
    for (let at = anchor; at <= range.to / 1000 + 1e-6; at += width) known.add(round(at));
  }
  const times = [...new Set([...known].map(round))].sort((a, b) => a - b);
  const index = new Map(times.map((at, position) => [at, position]));
  const values = series.map((s) => {
    const row = new Array<number | null>(times.length).fill(null);
    for (const [at, value] of s.points) {
      const position = index.get(round(at));
      if (position !== undefined) row[position] = Number.isFinite(value) ? value : null;
    }
    return row;
  });
  return { times, values };
}

const round = (at: number): number => Math.round(at * 1000) / 1000;
