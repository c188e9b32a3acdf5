import { expect, test } from "vitest";
import { addLabelFilter, addMatcher, distinguishing, formatLabels, formatLegend } from "./labels";

test.each([
  [{}, "{}"],
  [{ __name__: "up" }, "up"],
  [{ __name__: "up", job: "a", instance: "b" }, 'up{instance="b", job="a"}'],
  [{ job: 'say "hi"\\' }, '{job="say \\"hi\\"\\\\"}'],
  [{ "http.route": "/" }, '{"http.route"="/"}'],
])("formatLabels(%j)", (labels, want) => expect(formatLabels(labels as Record<string, string>)).toBe(want));

test.each([
  ["{{job}} on {{ instance }}", "api on a:1"],
  ["{{missing}}", ""],
  ["fixed", "fixed"],
  ["", 'up{instance="a:1", job="api"}'],
])("formatLegend(%j)", (template, want) => {
  expect(formatLegend(template, { __name__: "up", job: "api", instance: "a:1" })).toBe(want);
});

test("an automatic legend shows only what differs", () => {
  const all = [{ job: "api", instance: "a" }, { job: "api", instance: "b" }];
  expect(distinguishing(all)).toEqual(["instance"]);
  expect(formatLegend("__auto", all[0] ?? {}, all)).toBe("a");
  expect(formatLegend("__auto", { __name__: "up", job: "x" }, [{ __name__: "up", job: "x" }])).toBe("up");
});

test.each([
  ["", '{app="x"}'],
  ['{service_name=~".+"}', '{app="x"}'],
  ['{job="a"} |= "}"', '{job="a", app="x"} |= "}"'],
  ['{job="a}b"} | json', '{job="a}b", app="x"} | json'],
  ['{app="x"}', '{app="x"}'],
  ["{job=`a}`}", '{job=`a}`, app="x"}'],
  ["{}", '{app="x"}'],
  ["{unclosed", "{unclosed"],
])("addMatcher(%j)", (query, want) => expect(addMatcher(query, "app", "=", "x")).toBe(want));

test("a negative matcher keeps the placeholder: a selector must match something", () => {
  expect(addMatcher('{service_name=~".+"}', "app", "!=", "x")).toBe('{service_name=~".+", app!="x"}');
});

test("addLabelFilter quotes", () => expect(addLabelFilter('{a="b"} ', "k", "=", 'v"')).toBe('{a="b"} | k="v\\""'));
