// The shapes of the lines of a query, and which of them were not there before.
import { useState } from "preact/hooks";
import { patterns, type Pattern } from "../../api/logs";
import { unixMs } from "../../lib/brand";
import { formatCount } from "../../lib/format";
import { formatDateTime, type TimeRange } from "../../lib/time/range";
import { useData } from "../../state/data";
import { useTime } from "../../state/time";
import { Button, Empty, ErrorNotice, Segmented, Skeleton } from "../kit/kit";
import css from "./patterns.module.css";

const HOUR = 3_600_000;
const SHOW = [
  { value: "all", label: "All" },
  { value: "1", label: "New in the last hour" },
  { value: "24", label: "New in the last day" },
] as const;
type Show = (typeof SHOW)[number]["value"];

interface Props {
  readonly query: string;
  readonly onFilter: (stage: "|>" | "!>", pattern: string) => void;
}

export function PatternList({ query, onFilter }: Props) {
  const { range, tick } = useTime();
  const [show, setShow] = useState<Show>("all");
  return (
    <div class={css["patterns"]} data-testid="log-patterns">
      <div class={css["tools"]}>
        <Segmented label="Patterns" value={show} options={SHOW} onChange={setShow} testid="log-patterns-show" />
        <span class="muted">Text that lines have in common; &lt;_&gt; stands where they differ.</span>
      </div>
      <Found key={show} query={query} range={range} tick={tick} show={show} onFilter={onFilter} />
    </div>
  );
}

function Found({ query, range, tick, show, onFilter }: Props & { range: TimeRange; tick: number; show: Show }) {
  const since = show === "all" ? undefined : unixMs(range.to - Number(show) * HOUR);
  const { data, error, loading, retry } = useData(["log-patterns", query, range.from, range.to, show, tick], (signal) => patterns(query, range, since, signal));
  if (loading) return <Skeleton lines={8} />;
  if (error) return <ErrorNotice error={error} query={query} retry={retry} />;
  if (!data || data.length === 0)
    return (
      <Empty icon="logs" title={show === "all" ? "No line in this range" : "Nothing new"}>
        {show === "all" ? "There is nothing to find shapes in." : "Every line has a shape that lines of the day before had too."}
      </Empty>
    );
  return (
    <table>
      <thead>
        <tr>
          <th class="num">Lines</th>
          <th>Level</th>
          <th>Pattern</th>
          <th>First seen</th>
          <th>Last seen</th>
          <th />
        </tr>
      </thead>
      <tbody>
        {data.map((pattern) => (
          <Row key={`${pattern.level} ${pattern.pattern}`} pattern={pattern} onFilter={onFilter} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ pattern, onFilter }: { pattern: Pattern; onFilter: Props["onFilter"] }) {
  return (
    <tr data-testid="log-pattern" style={{ "--level": `var(--level-${pattern.level})` }}>
      <td class="num">{formatCount(pattern.count)}</td>
      <td class={css["level"]}>{pattern.level === "unknown" ? "" : pattern.level}</td>
      <td class={css["text"]}>{pattern.pattern}</td>
      <td class={css["time"]}>{formatDateTime(pattern.firstSeen)}</td>
      <td class={css["time"]}>{formatDateTime(pattern.lastSeen)}</td>
      <td class={css["actions"]}>
        <Button small kind="ghost" icon="plus" label="Only lines of this shape" testid="log-pattern-in" onClick={() => onFilter("|>", pattern.pattern)} />
        <Button small kind="ghost" icon="minus" label="Without lines of this shape" testid="log-pattern-out" onClick={() => onFilter("!>", pattern.pattern)} />
      </td>
    </tr>
  );
}
