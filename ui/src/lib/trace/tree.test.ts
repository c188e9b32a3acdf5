import { describe, expect, test } from "vitest";
import { durationUs, unixUs } from "../brand";
import { parseTags, sortTraces } from "./search";
import { spanLogsQuery, traceLogsRange } from "./logs-query";
import { niceDecades, scatterPoints } from "./scatter";
import { ancestors, buildTrace, findSpans, nextError, selfTime, visibleSpans, type FlatSpan } from "./tree";
import { unixMs } from "../brand";

const span = (id: string, parentId: string | undefined, start: number, duration: number, more: Partial<FlatSpan> = {}): FlatSpan => ({
  id, parentId, service: "a", name: id, start: unixUs(start), duration: durationUs(duration), error: false, kind: "", tags: [], process: [], events: [], references: [], warnings: [], ...more,
});

const ids = (spans: readonly { id: string }[]): string => spans.map((s) => s.id).join(" ");

describe("buildTrace", () => {
  test.each<[string, FlatSpan[], string, number[]]>([
    ["depth first, siblings by start", [span("c", "r", 50, 10), span("r", undefined, 0, 100), span("b", "r", 10, 20), span("d", "b", 12, 2)], "r b d c", [0, 1, 2, 1]],
    ["an orphan is a root", [span("r", undefined, 0, 10), span("o", "gone", 5, 1)], "r o", [0, 0]],
    ["a circle still shows", [span("x", "y", 0, 10), span("y", "x", 1, 5)], "x y", [0, 1]],
    ["its own parent", [span("x", "x", 0, 10)], "x", [0]],
    ["a repeated id counts once", [span("x", undefined, 0, 10), span("x", undefined, 0, 10)], "x", [0]],
    ["empty", [], "", []],
  ])("%s", (_, flat, order, depths) => {
    const trace = buildTrace("t", flat);
    expect(ids(trace.spans)).toBe(order);
    expect(trace.spans.map((s) => s.depth)).toEqual(depths);
  });

  test("counts", () => {
    const trace = buildTrace("t", [
      span("r", undefined, 100, 50),
      span("a", "r", 110, 20, { service: "b", error: true }),
      span("b", "a", 112, 60, { service: "b", error: true }),
      span("o", "gone", 90, 5),
    ]);
    expect(trace.start).toBe(90);
    expect(trace.duration).toBe(82);
    expect(trace.errors).toBe(2);
    expect(trace.services).toEqual([{ name: "a", spans: 2, errors: 0 }, { name: "b", spans: 2, errors: 2 }]);
    expect(trace.root?.id).toBe("r");
    expect(trace.depth).toBe(3);
    const root = trace.spans.find((s) => s.id === "r");
    expect(root).toMatchObject({ descendants: 2, children: 1, errorsBelow: 2, self: 30 });
    expect(trace.spans.find((s) => s.id === "o")?.orphan).toBe(true);
  });

  test("a chain far deeper than the call stack, and a wide one", () => {
    const chain = Array.from({ length: 20_000 }, (_, n) => span(`s${n}`, n ? `s${n - 1}` : undefined, n, 100_000));
    const deep = buildTrace("t", chain);
    expect(deep.spans[0]?.descendants).toBe(19_999);
    expect(deep.depth).toBe(20_000);
    const wide = buildTrace("t", [span("r", undefined, 0, 1), ...Array.from({ length: 20_000 }, (_, n) => span(`s${n}`, "r", n, 1))]);
    expect(wide.spans[0]?.children).toBe(20_000);
  });
});

test.each([
  ["no children", [], 100],
  ["overlapping children count once", [[0, 50], [25, 50]], 25],
  ["a child outlasting the parent", [[90, 50]], 90],
  ["a child before the parent", [[-50, 60]], 90],
])("selfTime: %s", (_, children, want) => {
  expect(selfTime({ start: 0, duration: 100 }, children.map(([start = 0, duration = 0]) => ({ start, duration })))).toBe(want);
});

