import { describe, expect, test } from "vitest";
import { unixMs } from "../brand";
import { readDashboard, sections, thresholdColor, type Variable } from "./model";
import { reduceSeries } from "./reduce";
import { ALL, chooseValue, filterOptions, interpolate, macros, parseVariableQuery, sortOptions, staticOptions, type VariableValue } from "./variables";
import { slug } from "./slug";

const one = (value: string): VariableValue => ({ values: [value], multi: false, all: undefined });
const many = (...values: string[]): VariableValue => ({ values, multi: true, all: undefined });

describe("interpolate", () => {
  const values = new Map([
    ["job", one("api")],
    ["node", many("a.b", "c")],
    ["single", many("x+y")],
    ["all", { values: ["a", "b"], multi: true, all: ".+" }],
    ["__rate_interval", one("1m")],
    ["nested", { values: [], multi: true, all: "$job-.*" }],
    ["loop", { values: [], multi: true, all: "$loop!" }],
  ]);
  test.each([
    ['up{job="$job"}', 'up{job="api"}'],
    ['up{job="${job}"}', 'up{job="api"}'],
    ['up{job="[[job]]"}', 'up{job="api"}'],
    ['up{n=~"$node"}', 'up{n=~"(a\\\\.b|c)"}'],
    ['up{n=~"$single"}', 'up{n=~"x\\\\+y"}'],
    ["${node:pipe}", "a.b|c"],
    ["${node:csv}", "a.b,c"],
    ["${node:regex}", "(a\\.b|c)"],
    ["${node:text}", "a.b + c"],
    ["${node:json}", '["a.b","c"]'],
    ["${node:singlequote}", "'a.b','c'"],
    ["${node:glob}", "{a.b,c}"],
    ['up{n=~"$all"}', 'up{n=~".+"}'],
    ["rate(x[$__rate_interval])", "rate(x[1m])"],
    ["$unknown ${unknown:csv} [[unknown]]", "$unknown ${unknown:csv} [[unknown]]"],
    ["$jobless", "$jobless"],
    ["$nested", "api-.*"],
    ["$loop", "$loop!"],
  ])("%s", (text, want) => expect(interpolate(text, values)).toBe(want));
});

test("macros follow the range and the panel", () => {
  const read = (points: number, min?: string) => {
    const m = macros({ from: unixMs(0), to: unixMs(3_600_000) }, points, undefined, min);
    return ["__interval", "__rate_interval", "__range", "__range_s", "__interval_ms"].map((k) => m.get(k)?.values[0]).join(" ");
  };
  expect(read(500)).toBe("15s 1m 3600s 3600 15000");
  expect(read(30)).toBe("2m 2m15s 3600s 3600 120000");
  expect(read(500, ">1m")).toBe("1m 1m15s 3600s 3600 60000");
});

test.each([
  ["label_values(up, job)", { kind: "label_values", selector: "up", label: "job" }],
  ['label_values(up{a="x,y",b=~"c|d"}, job)', { kind: "label_values", selector: 'up{a="x,y",b=~"c|d"}', label: "job" }],
  ["label_values(job)", { kind: "label_values", selector: "", label: "job" }],
  ["label_names()", { kind: "label_names" }],
  ["metrics(node_.*)", { kind: "metrics", regex: "node_.*" }],
  ["query_result(sum by (a) (up))", { kind: "query_result", expr: "sum by (a) (up)" }],
  ["up{a=\"b\"}", { kind: "series", selector: 'up{a="b"}' }],
  ["other(x)", { kind: "unknown" }],
  ["", { kind: "unknown" }],
])("parseVariableQuery(%j)", (query, want) => expect(parseVariableQuery(query)).toEqual(want));

test.each([
  ["", ["a", "b", "a"], ["a", "b"]],
  ["/^a(.*)$/", ["abc", "xyz"], ["bc"]],
  ['/instance="(?<value>[^"]+)"/', ['{instance="h:1"} 1'], ["h:1"]],
  ["/prod/", ["prod-1", "test"], ["prod-1"]],
  ["/(/", ["a"], ["a"]],
])("filterOptions %j", (regex, options, want) => expect(filterOptions(options, regex)).toEqual(want));

test("sortOptions", () => {
  expect(sortOptions(["b", "a"], 0)).toEqual(["b", "a"]);
  expect(sortOptions(["b", "a"], 2)).toEqual(["b", "a"]);
  expect(sortOptions(["n10", "n2"], 3)).toEqual(["n2", "n10"]);
  expect(sortOptions(["B", "a"], 5)).toEqual(["a", "B"]);
});

const variable = (more: Partial<Variable>): Variable => ({ name: "v", label: "v", type: "query", query: "", regex: "", multi: false, includeAll: false, allValue: "", hidden: false, current: [], sort: 0, ...more });

test.each<[string, Partial<Variable>, string[], string[], VariableValue]>([
  ["first option when nothing is chosen", {}, ["a", "b"], [], one("a")],
  ["what was saved", { current: ["b"] }, ["a", "b"], [], one("b")],
  ["saved but gone", { current: ["z"] }, ["a", "b"], [], one("a")],
  ["the URL wins", { current: ["b"] }, ["a", "b"], ["c"], one("c")],
  ["All without allValue is every option", { includeAll: true, multi: true, current: [ALL] }, ["a", "b"], [], { values: ["a", "b"], multi: true, all: undefined }],
  ["All with allValue", { includeAll: true, current: ["All"], allValue: ".*" }, ["a"], [], { values: ["a"], multi: true, all: ".*" }],
  ["several", { multi: true }, ["a", "b", "c"], ["a", "c"], many("a", "c")],
  ["a text box", { type: "textbox", query: "x" }, [], [], one("x")],
])("chooseValue: %s", (_, v, options, url, want) => expect(chooseValue(variable(v), options, url)).toEqual(want));

