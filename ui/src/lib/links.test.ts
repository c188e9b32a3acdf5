import { expect, test } from "vitest";
import { colorIndex, assignColors, dashboardColor } from "./colors";
import { ownTelemetryOnly, snippets } from "./first-run";
import { grafanaExplore, promGraphParams } from "./foreign-links";
import { parsePeek, tracePeek } from "./peek";

test.each([
  ["g0.expr=up&g0.tab=1&g0.range_input=2h", { q: "up", view: "table", from: "now-2h", to: "now" }],
  ["g0.expr=up&g0.range_input=1h&g0.end_input=2026-11-21 10:00:00", { q: "up", from: `${Date.UTC(2026, 10, 21, 9)}`, to: `${Date.UTC(2026, 10, 21, 10)}` }],
  ["g0.expr=up&g0.tab=graph", { q: "up" }],
  ["", { q: undefined }],
])("promGraphParams(%j)", (search, want) => expect(promGraphParams(new URLSearchParams(search))).toEqual(want));

test.each([
  ["trace:abc123", { traceId: "abc123", spanId: undefined }],
  ["trace:ABC:span:00f0", { traceId: "abc", spanId: "00f0" }],
  ["trace:abc:00f0", { traceId: "abc", spanId: "00f0" }],
  ["trace:xyz", undefined],
  ["log:1", undefined],
])("parsePeek(%j)", (text, want) => expect(parsePeek(text)).toEqual(want));

test("tracePeek is read back", () => expect(parsePeek(tracePeek("ab", "cd"))).toEqual({ traceId: "ab", spanId: "cd" }));

test("colours are stable and distinct while there are enough", () => {
  expect(colorIndex("checkout")).toBe(colorIndex("checkout"));
  const names = Array.from({ length: 12 }, (_, n) => `service-${n}`);
  expect(new Set(assignColors(names).values()).size).toBe(12);
  expect(assignColors(["b", "a"])).toEqual(assignColors(["a", "b", "a"]));
});

test.each([
  ["semi-dark-orange", "var(--series-2)"],
  ["#abc", "#abc"],
  ["rgba(1, 2, 3, 0.5)", "rgba(1, 2, 3, 0.5)"],
  ["url(x)", "var(--series-1)"],
  [undefined, "var(--ok)"],
])("dashboardColor(%j)", (name, want) => expect(dashboardColor(name)).toBe(want));

test("snippets hold this server's address, with its prefix", () => {
  const text = JSON.stringify(snippets(new URL("http://obs.local:9090/trefoil/")));
  expect(text).toContain("http://obs.local:9090/trefoil/api/v1/write");
  expect(text).toContain("obs.local:4317");
  expect(ownTelemetryOnly(["trefoil", "trefoil-agent", ""])).toBe(true);
  expect(ownTelemetryOnly(["trefoil", "shop"])).toBe(false);
});

const range = { from: "now-1h", to: "now" };
test.each([
  [{ left: JSON.stringify({ datasource: "loki", queries: [{ expr: '{a="b"}' }], range }) }, { path: "/logs", params: { q: '{a="b"}', ...range } }],
  [{ panes: JSON.stringify({ x1: { datasource: "uid", queries: [{ expr: "up", datasource: { type: "prometheus", uid: "p" } }], range } }) }, { path: "/explore/metrics", params: { q: "up", ...range } }],
  [{ panes: JSON.stringify({ x1: { queries: [{ query: "4bf92f3577b34da6a3ce929d0e0e4736", datasource: { type: "tempo" } }] } }) }, { path: "/trace/4bf92f3577b34da6a3ce929d0e0e4736", params: { from: undefined, to: undefined } }],
  [{ left: "not json" }, { path: "/explore/metrics", params: {} }],
  [{ left: "[1,2]" }, { path: "/explore/metrics", params: { q: undefined, from: undefined, to: undefined } }],
])("grafanaExplore(%j)", (search, want) => expect(grafanaExplore(new URLSearchParams(search as Record<string, string>))).toEqual(want));
