import { expect, test } from "vitest";
import { formatCount, formatValue } from "./format";

test.each<[number | null, string, number | undefined, string]>([
  [null, "short", undefined, "–"],
  [Number.NaN, "short", undefined, "–"],
  [Number.POSITIVE_INFINITY, "short", undefined, "+∞"],
  [0, "short", undefined, "0"],
  [1536, "short", undefined, "1.54 K"],
  [2_500_000, "short", undefined, "2.5 Mil"],
  [0.00123, "short", undefined, "0.00123"],
  [1536, "bytes", undefined, "1.5 KiB"],
  [1500, "decbytes", undefined, "1.5 kB"],
  [0, "bytes", undefined, "0 B"],
  [-2048, "bytes", undefined, "-2 KiB"],
  [42.123, "percent", undefined, "42.12%"],
  [0.5, "percentunit", undefined, "50%"],
  [0.5, "percentunit", 1, "50.0%"],
  [0.25, "s", undefined, "250 ms"],
  [90, "s", undefined, "1 min 30 s"],
  [1500, "ms", undefined, "1.5 s"],
  [1500, "ops", undefined, "1.5K ops/s"],
  [12, "reqps", undefined, "12 req/s"],
  [1_500_000, "Bps", undefined, "1.5 MB/s"],
  [1, "bool", undefined, "True"],
  [3, "cores", undefined, "3 cores"],
  [3, "suffix:rows/s", undefined, "3 rows/s"],
  [1234.5, "none", 2, "1234.50"],
  [12, "", undefined, "12"],
])("formatValue(%s, %j, %s)", (value, unit, decimals, want) => expect(formatValue(value, unit, decimals)).toBe(want));

test("formatCount", () => expect(formatCount(1_234_567)).toBe("1\u202f234\u202f567"));
