// Dashboard variables and the built-in macros: what `$x` in a query becomes.
import { durationMs, type DurationMs } from "../brand";
import { parseDuration, promDuration } from "../time/duration";
import { span, stepFor, type TimeRange } from "../time/range";
import type { Variable } from "./model";

export const ALL = "$__all";

export interface VariableValue {
  readonly values: readonly string[];
  readonly multi: boolean; // written as a regex group when no format is asked for
  readonly all: string | undefined; // set when "All" is chosen and the dashboard says what that means
}

export type VariableValues = ReadonlyMap<string, VariableValue>;

const escapeRegex = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

const regexGroup = (values: readonly string[], double: boolean): string => {
  // Inside a quoted PromQL string a backslash has to be written twice.
  const escaped = values.map((v) => (double ? escapeRegex(v).replace(/\\/g, "\\\\") : escapeRegex(v)));
  return escaped.length === 1 ? (escaped[0] ?? "") : `(${escaped.join("|")})`;
};

function format(value: VariableValue, how: string): string {
  const { values } = value;
  if (value.all !== undefined && how !== "text") return value.all;
  switch (how) {
    case "":
      if (values.length === 1 && !value.multi) return values[0] ?? "";
      return values.length === 0 ? "" : regexGroup(values, true);
    case "regex":
      return regexGroup(values, false);
    case "pipe":
      return values.join("|");
    case "csv":
    case "raw":
      return values.join(",");
    case "text":
      return values.join(" + ");
    case "json":
      return JSON.stringify(values);
    case "singlequote":
      return values.map((v) => `'${v.replace(/'/g, "\\'")}'`).join(",");
    case "doublequote":
      return values.map((v) => `"${v.replace(/"/g, '\\"')}"`).join(",");
    case "sqlstring":
      return values.map((v) => `'${v.replace(/'/g, "''")}'`).join(",");
    case "glob":
      return values.length > 1 ? `{${values.join(",")}}` : (values[0] ?? "");
    case "percentencode":
      return encodeURIComponent(values.join(","));
    default:
      return values.join(",");
  }
}

