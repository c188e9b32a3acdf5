// Log lines, one row each; a row opens to all it carries and leads to its trace.
import { useMemo, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { nsToMs } from "../../lib/brand";
import type { Labels } from "../../lib/labels";
import { lineKey, type LogLine } from "../../lib/logs/lines";
import { tracePeek } from "../../lib/peek";
import { formatClock, formatDateTime } from "../../lib/time/range";
import { useHref, useUrl } from "../../state/url";
import { Icon } from "../kit/icon";
import { Button, CopyButton } from "../kit/kit";
import { Windowed } from "../kit/windowed";
import { LinesAround } from "./around";
import css from "./log-list.module.css";

export type LabelKind = "stream" | "metadata" | "parsed";

interface Props {
  readonly lines: readonly LogLine[];
  readonly label: string;
  readonly footer?: preact.ComponentChildren;
  readonly onFilter?: (kind: LabelKind, key: string, op: "=" | "!=", value: string) => void;
  readonly onNearEnd?: () => void;
  readonly showTrace?: boolean;
  readonly showDate?: boolean;
}

export const LOG_ROW = 24;
const CUT = 600; // characters of a line drawn in its row

const sourceOf = (line: LogLine): string => line.labels["service_name"] ?? line.labels["job"] ?? line.labels["app"] ?? "";

export function LogList({ lines, label, footer, onFilter, onNearEnd, showTrace = true, showDate = false }: Props) {
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const [focus, setFocus] = useState(-1);
  const { set } = useUrl();
  const keys = useMemo(() => {
    const seen = new Map<string, number>();
    return lines.map((line) => {
      const key = lineKey(line);
      const count = seen.get(key) ?? 0;
      seen.set(key, count + 1);
      return count ? `${key}#${count}` : key;
    });
  }, [lines]);
  const opened = useMemo(() => {
    const map = new Map<number, string>();
    if (open.size > 0) keys.forEach((key, index) => open.has(key) && map.set(index, key));
    return map;
  }, [open, keys]);
  const severalSources = useMemo(() => new Set(lines.slice(0, 500).map(sourceOf)).size > 1, [lines]);

  const toggle = (index: number): void => {
    const key = keys[index];
    if (key === undefined) return;
    setOpen((old) => {
      const next = new Set(old);
      if (!next.delete(key)) next.add(key);
      return next;
    });
  };
  const peek = (line: LogLine): void => set({ peek: line.traceId && tracePeek(line.traceId, line.spanId) });

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget) return;
    const move = event.key === "ArrowDown" || event.key === "j" ? 1 : event.key === "ArrowUp" || event.key === "k" ? -1 : 0;
    if (move !== 0) {
      event.preventDefault();
      setFocus(Math.max(0, Math.min(lines.length - 1, focus + move)));
    } else if ((event.key === "Enter" || event.key === "x") && focus >= 0) {
      event.preventDefault();
      toggle(focus);
    } else if (event.key === "o" && lines[focus]?.traceId) {
      event.preventDefault();
      peek(lines[focus] as LogLine);
    }
  };

  const row = (index: number) => {
    const line = lines[index];
    if (!line) return null;
    const at = nsToMs(line.ns);
    return (
      <div
        key={keys[index]}
        class={css["row"]}
        role="listitem"
        data-testid="log-row"
        data-open={opened.has(index)}
        data-focus={index === focus}
        style={{ "--level": `var(--level-${line.level})` }}
        onClick={() => {
          if (window.getSelection()?.toString()) return; // selecting text is not a click
          setFocus(index);
          toggle(index);
        }}
      >
        <span class={css["twist"]}>
          <Icon name={opened.has(index) ? "down" : "right"} size={12} />
        </span>
        <time class={css["time"]} dateTime={new Date(at).toISOString()} title={formatDateTime(at, true)}>
          {showDate ? formatDateTime(at, true).slice(5) : formatClock(at, true)}
        </time>
        <span class={css["level"]}>{line.level === "unknown" ? "" : line.level.slice(0, 5)}</span>
        {severalSources && <span class={`${css["source"]} cut`}>{sourceOf(line)}</span>}
        <span class={css["text"]} data-testid="log-text">
          {line.text.slice(0, CUT).replace(/[\r\n]+/g, " ⏎ ")}
        </span>
        {showTrace && line.traceId && (
          <button
            type="button"
            class={css["trace"]}
            data-testid="log-trace"
            aria-label={`Open trace ${line.traceId}`}
            onClick={(event) => {
              event.stopPropagation();
              peek(line);
            }}
          >
            <Icon name="traces" size={11} /> trace
          </button>
        )}
      </div>
    );
  };

  return (
    <Windowed
      class={css["list"]}
      label={label}
      testid="log-list"
      count={lines.length}
      rowHeight={LOG_ROW}
      row={row}
      opened={opened}
      reveal={focus}
      onKeyDown={onKeyDown}
      extra={(index) => {
        const line = lines[index];
        return line ? <LineDetail line={line} onFilter={onFilter} onPeek={showTrace ? () => peek(line) : undefined} /> : null;
      }}
      footer={footer}
      {...(onNearEnd ? { onNearEnd } : {})}
    />
  );
}

