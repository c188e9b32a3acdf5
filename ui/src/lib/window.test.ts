import { expect, test } from "vitest";
import { computeWindow, offsetOf, rowAt } from "./window";

const base = { count: 1000, rowHeight: 20, viewport: 200, overscan: 2 };

test.each([
  ["top", { ...base, extras: [], scrollTop: 0 }, { start: 0, end: 13, offset: 0, total: 20_000 }],
  ["middle", { ...base, extras: [], scrollTop: 2000 }, { start: 98, end: 113, offset: 1960, total: 20_000 }],
  ["end", { ...base, extras: [], scrollTop: 19_800 }, { start: 988, end: 1000, offset: 19_760, total: 20_000 }],
  ["empty", { ...base, count: 0, extras: [], scrollTop: 0 }, { start: 0, end: 0, offset: 0, total: 0 }],
  ["opened row above", { ...base, extras: [{ index: 0, height: 100 }], scrollTop: 2100 }, { start: 98, end: 113, offset: 2060, total: 20_100 }],
  ["inside an opened row", { ...base, extras: [{ index: 5, height: 400 }], scrollTop: 200 }, { start: 3, end: 8, offset: 60, total: 20_400 }],
])("computeWindow: %s", (_, input, want) => expect(computeWindow(input)).toEqual(want));

test("rowAt and offsetOf agree for every row", () => {
  const extras = [{ index: 3, height: 55 }, { index: 4, height: 10 }, { index: 50, height: 1 }];
  for (let index = 0; index < 100; index++) expect(rowAt(offsetOf(index, 20, extras), 100, 20, extras)).toBe(index);
});
