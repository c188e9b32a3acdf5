// The command palette: what a text typed into it may mean, in order of likelihood.
import { quoteString } from "./labels";

export interface Entry {
  readonly id: string;
  readonly title: string;
  readonly kind: string;
  readonly path: string;
  readonly params?: Readonly<Record<string, string>>;
}

const SHOWN = 40;

/** What the text says by itself: a trace id, a query, or words to look for. */
export function meanings(text: string): Entry[] {
  const typed = text.trim();
  if (typed === "") return [];
  if (/^[0-9a-f]{16}$|^[0-9a-f]{32}$/i.test(typed)) {
    return [
      { id: "trace", title: `Open trace ${typed.toLowerCase()}`, kind: "trace", path: `/trace/${typed.toLowerCase()}` },
      { id: "trace-logs", title: "Search logs for this id", kind: "logs", path: "/logs", params: { q: `{service_name=~".+"} |= ${quoteString(typed.toLowerCase())}` } },
    ];
  }
  if (/^\{.*=/.test(typed)) return [{ id: "logql", title: typed, kind: "run LogQL", path: "/logs", params: { q: typed } }];
  const entries: Entry[] = [{ id: "words", title: `Search logs for ${quoteString(typed)}`, kind: "logs", path: "/logs", params: { q: `{service_name=~".+"} |= ${quoteString(typed)}` } }];
  if (/[({[]|\s[-+*/><=]/.test(typed)) entries.unshift({ id: "promql", title: typed, kind: "run PromQL", path: "/explore/metrics", params: { q: typed } });
  return entries;
}

/** How well `title` fits: lower is better, undefined when a word of the text is missing. */
export function score(title: string, text: string): number | undefined {
  const have = title.toLowerCase();
  let total = 0;
  for (const word of text.toLowerCase().split(/\s+/).filter(Boolean)) {
    const at = have.indexOf(word);
    if (at < 0) return undefined;
    const boundary = at === 0 || /[^a-z0-9]/.test(have[at - 1] ?? "");
    total += (at === 0 ? 0 : boundary ? 1 : 3) + have.length / 200;
  }
  return total;
}

/** Known entries that fit the text, best first; then what the text means by itself. */
export function search(entries: readonly Entry[], text: string): Entry[] {
  if (text.trim() === "") return entries.filter((entry) => entry.kind === "page" || entry.kind === "dashboard").slice(0, SHOWN);
  const fitting = entries
    .map((entry) => ({ entry, score: score(entry.title, text) }))
    .filter((found): found is { entry: Entry; score: number } => found.score !== undefined)
    .sort((a, b) => a.score - b.score)
    .slice(0, SHOWN)
    .map((found) => found.entry);
  const own = meanings(text);
  const certain = own.filter((entry) => entry.kind !== "logs");
  return [...certain, ...fitting, ...own.filter((entry) => entry.kind === "logs")];
}
