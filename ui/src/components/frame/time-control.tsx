// The one time control: presets, typed ranges, zoom out, refresh and how often.
import { useEffect, useMemo, useState } from "preact/hooks";
import { unixMs } from "../../lib/brand";
import { describeRange, formatDateTime, isRelative, parseTime, PRESETS, REFRESH_CHOICES, shift, zoomOut } from "../../lib/time/range";
import { useKeys, type KeyAction } from "../../state/keys";
import { useTime } from "../../state/time";
import { Button, Popover } from "../kit/kit";
import css from "./frame.module.css";

export function TimeControl() {
  const time = useTime();
  const [open, setOpen] = useState(false);
  const [refreshOpen, setRefreshOpen] = useState(false);

  const keys = useMemo<KeyAction[]>(
    () => [
      { keys: "t", label: "Choose the time range", group: "Time", run: () => setOpen(true) },
      { keys: "r", label: "Refresh", group: "Time", run: () => time.refresh() },
      { keys: "z", label: "Zoom out", group: "Time", run: () => time.setRange(zoomOut(time.range)) },
      { keys: "[", label: "Earlier", group: "Time", run: () => time.setRange(shift(time.range, -1)) },
      { keys: "]", label: "Later", group: "Time", run: () => time.setRange(shift(time.range, 1)) },
    ],
    [time],
  );
  useKeys(keys);

  return (
    <div class={css["group"]} data-testid="time-control">
      <Popover
        open={open}
        onOpen={setOpen}
        label="Time range"
        trigger={(expanded, toggle) => (
          <Button icon="clock" expanded={expanded} onClick={toggle} testid="time-button">
            <span class="num" title={`${formatDateTime(time.range.from)} – ${formatDateTime(time.range.to)}`}>
              {describeRange(time.raw, time.range.to)}
            </span>
          </Button>
        )}
      >
        <RangeForm onDone={() => setOpen(false)} />
      </Popover>
      <span class={css["wide"]}>
        <Button icon="zoomout" label="Zoom out" onClick={() => time.setRange(zoomOut(time.range))} testid="time-zoom-out" />
      </span>
      <span>
        <Button icon="refresh" label="Refresh" onClick={time.refresh} testid="refresh" />
      </span>
      <Popover
        open={refreshOpen}
        onOpen={setRefreshOpen}
        label="Refresh by itself"
        trigger={(expanded, toggle) => (
          <Button label={time.refreshEvery ? `Refreshes every ${time.refreshEvery}` : "Refresh by itself"} expanded={expanded} onClick={toggle} testid="refresh-interval">
            {time.refreshEvery || "Off"}
          </Button>
        )}
      >
        <div class={css["choices"]}>
          {REFRESH_CHOICES.map((every) => (
            <button
              type="button"
              key={every}
              aria-pressed={every === time.refreshEvery}
              data-testid={`refresh-${every || "off"}`}
              onClick={() => {
                time.setRefresh(every);
                setRefreshOpen(false);
              }}
            >
              {every ? `Every ${every}` : "Off"}
            </button>
          ))}
        </div>
      </Popover>
    </div>
  );
}

function RangeForm({ onDone }: { onDone: () => void }) {
  const time = useTime();
  const shown = (text: string, at: number): string => (isRelative({ from: text, to: text }) ? text : formatDateTime(unixMs(at)));
  const [from, setFrom] = useState(shown(time.raw.from, time.range.from));
  const [to, setTo] = useState(shown(time.raw.to, time.range.to));
  const now = unixMs(Date.now());
  const fromAt = parseTime(from, now);
  const toAt = parseTime(to, now, true);
  const ordered = fromAt !== undefined && toAt !== undefined && fromAt < toAt;
  useEffect(() => {
    document.querySelector<HTMLInputElement>("[data-testid=time-from]")?.select();
  }, []);
  return (
    <div class={css["times"]}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!ordered) return;
          const raw = (text: string, at: number): string => (text.includes("now") ? text.trim() : `${at}`);
          time.setRaw({ from: raw(from, fromAt), to: raw(to, toAt) });
          onDone();
        }}
      >
        <label>
          From
          <input value={from} aria-invalid={fromAt === undefined} data-testid="time-from" spellcheck={false} onInput={(event) => setFrom(event.currentTarget.value)} />
        </label>
        <label>
          To
          <input value={to} aria-invalid={toAt === undefined} data-testid="time-to" spellcheck={false} onInput={(event) => setTo(event.currentTarget.value)} />
        </label>
        <Button type="submit" kind="primary" disabled={!ordered} testid="time-apply">
          Apply
        </Button>
        <p class="faint">
          <small>{fromAt !== undefined && toAt !== undefined && !ordered ? "From must be before to." : "now-1h, now/d, 2026-01-31 12:00, or milliseconds. Local time."}</small>
        </p>
      </form>
      <div class={css["choices"]}>
        {PRESETS.map((preset) => (
          <button
            type="button"
            key={preset.label}
            aria-pressed={preset.from === time.raw.from && preset.to === time.raw.to}
            data-testid={`time-preset-${preset.from}`}
            onClick={() => {
              time.setRaw(preset);
              onDone();
            }}
          >
            {preset.label}
          </button>
        ))}
      </div>
    </div>
  );
}