test.each([
  [{ type: "custom", query: "a, b\\,c ,name : value" }, ["a", "b,c", "value"]],
  [{ type: "interval", query: "1m,5m" }, ["1m", "5m"]],
  [{ type: "query" }, []],
])("staticOptions(%j)", (v, want) => expect(staticOptions(variable(v as Partial<Variable>))).toEqual(want));

describe("readDashboard", () => {
  test("reads panels, nested rows and targets", () => {
    const d = readDashboard({
      dashboard: {
        uid: "u", title: "T", tags: ["x", 3],
        panels: [
          { id: 3, type: "row", title: "R", collapsed: true, gridPos: { x: 0, y: 9, w: 24, h: 1 }, panels: [{ id: 4, type: "stat", gridPos: { x: 0, y: 10, w: 6, h: 4 }, targets: [{ expr: "up" }] }] },
          { id: 1, type: "timeseries", title: "A", gridPos: { x: 0, y: 0, w: 12, h: 8 }, fieldConfig: { defaults: { unit: "bytes", custom: { fillOpacity: 30, stacking: { mode: "normal" } }, thresholds: { steps: [{ value: null, color: "green" }, { value: 80, color: "red" }] } } }, targets: [{ refId: "A", expr: "x", legendFormat: "{{a}}", datasource: { type: "prometheus", uid: "$ds" } }, { refId: "B", expr: "" }] },
          { id: 2, type: "logs", gridPos: { x: 12, y: 0, w: 12, h: 8 }, targets: [{ expr: '{a="b"}' }] },
          { id: 5, type: "canvas", gridPos: { x: 0, y: 20, w: 99, h: 8 } },
        ],
      },
    });
    expect(d.panels.map((p) => `${p.id} ${p.kind}`)).toEqual(["1 timeseries", "2 logs", "3 row", "4 stat", "5 unsupported"]);
    expect(d.panels[0]).toMatchObject({ unit: "bytes", stacked: true, fill: 0.3, targets: [{ refId: "A", language: "promql" }] });
    expect(d.panels[1]?.targets[0]?.language).toBe("logql");
    expect(d.panels[4]?.w).toBe(24);
    const parts = sections(d);
    expect(parts.map((s) => [s.row?.title, s.panels.map((p) => [p.id, p.y])])).toEqual([[undefined, [[1, 0], [2, 0]]], ["R", [[4, 0], [5, 10]]]]);
  });

  test("reads the layout before schema 16, and legacy panel types", () => {
    const d = readDashboard({ rows: [{ height: "250px", title: "Row", showTitle: true, panels: [{ type: "graph", span: 6, yaxes: [{ format: "s", min: 0 }], targets: [{ expr: "x" }] }, { type: "singlestat", span: 6, valueName: "avg", format: "percent" }] }] });
    expect(d.panels.map((p) => [p.kind, p.x, p.y, p.w, p.h])).toEqual([["row", 0, 0, 24, 1], ["timeseries", 0, 1, 12, 7], ["stat", 12, 1, 12, 7]]);
    expect(d.panels[1]).toMatchObject({ unit: "s", min: 0 });
    expect(d.panels[2]).toMatchObject({ unit: "percent", calc: "mean" });
    expect(new Set(d.panels.map((p) => p.id)).size).toBe(3);
  });

  test.each([null, 3, "x", [], {}, { panels: [null, 1, "x", { type: 7 }], templating: { list: [null, {}] } }])("survives %j", (json) => {
    expect(readDashboard(json).title).toBe("Untitled");
  });

  test("repeated ids are told apart, constant inputs are filled in", () => {
    const d = readDashboard({ __inputs: [{ name: "VAR_X", type: "constant", value: 'a"b' }], panels: [{ id: 1, type: "stat", title: "${VAR_X}" }, { id: 1, type: "stat" }] });
    expect(d.panels.map((p) => p.id)).toEqual([1, 1_000_001]);
    expect(d.panels[0]?.title).toBe('a"b');
  });

  test("mappings", () => {
    const d = readDashboard({ panels: [{ type: "stat", fieldConfig: { defaults: { mappings: [{ type: "value", options: { "1": { text: "UP", color: "green" } } }, { type: "special", options: { match: "null", result: { text: "N/A" } } }, { value: "0", text: "DOWN" }] } } }] });
    expect(d.panels[0]?.mappings).toEqual([
      { match: "1", text: "UP", color: "green" },
      { match: "null", text: "N/A", color: undefined },
      { match: "0", text: "DOWN", color: undefined },
    ]);
  });
});

test("thresholdColor", () => {
  const steps = [{ value: Number.NEGATIVE_INFINITY, color: "green" }, { value: 10, color: "red" }];
  expect(thresholdColor(steps, 9)).toBe("green");
  expect(thresholdColor(steps, 10)).toBe("red");
  expect(thresholdColor(steps, null)).toBeUndefined();
  expect(thresholdColor([], 1)).toBeUndefined();
});

test.each([
  ["lastNotNull", 3], ["last", null], ["first", 1], ["min", 1], ["max", 3], ["mean", 2], ["sum", 6], ["count", 4], ["range", 2], ["diff", 2],
])("reduceSeries %s", (calc, want) => expect(reduceSeries([1, 2, 3, null], calc)).toBe(want));

test("reduceSeries of nothing", () => expect(reduceSeries([], "mean")).toBeNull());

test.each([["My Dash / 2", "my-dash-2"], ["Übersicht", "u-bersicht"], ["***", "dashboard"]])("slug(%j)", (title, want) => expect(slug(title)).toBe(want));
