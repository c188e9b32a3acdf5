// Series and service colours: CSS custom properties, so that both themes choose their own.

export const SERIES_COLORS = 12;

/** Stable for a name, so that a service has the same colour on every page. */
export function colorIndex(name: string): number {
  let hash = 2166136261;
  for (let at = 0; at < name.length; at++) {
    hash = Math.imul(hash ^ name.charCodeAt(at), 16777619);
  }
  return (hash >>> 0) % SERIES_COLORS;
}

export const seriesVar = (index: number): string => `var(--series-${(index % SERIES_COLORS) + 1})`;

/** Colours for a set of names: hashed, moved on when taken, so that few names never share one. */
export function assignColors(names: Iterable<string>): Map<string, number> {
  const colors = new Map<string, number>();
  const taken = new Set<number>();
  for (const name of [...new Set(names)].sort()) {
    let index = colorIndex(name);
    if (taken.size < SERIES_COLORS) while (taken.has(index)) index = (index + 1) % SERIES_COLORS;
    taken.add(index);
    colors.set(name, index);
  }
  return colors;
}

const NAMED: Record<string, string> = {
  green: "var(--ok)",
  red: "var(--bad)",
  yellow: "var(--warn)",
  orange: "var(--series-2)",
  blue: "var(--series-1)",
  purple: "var(--series-5)",
  text: "var(--text)",
  transparent: "transparent",
};

/** A colour named in dashboard JSON: Grafana's names (with shade prefixes), hex and rgb values. */
export function dashboardColor(name: string | undefined): string {
  if (!name) return "var(--ok)";
  const base = name.replace(/^(super-light|light|semi-dark|dark)-/, "");
  const named = NAMED[base];
  if (named) return named;
  return /^(#[0-9a-f]{3,8}|rgba?\([\d., %]+\))$/i.test(name) ? name : "var(--series-1)";
}
