import { expect, test } from "vitest";
import { durationMs, unixMs } from "../brand";
import { describeRange, parseTime, resolveRange, shift, stepFor, zoomOut } from "./range";

const NOW = unixMs(Date.UTC(2026, 10, 21, 12, 34, 56, 789));

test.each([
  ["now", NOW],
  ["now-15m", NOW - 900_000],
  ["now-1h30m", NOW - 5_400_000],
  ["now+1h", NOW + 3_600_000],
  ["1763728496", 1_763_728_496_000],
  ["1763728496789", 1_763_728_496_789],
  ["1763728496789000000", 1_763_728_496_789],
  ["2026-11-21T10:00:00Z", Date.UTC(2026, 10, 21, 10)],
  ["yesterday", undefined],
  ["now-", undefined],
  ["now-5x", undefined],
  ["", undefined],
])("parseTime(%j)", (text, want) => expect(parseTime(text, NOW)).toBe(want));

test("now/d is the start of the local day, rounded up its end", () => {
  const start = new Date(NOW);
  start.setHours(0, 0, 0, 0);
  expect(parseTime("now/d", NOW)).toBe(start.getTime());
  const next = new Date(start);
  next.setDate(next.getDate() + 1);
  expect(parseTime("now/d", NOW, true)).toBe(next.getTime());
});

test.each([
  [{ from: "now-1h", to: "now" }, NOW - 3_600_000, NOW],
  [{ from: "now", to: "now-1h" }, NOW - 3_600_000, NOW],
  [{ from: "nonsense", to: "now" }, NOW - 3_600_000, NOW],
  [{ from: "1000000000000", to: "1000000001000" }, 1_000_000_000_000, 1_000_000_001_000],
])("resolveRange(%j)", (raw, from, to) => expect(resolveRange(raw, NOW)).toEqual({ from, to }));

test.each([
  [3_600_000, 400, 1000, 10_000],
  [3_600_000, 400, 15_000, 15_000],
  [300_000, 400, 1000, 1000],
  [7 * 86_400_000, 400, 1000, 1_800_000],
  [365 * 86_400_000, 100, 1000, 345_600_000],
])("stepFor(%d ms, %d points, min %d)", (width, points, min, want) => {
  expect(stepFor({ from: unixMs(0), to: unixMs(width) }, points, durationMs(min))).toBe(want);
});

test("zoomOut and shift", () => {
  const range = { from: unixMs(1000), to: unixMs(3000) };
  expect(zoomOut(range)).toEqual({ from: 0, to: 4000 });
  expect(shift(range, -1)).toEqual({ from: 0, to: 2000 });
  expect(shift(range, 1)).toEqual({ from: 2000, to: 4000 });
});

test.each([
  [{ from: "now-1h", to: "now" }, "Last hour"],
  [{ from: "now-90m", to: "now" }, "Last 90m"],
])("describeRange(%j)", (raw, want) => expect(describeRange(raw, NOW)).toBe(want));
