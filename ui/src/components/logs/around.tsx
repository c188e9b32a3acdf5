// What happened around a line: in its stream, on its host, in its service or its trace.
import { useState } from "preact/hooks";
import { around } from "../../api/logs";
import { nsToMs } from "../../lib/brand";
import type { Labels } from "../../lib/labels";
import { lineKey, type LogLine } from "../../lib/logs/lines";
import { formatClock, formatDateTime } from "../../lib/time/range";
import { useData } from "../../state/data";
import { Button, ErrorNotice, Segmented, Skeleton } from "../kit/kit";
import css from "./around.module.css";

const STEP = 10;
const MAX = 200;
const HOST_KEYS = ["host", "host_name", "hostname", "instance", "node", "pod", "k8s_pod_name"];

interface Pivot {
  readonly value: string;
  readonly label: string;
  readonly labels: Labels;
}

/** What a line can be looked at beside. */
export function pivots(line: LogLine): Pivot[] {
  const known: Labels = { ...line.metadata, ...line.labels };
  const service = known["service_name"];
  const host = HOST_KEYS.find((key) => known[key]);
  return [
    { value: "stream", label: "Same stream", labels: line.labels },
    ...(service ? [{ value: "service", label: "Same service", labels: { service_name: service } }] : []),
    ...(host ? [{ value: "host", label: `Same ${host}`, labels: { [host]: known[host] ?? "" } }] : []),
    ...(line.metadata["trace_id"] ? [{ value: "trace", label: "Same trace", labels: { trace_id: line.metadata["trace_id"] } }] : []),
  ];
}

export function LinesAround({ line }: { line: LogLine }) {
  const choices = pivots(line);
  const [chosen, setChosen] = useState("stream");
  const [count, setCount] = useState(STEP);
  const pivot = choices.find((choice) => choice.value === chosen) ?? choices[0];
  const { data, error, loading, retry } = useData(["log-around", lineKey(line), pivot?.value, count], (signal) => around(line.ns, pivot?.labels ?? {}, count, signal));
  const key = `${line.ns}|${line.text}`;
  return (
    <section class={css["around"]} data-testid="log-around" aria-label="Lines around this one">
      <div class={css["tools"]}>
        <Segmented label="Lines of" value={pivot?.value ?? "stream"} options={choices} onChange={setChosen} testid="log-around-pivot" />
        {data?.more && count < MAX && (
          <Button small onClick={() => setCount(Math.min(MAX, count * 2))} testid="log-around-more">
            More lines
          </Button>
        )}
      </div>
      {loading && <Skeleton lines={4} />}
      {error && <ErrorNotice error={error} retry={retry} />}
      {data && !error && (
        <ol>
          {data.lines.map((one, index) => (
            <li key={index} data-testid="log-around-line" data-here={`${one.ns}|${one.text}` === key} style={{ "--level": `var(--level-${one.level})` }}>
              <time title={formatDateTime(nsToMs(one.ns), true)}>{formatClock(nsToMs(one.ns), true)}</time>
              <span class="cut">{one.text.slice(0, 600).replace(/[\r\n]+/g, " ⏎ ")}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