/** Replaces `$name`, `${name}`, `${name:format}` and `[[name]]`; an unknown name stays as it is. */
export function interpolate(text: string, values: VariableValues): string {
  return text.replace(
    /\$\{(\w+)(?:\.[\w.]+)?(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]|\$(\w+)/g,
    (whole, braced?: string, how?: string, square?: string, squareHow?: string, bare?: string) => {
      const name = braced ?? square ?? bare ?? "";
      const value = values.get(name);
      if (!value) return whole;
      const written = format(value, how ?? squareHow ?? "");
      if (value.all === undefined || !written.includes("$")) return written;
      // What "All" stands for may itself name variables, but not its own.
      return interpolate(written, new Map([...values].filter(([other]) => other !== name)));
    },
  );
}

const single = (value: string): VariableValue => ({ values: [value], multi: false, all: undefined });

/** `$__interval` and its kin for a range drawn with `points` points. */
export function macros(range: TimeRange, points: number, scrape: DurationMs = durationMs(15_000), min = ""): Map<string, VariableValue> {
  const floor = parseDuration(min.replace(/^[>=]+/, "")) ?? scrape;
  const step = stepFor(range, points, durationMs(Math.max(1000, floor)));
  const rate = durationMs(Math.max(step + scrape, 4 * scrape));
  const width = span(range);
  return new Map<string, VariableValue>([
    ["__interval", single(promDuration(step))],
    ["__interval_ms", single(`${step}`)],
    ["__rate_interval", single(promDuration(rate))],
    ["__rate_interval_ms", single(`${rate}`)],
    ["__range", single(`${Math.round(width / 1000)}s`)],
    ["__range_s", single(`${Math.round(width / 1000)}`)],
    ["__range_ms", single(`${width}`)],
    ["__from", single(`${range.from}`)],
    ["__to", single(`${range.to}`)],
    ["__auto", single(promDuration(step))],
  ]);
}

export type VariableQuery =
  | { readonly kind: "label_values"; readonly selector: string; readonly label: string }
  | { readonly kind: "label_names" }
  | { readonly kind: "metrics"; readonly regex: string }
  | { readonly kind: "query_result"; readonly expr: string }
  | { readonly kind: "series"; readonly selector: string }
  | { readonly kind: "unknown" };

/** Reads `label_values(selector, label)` and the other query functions of the Prometheus data source. */
export function parseVariableQuery(query: string): VariableQuery {
  const call = /^\s*(\w+)\(([\s\S]*)\)\s*$/.exec(query);
  if (!call) return /^\s*[a-zA-Z_:{]/.test(query) ? { kind: "series", selector: query.trim() } : { kind: "unknown" };
  const [, name, inside = ""] = call;
  switch (name) {
    case "label_values": {
      const comma = lastTopLevelComma(inside);
      if (comma < 0) return { kind: "label_values", selector: "", label: inside.trim() };
      return { kind: "label_values", selector: inside.slice(0, comma).trim(), label: inside.slice(comma + 1).trim() };
    }
    case "label_names":
      return { kind: "label_names" };
    case "metrics":
      return { kind: "metrics", regex: inside.trim() };
    case "query_result":
      return { kind: "query_result", expr: inside.trim() };
    default:
      return { kind: "unknown" };
  }
}

function lastTopLevelComma(text: string): number {
  let depth = 0;
  let quoted = "";
  let found = -1;
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? "";
    if (quoted) {
      if (char === "\\") at++;
      else if (char === quoted) quoted = "";
    } else if (char === '"' || char === "'") quoted = char;
    else if ("{([".includes(char)) depth++;
    else if ("})]".includes(char)) depth--;
    else if (char === "," && depth === 0) found = at;
  }
  return found;
}

/** Keeps what the variable's `/regex/` matches; the first group (or one named `value`) is the value. */
export function filterOptions(options: readonly string[], regex: string): string[] {
  if (regex.trim() === "") return unique(options);
  const written = /^\/(.*)\/([a-z]*)$/s.exec(regex.trim());
  let pattern: RegExp;
  try {
    pattern = written ? new RegExp(written[1] ?? "", written[2]) : new RegExp(`^${regex}$`);
  } catch {
    return unique(options);
  }
  const kept: string[] = [];
  for (const option of options) {
    pattern.lastIndex = 0;
    const match = pattern.exec(option);
    if (match) kept.push(match.groups?.["value"] ?? match[1] ?? (written ? option : match[0]));
  }
  return unique(kept);
}

const unique = (items: readonly string[]): string[] => [...new Set(items)];

/** Grafana's sort orders: 1/2 text, 3/4 numbers, 5/6 text without case, 7/8 natural; even is descending. */
export function sortOptions(options: readonly string[], order: number): string[] {
  if (order === 0) return [...options];
  const collator = new Intl.Collator("en", { numeric: order === 3 || order === 4 || order >= 7, sensitivity: order >= 5 ? "base" : "variant" });
  const sorted = [...options].sort(collator.compare);
  return order % 2 === 0 ? sorted.reverse() : sorted;
}

/** The fixed options of a variable: what its own text lists. Query variables have none. */
export function staticOptions(variable: Variable): string[] {
  switch (variable.type) {
    case "custom":
    case "interval":
      return variable.query
        .split(/(?<!\\),/)
        .map((part) => part.replace(/\\,/g, ",").trim())
        .map((part) => (variable.type === "custom" ? (/^.+ : (.+)$/.exec(part)?.[1] ?? part).trim() : part))
        .filter(Boolean);
    case "constant":
      return [variable.query];
    case "datasource":
      return ["trefoil"];
    default:
      return [];
  }
}

/** What a variable stands for, from the URL's choice, the saved one and the options there are now. */
export function chooseValue(variable: Variable, options: readonly string[], fromUrl: readonly string[]): VariableValue {
  if (variable.type === "datasource") return single("trefoil");
  if (variable.type === "textbox" || variable.type === "constant") {
    return single(fromUrl[0] ?? variable.current[0] ?? variable.query);
  }
  let wanted = fromUrl.length > 0 ? fromUrl : variable.current;
  if (wanted.includes("All")) wanted = [ALL, ...wanted.filter((v) => v !== "All")];
  if (variable.includeAll && (wanted.includes(ALL) || wanted.length === 0)) {
    return { values: options, multi: true, all: variable.allValue || (options.length === 0 ? ".*" : undefined) };
  }
  const kept = wanted.filter((value) => fromUrl.length > 0 || options.length === 0 || options.includes(value));
  const values = kept.length > 0 ? kept : options.slice(0, 1);
  return { values: variable.multi ? values : values.slice(0, 1), multi: variable.multi, all: undefined };
}

/** The labels of a `query_result` option as Grafana writes them: `metric{a="b"} 1 1700000000000`. */
export const resultOption = (labels: string, value: string, atMs: number): string => `${labels} ${value} ${atMs}`;
