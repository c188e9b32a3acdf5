// Label sets: how they are written, how a legend is made from them.

export type Labels = Readonly<Record<string, string>>;

const quote = (value: string): string => `"${value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`;

/** `name{a="b", c="d"}`; names that PromQL cannot write bare are quoted. */
export function formatLabels(labels: Labels): string {
  const { __name__: name = "", ...rest } = labels;
  const pairs = Object.keys(rest)
    .sort()
    .map((key) => `${/^[a-zA-Z_][\w]*$/.test(key) ? key : quote(key)}=${quote(rest[key] ?? "")}`);
  if (pairs.length === 0) return name || "{}";
  return `${name}{${pairs.join(", ")}}`;
}

/** The labels in which the series of one result differ; the rest says nothing in a legend. */
export function distinguishing(series: readonly Labels[]): string[] {
  const keys = new Set(series.flatMap((labels) => Object.keys(labels)));
  return [...keys].filter((key) => new Set(series.map((labels) => labels[key] ?? "")).size > 1).sort();
}

/** Grafana's legend: `{{label}}` is replaced; an empty template shows the whole set; `__auto` only what differs. */
export function formatLegend(template: string | undefined, labels: Labels, all: readonly Labels[] = []): string {
  if (template === "__auto") {
    const keys = distinguishing(all);
    if (keys.length === 0) return labels["__name__"] ?? formatLabels(labels);
    if (keys.length === 1) return labels[keys[0] ?? ""] || formatLabels(labels);
    return formatLabels(Object.fromEntries(keys.filter((k) => labels[k]).map((k) => [k, labels[k] ?? ""])));
  }
  if (!template) return formatLabels(labels);
  return template.replace(/\{\{\s*([^}]+?)\s*\}\}/g, (_, key: string) => labels[key] ?? "");
}

/** Adds `key op value` to the stream selector of a query; the query is left as it is when it has none. */
export function addMatcher(query: string, key: string, op: "=" | "!=" | "=~" | "!~", value: string): string {
  const matcher = `${key}${op}${quote(value)}`;
  const open = query.indexOf("{");
  if (open < 0) return query.trim() === "" ? `{${matcher}}` : query;
  const close = closingBrace(query, open);
  if (close < 0) return query;
  const inside = query.slice(open + 1, close).trim().replace(/,$/, "");
  if (inside.split(/,\s*/).includes(matcher)) return query;
  // A match-all placeholder gives way to the first real matcher.
  const kept = op === "=" && /^[\w.]+=~"\.[+*]"$/.test(inside) ? "" : inside;
  return `${query.slice(0, open)}{${kept ? `${kept}, ` : ""}${matcher}}${query.slice(close + 1)}`;
}

function closingBrace(query: string, open: number): number {
  let quoted = "";
  for (let at = open + 1; at < query.length; at++) {
    const char = query[at];
    if (quoted) {
      if (char === "\\" && quoted === '"') at++;
      else if (char === quoted) quoted = "";
    } else if (char === '"' || char === "`") quoted = char;
    else if (char === "}") return at;
  }
  return -1;
}

/** Adds `| key op value` after the selector and its pipeline: for structured metadata and parsed labels. */
export const addLabelFilter = (query: string, key: string, op: "=" | "!=", value: string): string =>
  `${query.trimEnd()} | ${key}${op}${quote(value)}`;

export const quoteString = quote;