/** JSON text is laid out over lines; everything else stays as it is. */
export function pretty(text: string): string {
  if (!/^\s*[[{]/.test(text) || text.length > 100_000) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function LineDetail({ line, onFilter, onPeek }: { line: LogLine; onFilter: Props["onFilter"]; onPeek: (() => void) | undefined }) {
  const href = useHref();
  const [isAround, setIsAround] = useState(false);
  const groups: readonly { kind: LabelKind; name: string; labels: Labels }[] = [
    { kind: "stream", name: "Stream labels", labels: line.labels },
    { kind: "metadata", name: "Attributes", labels: line.metadata },
    { kind: "parsed", name: "Parsed fields", labels: line.parsed },
  ];
  return (
    <div class={css["detail"]} data-testid="log-detail" style={{ "--level": `var(--level-${line.level})` }}>
      <div class={css["actions"]}>
        <span class="muted num">{formatDateTime(nsToMs(line.ns), true)}</span>
        {line.traceId && onPeek && (
          <Button small icon="traces" onClick={onPeek} testid="log-detail-trace">
            Trace {line.traceId.slice(0, 8)}
          </Button>
        )}
        {line.traceId && (
          <Link class="link" href={href(`/trace/${line.traceId}`, { span: line.spanId })} data-testid="log-trace-link">
            Open as a page
          </Link>
        )}
        <Button small icon="logs" expanded={isAround} onClick={() => setIsAround(!isAround)} testid="log-detail-around">
          Lines around
        </Button>
        <CopyButton text={line.text} label="Copy the line" />
      </div>
      <pre class={css["full"]}>{pretty(line.text)}</pre>
      <div class={css["groups"]}>
        {groups.map(({ kind, name, labels }) => {
          const names = Object.keys(labels).sort();
          if (names.length === 0) return null;
          return (
            <section key={kind}>
              <h3>{name}</h3>
              <dl>
                {names.map((key) => (
                  <div class={css["pair"]} key={key}>
                    <dt class="cut" title={key}>
                      {key}
                    </dt>
                    <dd>
                      <span>{labels[key]}</span>
                      {onFilter && (
                        <>
                        <Button small kind="ghost" icon="plus" label={`Only where ${key} is this`} testid="log-filter-in" onClick={() => onFilter(kind, key, "=", labels[key] ?? "")} />
                        <Button small kind="ghost" icon="minus" label={`Without ${key} of this value`} testid="log-filter-out" onClick={() => onFilter(kind, key, "!=", labels[key] ?? "")} />
                        </>
                      )}
                    </dd>
                  </div>
                ))}
              </dl>
            </section>
          );
        })}
      </div>
      {isAround && <LinesAround line={line} />}
    </div>
  );
}
