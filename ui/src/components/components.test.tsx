import { expect, test } from "vitest";
import { unixMs, durationMs } from "../lib/brand";
import { rank, wordStart } from "./kit/query-input";
import { pretty } from "./logs/log-list";
import { align } from "./viz/align";
import { toggleSeries } from "./viz/legend";
import { stack } from "./viz/time-series";

test.each([
  ["sum(rate(http", 13, 9],
  ["up", 2, 0],
  ['up{job="ab', 10, -1],
  ['up{job="ab"} + no', 17, 15],
  ["a:b:c", 5, 0],
])("wordStart(%j, %d)", (text, caret, want) => expect(wordStart(text, caret)).toBe(want));

test("rank: exact, then prefix, then inside; shorter first", () => {
  const words = ["node_up", "up", "uptime", "sum"].map((text) => ({ text, kind: "metric" }));
  expect(rank(words, "up").map((s) => s.text)).toEqual(["up", "uptime", "node_up"]);
  expect(rank(words, "")).toEqual([]);
});

test("legend clicks", () => {
  const keys = ["a", "b", "c"];
  const sorted = (set: ReadonlySet<string>) => [...set].sort().join("");
  expect(sorted(toggleSeries(keys, new Set(), "a", false))).toBe("bc");
  expect(sorted(toggleSeries(keys, new Set(["b", "c"]), "a", false))).toBe("");
  expect(sorted(toggleSeries(keys, new Set(["b", "c"]), "b", false))).toBe("ac");
  expect(sorted(toggleSeries(keys, new Set(), "a", true))).toBe("a");
  expect(sorted(toggleSeries(keys, new Set(["a", "b"]), "c", true))).toBe("");
});

test("align keeps gaps as gaps and drops what is no number", () => {
  const range = { from: unixMs(0), to: unixMs(40_000) };
  const aligned = align([{ labels: {}, points: [[0, 1], [10, 2], [30, 4]] }, { labels: {}, points: [[10, Number.NaN], [20, 5]] }], range, durationMs(10_000));
  expect(aligned.times).toEqual([0, 10, 20, 30, 40]);
  expect(aligned.values).toEqual([[1, 2, null, 4, null], [null, null, 5, null, null]]);
  expect(align([], range, durationMs(1000)).times).toEqual([]);
});

test("stack sums from below and leaves hidden series out", () => {
  const series = [[1, 2], [3, null], [5, 5]].map((values, index) => ({ key: `${index}`, label: "", values, color: "" }));
  expect(stack(series, new Set())).toEqual([[1, 2], [4, 2], [9, 7]]);
  expect(stack(series, new Set(["1"]))).toEqual([[1, 2], [null, null], [6, 7]]);
});

test("pretty lays out JSON and leaves the rest", () => {
  expect(pretty('{"a":1}')).toBe('{\n  "a": 1\n}');
  expect(pretty("{not json")).toBe("{not json");
  expect(pretty("plain")).toBe("plain");
});
