import { expect, test } from "vitest";
import { durationMs, durationUs } from "../brand";
import { formatAgo, formatDurationUs, parseDuration, promDuration } from "./duration";

test.each([
  ["15s", 15_000],
  ["1h30m", 5_400_000],
  ["1.5s", 1500],
  ["250ms", 250],
  ["10us", 0.01],
  ["2d", 172_800_000],
  ["", undefined],
  ["5", undefined],
  ["1h 30m", undefined],
  ["abc", undefined],
  ["-5m", undefined],
])("parseDuration(%j)", (text, want) => expect(parseDuration(text)).toBe(want));

test.each([
  [15_000, "15s"],
  [90_000, "1m30s"],
  [3_600_000, "1h"],
  [250, "250ms"],
  [0, "1ms"],
  [90_061_001, "1d1h1m1s1ms"],
])("promDuration(%d)", (ms, want) => expect(promDuration(durationMs(ms))).toBe(want));

test.each([
  [0, "0 µs"],
  [0.5, "500 ns"],
  [12, "12 µs"],
  [1234, "1.23 ms"],
  [45_600, "45.6 ms"],
  [567_000, "567 ms"],
  [1_234_567, "1.23 s"],
  [65e6, "1 min 5 s"],
  [3_725e6, "1 h 2 min"],
  [90_000e6, "1 d 1 h"],
])("formatDurationUs(%d)", (us, want) => expect(formatDurationUs(durationUs(us))).toBe(want));

test.each([
  [200, "just now"],
  [12_000, "12 s ago"],
  [3_700_000, "1 h ago"],
])("formatAgo(%d)", (ms, want) => expect(formatAgo(durationMs(ms))).toBe(want));
