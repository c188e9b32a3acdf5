// The table panel: one row a series, its labels as columns, the last value at the end.
import { useMemo, useState } from "preact/hooks";
import type { Panel } from "../../lib/dashboard/model";
import { reduceSeries } from "../../lib/dashboard/reduce";
import { formatValue } from "../../lib/format";
import { Icon } from "../kit/icon";
import { denseTableClass, rightClass } from "../kit/kit";
import type { PanelData } from "./panel";

const ROWS = 500;

export function PanelTable({ panel, data }: { panel: Panel; data: PanelData }) {
  const [sort, setSort] = useState<{ column: string; down: boolean } | undefined>();
  const columns = useMemo(() => [...new Set(data.series.flatMap((s) => Object.keys(s.labels)))].filter((key) => key !== "__name__").sort(), [data]);
  const rows = useMemo(() => {
    const all = data.series.map((s, index) => ({ index, labels: s.labels, name: s.name, value: reduceSeries(s.points.map(([, v]) => v), panel.calc) }));
    if (!sort) return all;
    const sign = sort.down ? -1 : 1;
    return [...all].sort((a, b) =>
      sort.column === "" ? sign * ((a.value ?? Number.NEGATIVE_INFINITY) - (b.value ?? Number.NEGATIVE_INFINITY)) : sign * (a.labels[sort.column] ?? "").localeCompare(b.labels[sort.column] ?? "", "en", { numeric: true }),
    );
  }, [data, sort, panel.calc]);
  const head = (column: string, text: string) => (
    <th scope="col" key={column} class={column === "" ? rightClass : undefined} aria-sort={sort?.column === column ? (sort.down ? "descending" : "ascending") : undefined}>
      <button type="button" onClick={() => setSort(sort?.column === column ? { column, down: !sort.down } : { column, down: column === "" })}>
        {text} {sort?.column === column && <Icon name={sort.down ? "down" : "right"} size={10} />}
      </button>
    </th>
  );
  return (
    <table class={denseTableClass} data-testid="panel-table">
      <thead>
        <tr>
          {columns.length === 0 ? head("__series", "Series") : columns.map((column) => head(column, column))}
          {head("", "Value")}
        </tr>
      </thead>
      <tbody>
        {rows.slice(0, ROWS).map((row) => (
          <tr key={row.index}>
            {columns.length === 0 ? <td>{row.name}</td> : columns.map((column) => <td key={column}>{row.labels[column] ?? ""}</td>)}
            <td class={rightClass}>{formatValue(row.value, panel.unit || "short", panel.decimals)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