const sample = buildTrace("t", [span("r", undefined, 0, 100), span("a", "r", 1, 10), span("b", "a", 2, 5, { error: true, tags: [{ key: "k", value: "Needle" }] }), span("c", "r", 50, 10, { error: true })]);

test("visibleSpans hides what is below a collapsed span", () => {
  expect(visibleSpans(sample, new Set())).toEqual([0, 1, 2, 3]);
  expect(visibleSpans(sample, new Set(["a"]))).toEqual([0, 1, 3]);
  expect(visibleSpans(sample, new Set(["r"]))).toEqual([0]);
});

test("ancestors, nextError, findSpans", () => {
  expect(ancestors(sample, 2)).toEqual(["a", "r"]);
  expect(nextError(sample, 0, 1)).toBe(2);
  expect(nextError(sample, 3, 1)).toBe(2);
  expect(nextError(sample, 2, -1)).toBe(3);
  expect(nextError(buildTrace("t", [span("x", undefined, 0, 1)]), 0, 1)).toBe(-1);
  expect([...findSpans(sample, "needle")]).toEqual(["b"]);
  expect([...findSpans(sample, "k=n")]).toEqual(["b"]);
  expect(findSpans(sample, " ").size).toBe(0);
});

test.each([
  ["", {}],
  ["error=true", { error: "true" }],
  ['http.status_code=500 db.statement="select 1"', { "http.status_code": "500", "db.statement": "select 1" }],
  ["a=1, b=2", { a: "1", b: "2" }],
  ['q="say \\"hi\\""', { q: 'say "hi"' }],
  ["novalue", undefined],
  ["=x", undefined],
])("parseTags(%j)", (text, want) => expect(parseTags(text)).toEqual(want));

test("sortTraces", () => {
  const t = (id: string, start: number, duration: number, errors: number) => ({ id, rootService: "", rootName: "", start: unixUs(start), duration: durationUs(duration), spans: 1, errors, services: [] });
  const all = [t("a", 1, 30, 0), t("b", 3, 10, 2), t("c", 2, 20, 1)];
  expect(ids(sortTraces(all, "newest"))).toBe("b c a");
  expect(ids(sortTraces(all, "longest"))).toBe("a c b");
  expect(ids(sortTraces(all, "errors"))).toBe("b c a");
});

test("the way from a span to its lines", () => {
  expect(spanLogsQuery("abc")).toBe('{service_name=~".+"} | trace_id="abc"');
  expect(spanLogsQuery("abc", "def")).toBe('{service_name=~".+"} | trace_id="abc" | span_id="def"');
  expect(traceLogsRange(unixMs(1_000_000), unixMs(1_001_000))).toEqual({ from: 700_000, to: 1_301_000 });
});

test("scatterPoints: later is right, longer is up; the axis follows a narrow cluster", () => {
  const t = (id: string, startMs: number, duration: number) => ({ id, rootService: "", rootName: "", start: unixUs(startMs * 1000), duration: durationUs(duration), spans: 1, errors: 0, services: [] });
  const box = { width: 100, height: 100 };
  const wide = scatterPoints([t("a", 0, 100), t("b", 1000, 10_000)], { from: unixMs(0), to: unixMs(1000) }, box);
  expect(wide.points.map((p) => Math.round(p.x))).toEqual([0, 100]);
  expect(wide.points[0]?.y).toBeGreaterThan(wide.points[1]?.y ?? 0);
  const narrow = scatterPoints([t("a", 500, 100), t("b", 510, 100)], { from: unixMs(0), to: unixMs(1000) }, box);
  expect(narrow.from).toBeGreaterThan(498);
  expect(narrow.points.every((p) => p.x > 0 && p.x < 100 && p.y >= 0 && p.y <= 100)).toBe(true);
});

test.each([
  [80, 12_000, [100, 300, 1000, 3000, 10_000]],
  [900, 1100, [1000]],
  [1, 1e9, [1, 100, 10_000, 1_000_000, 100_000_000]],
])("niceDecades(%d, %d)", (min, max, want) => expect(niceDecades(min, max)).toEqual(want));
