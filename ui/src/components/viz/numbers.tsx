// One number at a time: stat, gauge, bar gauge, sparkline.
import type { Points } from "../../lib/dashboard/reduce";
import css from "./viz.module.css";

export interface NumberValue {
  readonly key: string;
  readonly label: string;
  readonly text: string;
  readonly value: number | null;
  readonly color: string;
  readonly points: Points;
}

/** A small area without axes; values are scaled to their own range, from zero when they are positive. */
export function Sparkline({ points, color, class: className }: { points: Points; color: string; class?: string | undefined }) {
  const real = points.filter((v): v is number => v !== null && Number.isFinite(v));
  if (real.length < 2) return null;
  const low = Math.min(0, ...real);
  const high = Math.max(...real, low + 1e-9);
  const x = (index: number): number => (index / (points.length - 1)) * 100;
  const y = (value: number): number => 38 - ((value - low) / (high - low)) * 34;
  let line = "";
  points.forEach((value, index) => {
    if (value !== null && Number.isFinite(value)) line += `${line ? "L" : "M"}${x(index).toFixed(2)} ${y(value).toFixed(2)}`;
  });
  const first = points.findIndex((v) => v !== null);
  const lastIndex = points.length - 1 - [...points].reverse().findIndex((v) => v !== null);
  return (
    <svg class={className ?? css["spark"]} viewBox="0 0 100 40" preserveAspectRatio="none" aria-hidden="true">
      <path d={`${line}L${x(lastIndex).toFixed(2)} 40L${x(first).toFixed(2)} 40Z`} fill={color} opacity="0.14" />
      <path d={line} fill="none" stroke={color} stroke-width="1.5" vector-effect="non-scaling-stroke" />
    </svg>
  );
}

export function Stats({ values, spark = true }: { values: readonly NumberValue[]; spark?: boolean }) {
  return (
    <div class={css["stats"]} style={{ "--rows": `${Math.ceil(values.length / 3)}` }}>
      {values.map((v) => (
        <div class={css["stat"]} key={v.key} data-testid="stat">
          {spark && <Sparkline points={v.points} color={v.color} />}
          <strong style={{ color: v.color }}>{v.text}</strong>
          {values.length > 1 && <span class="cut">{v.label}</span>}
        </div>
      ))}
    </div>
  );
}

interface Scale {
  readonly values: readonly NumberValue[];
  readonly min: number;
  readonly max: number;
}

const share = (value: number | null, min: number, max: number): number =>
  value === null || max <= min ? 0 : Math.max(0, Math.min(1, (value - min) / (max - min)));

/** A point on the gauge's arc; 0 is left, 1 is right, the gap is at the bottom. */
function onArc(part: number, radius: number): string {
  const angle = Math.PI * (1.17 - 1.34 * part);
  return `${(60 + radius * Math.cos(angle)).toFixed(2)} ${(58 - radius * Math.sin(angle)).toFixed(2)}`;
}

const arc = (to: number, radius: number): string => `M${onArc(0, radius)}A${radius} ${radius} 0 ${1.34 * to > 1 ? 1 : 0} 1 ${onArc(to, radius)}`;

export function Gauges({ values, min, max }: Scale) {
  return (
    <div class={css["stats"]}>
      {values.map((v) => (
        <div class={css["gauge"]} key={v.key} data-testid="gauge">
          <svg viewBox="0 0 120 86" role="img" aria-label={`${v.label}: ${v.text}`}>
            <path d={arc(1, 46)} fill="none" stroke="var(--border)" stroke-width="10" />
            {v.value !== null && share(v.value, min, max) > 0 && <path d={arc(share(v.value, min, max), 46)} fill="none" stroke={v.color} stroke-width="10" />}
            <text x="60" y="64" text-anchor="middle">
              {v.text}
            </text>
          </svg>
          {values.length > 1 && <span class="muted cut">{v.label}</span>}
        </div>
      ))}
    </div>
  );
}

export function BarGauges({ values, min, max }: Scale) {
  return (
    <div class={css["bars"]}>
      {values.map((v) => (
        <div class={css["bar"]} key={v.key} data-testid="bargauge">
          <div>
            <span class="cut" title={v.label}>
              {v.label}
            </span>
            <b style={{ color: v.color }}>{v.text}</b>
          </div>
          <div class={css["track"]}>
            <i style={{ width: `${share(v.value, min, max) * 100}%`, background: v.color }} />
          </div>
        </div>
      ))}
    </div>
  );
}
