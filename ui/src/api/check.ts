// Checks that an answer has the shape it should: nothing unchecked leaves src/api.

export class ShapeError extends Error {}

export type Check<T> = (value: unknown, path: string) => T;

const fail = (path: string, want: string, value: unknown): never => {
  const got = value === null ? "null" : Array.isArray(value) ? "list" : typeof value;
  throw new ShapeError(`unexpected answer: ${path || "body"} should be ${want}, is ${got}`);
};

export const str: Check<string> = (v, p) => (typeof v === "string" ? v : fail(p, "text", v));
export const num: Check<number> = (v, p) => (typeof v === "number" ? v : fail(p, "a number", v));
export const bool: Check<boolean> = (v, p) => (typeof v === "boolean" ? v : fail(p, "true or false", v));
export const anything: Check<unknown> = (v) => v;

/** Text, or a number or truth value written as text: tag values come as any of them. */
export const scalarText: Check<string> = (v, p) =>
  typeof v === "string" ? v : typeof v === "number" || typeof v === "boolean" ? `${v}` : v === null ? "" : fail(p, "a plain value", v);

export const list =
  <T>(item: Check<T>): Check<T[]> =>
  (v, p) =>
    Array.isArray(v) ? v.map((entry: unknown, index) => item(entry, `${p}[${index}]`)) : fail(p, "a list", v);

export const record =
  <T>(item: Check<T>): Check<Record<string, T>> =>
  (v, p) => {
    if (typeof v !== "object" || v === null || Array.isArray(v)) return fail(p, "an object", v);
    const out: Record<string, T> = {};
    for (const [key, entry] of Object.entries(v)) out[key] = item(entry, `${p}.${key}`);
    return out;
  };

/** Missing and null give `fallback`. */
export const or =
  <T>(item: Check<T>, fallback: T): Check<T> =>
  (v, p) =>
    v === undefined || v === null ? fallback : item(v, p);

type Shape = Record<string, Check<unknown>>;
type Checked<S extends Shape> = { [K in keyof S]: S[K] extends Check<infer T> ? T : never };

export const obj =
  <S extends Shape>(shape: S): Check<Checked<S>> =>
  (v, p) => {
    if (typeof v !== "object" || v === null || Array.isArray(v)) return fail(p, "an object", v);
    const from = v as Record<string, unknown>;
    const out: Record<string, unknown> = {};
    for (const key of Object.keys(shape)) out[key] = shape[key]?.(from[key], p ? `${p}.${key}` : key);
    return out as Checked<S>;
  };

/** `[seconds, "value"]`, as Prometheus and Loki write samples. */
export const sample: Check<readonly [number, number]> = (v, p) => {
  if (!Array.isArray(v) || v.length < 2) return fail(p, "a [time, value] pair", v);
  return [num(v[0], `${p}[0]`), toNumber(str(v[1], `${p}[1]`))];
};

export function toNumber(text: string): number {
  if (text === "+Inf" || text === "Inf") return Number.POSITIVE_INFINITY;
  if (text === "-Inf") return Number.NEGATIVE_INFINITY;
  return Number(text);
}
