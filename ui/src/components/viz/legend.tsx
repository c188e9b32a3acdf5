// The legend: click shows one series alone, click with Ctrl, Cmd or Shift takes one away.
import { formatValue } from "../../lib/format";
import { reduceSeries } from "../../lib/dashboard/reduce";
import type { ChartSeries } from "./time-series";
import css from "./viz.module.css";

/** The set of hidden keys after a click on `key`. */
export function toggleSeries(keys: readonly string[], hidden: ReadonlySet<string>, key: string, add: boolean): Set<string> {
  if (add) {
    const next = new Set(hidden);
    if (!next.delete(key)) next.add(key);
    return next.size === keys.length ? new Set() : next;
  }
  const alone = !hidden.has(key) && hidden.size === keys.length - 1;
  return alone ? new Set() : new Set(keys.filter((other) => other !== key));
}

interface Props {
  readonly series: readonly ChartSeries[];
  readonly hidden: ReadonlySet<string>;
  readonly onHidden: (hidden: Set<string>) => void;
  readonly unit: string;
  readonly decimals?: number | undefined;
  readonly calcs?: readonly ("mean" | "max" | "min" | "last")[];
}

export function Legend({ series, hidden, onHidden, unit, decimals, calcs = [] }: Props) {
  const keys = series.map((s) => s.key);
  const item = (s: ChartSeries) => (
    <button
      type="button"
      class={css["item"]}
      aria-pressed={!hidden.has(s.key)}
      title={s.label}
      data-testid="legend-item"
      onClick={(event) => onHidden(toggleSeries(keys, hidden, s.key, event.ctrlKey || event.metaKey || event.shiftKey))}
    >
      <i class={css["swatch"]} style={{ color: s.color }} />
      <span class="cut">{s.label || "value"}</span>
    </button>
  );
  if (calcs.length === 0) {
    return (
      <div class={`${css["legend"]} ${css["line"]}`} data-testid="legend">
        {series.map((s) => item(s))}
      </div>
    );
  }
  return (
    <div class={css["legend"]} data-testid="legend">
      <table>
        <thead>
          <tr>
            <th scope="col">Series</th>
            {calcs.map((calc) => (
              <th scope="col" key={calc}>
                {calc}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {series.map((s) => (
            <tr key={s.key}>
              <td>{item(s)}</td>
              {calcs.map((calc) => (
                <td key={calc}>{formatValue(reduceSeries(s.values, calc), unit, decimals)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
