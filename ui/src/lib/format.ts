// Values with their unit, in the unit ids Grafana dashboards carry.
import { durationUs } from "./brand";
import { formatDurationUs } from "./time/duration";

const SHORT = ["", " K", " Mil", " Bil", " Tri", " Quadr"];
const SI = ["", "k", "M", "G", "T", "P", "E"];
const IEC = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

function digits(value: number, decimals: number | undefined): string {
  if (decimals !== undefined) return value.toFixed(Math.max(0, Math.min(10, decimals)));
  const abs = Math.abs(value);
  if (abs === 0) return "0";
  if (abs >= 1000) return value.toFixed(0);
  const places = abs >= 100 ? 1 : abs >= 1 ? 2 : Math.min(8, 2 - Math.floor(Math.log10(abs)));
  const text = value.toFixed(places);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function scaled(value: number, base: number, names: readonly string[], decimals?: number): [string, string] {
  let scale = 0;
  let rest = value;
  while (Math.abs(rest) >= base && scale < names.length - 1) {
    rest /= base;
    scale++;
  }
  return [digits(rest, decimals), names[scale] ?? ""];
}

const scaledUnit = (base: number, names: readonly string[], suffix: string) => (value: number, decimals?: number): string => {
  const [number, prefix] = scaled(value, base, names, decimals);
  return `${number} ${prefix}${suffix}`.trimEnd();
};

const rate = (suffix: string) => (value: number, decimals?: number): string => {
  const [number, prefix] = scaled(value, 1000, ["", "K", "M", "B", "T"], decimals);
  return `${number}${prefix} ${suffix}`;
};

const seconds = (factorUs: number) => (value: number, decimals?: number): string => {
  const us = value * factorUs;
  if (decimals === undefined || Math.abs(us) >= 60e6) return formatDurationUs(durationUs(us));
  const abs = Math.abs(us);
  if (abs >= 1e6) return `${(us / 1e6).toFixed(decimals)} s`;
  if (abs >= 1e3) return `${(us / 1e3).toFixed(decimals)} ms`;
  return `${us.toFixed(decimals)} µs`;
};

type Format = (value: number, decimals?: number) => string;

const plain: Format = (value, decimals) => digits(value, decimals);
const short: Format = (value, decimals) => scaled(value, 1000, SHORT, decimals).join("");

const UNITS: Record<string, Format> = {
  none: plain,
  short,
  sishort: (v, d) => scaled(v, 1000, SI, d).join(""),
  percent: (v, d) => `${digits(v, d)}%`,
  percentunit: (v, d) => `${digits(v * 100, d)}%`,
  bool: (v) => (v ? "True" : "False"),
  bool_yes_no: (v) => (v ? "Yes" : "No"),
  bool_on_off: (v) => (v ? "On" : "Off"),
  ns: seconds(1e-3),
  "µs": seconds(1),
  us: seconds(1),
  ms: seconds(1e3),
  s: seconds(1e6),
  m: seconds(60e6),
  h: seconds(3600e6),
  d: seconds(86_400e6),
  dtdurations: seconds(1e6),
  dtdurationms: seconds(1e3),
  bytes: scaledUnit(1024, IEC, "B"),
  kbytes: (v, d) => scaledUnit(1024, IEC, "B")(v * 1024, d),
  mbytes: (v, d) => scaledUnit(1024, IEC, "B")(v * 1024 ** 2, d),
  gbytes: (v, d) => scaledUnit(1024, IEC, "B")(v * 1024 ** 3, d),
  bits: scaledUnit(1024, IEC, "b"),
  decbytes: scaledUnit(1000, SI, "B"),
  decbits: scaledUnit(1000, SI, "b"),
  Bps: scaledUnit(1000, SI, "B/s"),
  bps: scaledUnit(1000, SI, "b/s"),
  binBps: scaledUnit(1024, IEC, "B/s"),
  binbps: scaledUnit(1024, IEC, "b/s"),
  hertz: scaledUnit(1000, SI, "Hz"),
  ops: rate("ops/s"),
  reqps: rate("req/s"),
  rps: rate("reads/s"),
  wps: rate("writes/s"),
  iops: rate("io/s"),
  cps: rate("c/s"),
  pps: rate("p/s"),
  eps: rate("events/s"),
  opm: rate("ops/m"),
  celsius: (v, d) => `${digits(v, d)} °C`,
  volt: scaledUnit(1000, SI, "V"),
  watt: scaledUnit(1000, SI, "W"),
  dateTimeAsIso: (v) => new Date(v).toISOString(),
  dateTimeFromNow: (v) => `${formatDurationUs(durationUs((Date.now() - v) * 1000))} ago`,
};

/** Formats `value` in unit id `unit`; an unknown id is shown as a suffix, as Grafana does. */
export function formatValue(value: number | null | undefined, unit = "short", decimals?: number): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "+∞" : "-∞";
  const known = UNITS[unit || "none"];
  if (known) return known(value, decimals);
  const special = /^(suffix|prefix|si|count|currency):(.*)$/.exec(unit);
  if (special) {
    const [, kind, text = ""] = special;
    if (kind === "prefix" || kind === "currency") return `${text}${short(value, decimals)}`;
    if (kind === "si") return scaledUnit(1000, SI, text)(value, decimals);
    return `${short(value, decimals)} ${text}`;
  }
  return `${short(value, decimals)} ${unit}`;
}

/** Thousands separated, for exact counts. */
export const formatCount = (n: number): string => n.toString().replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
