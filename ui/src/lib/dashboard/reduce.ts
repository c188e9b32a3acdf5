// Reduces a series to the one number a stat, gauge or legend shows.

export type Points = readonly (number | null)[];

const present = (values: Points): number[] => values.filter((v): v is number => v !== null && !Number.isNaN(v));

export function reduceSeries(values: Points, calc: string): number | null {
  const real = present(values);
  const last = real[real.length - 1] ?? null;
  const sum = real.reduce((total, v) => total + v, 0);
  switch (calc) {
    case "last":
      return values[values.length - 1] ?? null;
    case "first":
    case "firstNotNull":
      return real[0] ?? null;
    case "min":
      return real.length ? real.reduce((a, b) => Math.min(a, b)) : null;
    case "max":
      return real.length ? real.reduce((a, b) => Math.max(a, b)) : null;
    case "mean":
    case "avg":
      return real.length ? sum / real.length : null;
    case "sum":
    case "total":
      return real.length ? sum : null;
    case "count":
      return values.length;
    case "range":
      return real.length ? Math.max(...real) - Math.min(...real) : null;
    case "diff":
    case "delta":
      return real.length ? (last ?? 0) - (real[0] ?? 0) : null;
    default:
      return last;
  }
}
