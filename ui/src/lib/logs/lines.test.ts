import { expect, test } from "vitest";
import { durationMs, unixMs } from "../brand";
import { appendOlder, histogramOf, isLogQuery, isMetricQuery, normaliseLevel, toLines, traceIdInText, volumeQuery } from "./lines";

const ID = "4bf92f3577b34da6a3ce929d0e0e4736";

test.each([
  [`trace_id=${ID} done`, ID],
  [`{"traceId":"${ID}"}`, ID],
  [`TraceID: ${ID.toUpperCase()}`, ID],
  [`failed ${ID} twice`, ID],
  ["trace_id=a3ce929d0e0e4736", "a3ce929d0e0e4736"],
  [`sha256 ${ID}${ID}`, undefined],
  ["order 4bf92f35-77b3-4da6-a3ce-929d0e0e4736", undefined],
  ["trace_id=00000000000000000000000000000000", undefined],
  ["nothing", undefined],
])("traceIdInText(%j)", (text, want) => expect(traceIdInText(text)).toBe(want));

test.each([["WARNING", "warn"], ["err", "error"], ["Fatal", "critical"], ["notice", "info"], ["", "unknown"], [undefined, "unknown"]])("normaliseLevel(%j)", (text, want) =>
  expect(normaliseLevel(text)).toBe(want),
);

const stream = (ns: string[], labels: Record<string, string>, metadata: Record<string, string> = {}) => ({
  labels,
  entries: ns.map((at) => ({ ns: at, text: `line ${at}`, metadata, parsed: {} })),
});

test("toLines merges streams, newest first, and finds level and trace", () => {
  const lines = toLines([stream(["1000000", "3000000"], { job: "a", level: "warn" }), stream(["2000000"], { job: "b" }, { trace_id: ID, span_id: "s", detected_level: "error" })]);
  expect(lines.map((l) => `${l.ns}`)).toEqual(["3000000", "2000000", "1000000"]);
  expect(lines.map((l) => l.level)).toEqual(["warn", "error", "warn"]);
  expect(lines[1]).toMatchObject({ traceId: ID, spanId: "s" });
  expect(lines[0]?.traceId).toBeUndefined();
});

test("appendOlder drops the lines both pages hold", () => {
  const first = toLines([stream(["30", "20"], { a: "1" })]);
  const older = toLines([stream(["20", "10"], { a: "1" }), stream(["20"], { a: "2" })]);
  expect(appendOlder(first, older).map((l) => `${l.ns} ${l.labels["a"]}`)).toEqual(["30 1", "20 1", "20 2", "10 1"]);
});

test("histogramOf counts per level and bucket, and only in range", () => {
  const lines = toLines([stream(["1000000000", "1500000000", "2000000000", "99000000000"], { level: "info" }), stream(["1000000000"], { level: "error" })]);
  const histogram = histogramOf(lines, { from: unixMs(1000), to: unixMs(4000) }, durationMs(1000));
  expect(histogram.times).toEqual([1000, 2000, 3000]);
  expect(histogram.levels).toEqual([
    { level: "error", counts: [1, 0, 0] },
    { level: "info", counts: [2, 1, 0] },
  ]);
});

test("queries", () => {
  expect(volumeQuery(' {a="b"} |= "x" ', "10s")).toBe('sum by (detected_level) (count_over_time({a="b"} |= "x" | drop __error__ [10s]))');
  expect(isMetricQuery('{a="b"} | json')).toBe(false);
  expect(isMetricQuery(' sum(rate({a="b"}[1m]))')).toBe(true);
});

test.each([
  ['{a="b"}', true],
  ["", true],
  ['sum by (level) (rate({a="b"}[1m]))', true],
  ['(topk(3, count_over_time({a="b"} [5m])))', true],
  ["timeout", false],
  ['"payment failed" -debug', false],
  ["status:>499 path:/api/*", false],
  ["failed (twice)", false],
])("%s is LogQL: %s", (text, is) => {
  expect(isLogQuery(text)).toBe(is);
});
