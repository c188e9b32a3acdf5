// Queries that show what a row of the cardinality page stands for.
import { quoteString } from "./labels";

/** A label name as PromQL writes it: quoted when it is not a plain one. */
const labelName = (name: string): string => (/^[a-zA-Z_]\w*$/.test(name) ? name : quoteString(name));

export const ofMetric = (metric: string): string => `topk(50, count by (job, instance) ({__name__=${quoteString(metric)}}))`;

export const ofJob = (job: string): string => `topk(50, count by (__name__) ({job=${quoteString(job)}}))`;

export const ofLabel = (label: string, metric = ""): string =>
  `topk(50, count by (${labelName(label)}) ({${metric ? `__name__=${quoteString(metric)}` : `${labelName(label)}!=""`}}))`;

/** `pair` is `name=value`, as the server writes it. */
export function ofPair(pair: string): string {
  const at = pair.indexOf("=");
  const [name, value] = [pair.slice(0, at), pair.slice(at + 1)];
  return `topk(50, count by (${name === "__name__" ? "job, instance" : "__name__"}) ({${labelName(name)}=${quoteString(value)}}))`;
}

/** What part of `total` a count is, 0 to 1. */
export const share = (value: number, total: number): number => (total > 0 ? Math.min(1, value / total) : 0);

/** `12.3 %`; small parts are not rounded away. */
export function percent(part: number): string {
  if (part > 0 && part < 0.001) return "< 0.1 %";
  return `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`;
}
