// The metric names a PromQL expression mentions: for help texts, not for evaluation.

const KEYWORDS = new Set("and or unless by without on ignoring group_left group_right bool offset inf nan start end".split(" "));

/** In order of appearance, each once. */
export function metricNames(expr: string): string[] {
  const bare = expr
    .replace(/#[^\n]*/g, " ")
    .replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`/g, '""')
    .replace(/\{[^}]*\}/g, "{}")
    .replace(/\[[^\]]*\]/g, "")
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/gi, " ");
  const names = new Set<string>();
  for (const match of bare.matchAll(/(?<![\w.:])([a-zA-Z_:][\w:]*)(?!\w)(\s*\()?/g)) {
    const name = match[1] ?? "";
    if (!match[2] && !KEYWORDS.has(name.toLowerCase())) names.add(name);
  }
  return [...names];
}
