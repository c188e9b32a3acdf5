import { describe, expect, test } from "vitest";
import { ofJob, ofLabel, ofMetric, ofPair, percent, share } from "./cardinality";

describe("queries behind the rows", () => {
  test.each([
    [ofMetric("up"), 'topk(50, count by (job, instance) ({__name__="up"}))'],
    [ofJob('a"b'), 'topk(50, count by (__name__) ({job="a\\"b"}))'],
    [ofLabel("pod"), 'topk(50, count by (pod) ({pod!=""}))'],
    [ofLabel("user.id", "hits"), 'topk(50, count by ("user.id") ({__name__="hits"}))'],
    [ofPair("path=/a=b"), 'topk(50, count by (__name__) ({path="/a=b"}))'],
    [ofPair("__name__=up"), 'topk(50, count by (job, instance) ({__name__="up"}))'],
  ])("%s", (got, want) => expect(got).toBe(want));
});

test.each([
  [share(1, 4), 0.25, "25 %"],
  [share(5, 4), 1, "100 %"],
  [share(1, 0), 0, "0.0 %"],
  [share(1, 100_000), 0.00001, "< 0.1 %"],
  [share(5, 400), 0.0125, "1.3 %"],
])("share %d", (got, want, text) => {
  expect(got).toBe(want);
  expect(percent(got)).toBe(text);
});
