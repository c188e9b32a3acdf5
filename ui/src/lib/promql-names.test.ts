import { expect, test } from "vitest";
import { metricNames } from "./promql-names";

test.each([
  ["up", ["up"]],
  ['sum by (job) (rate(http_requests_total{code=~"5..", path="/a{b}"}[5m]))', ["http_requests_total"]],
  ["a / on(x) group_left(y) b", ["a", "b"]],
  ["a + a offset 5m", ["a"]],
  ["sum(rate(x[5m])) by (le) > 1e3 # not_me", ["x"]],
  ["job:rate5m:sum and up == bool 1", ["job:rate5m:sum", "up"]],
  ["vector(1)", []],
  ["", []],
])("metricNames(%j)", (expr, want) => expect(metricNames(expr)).toEqual(want));
