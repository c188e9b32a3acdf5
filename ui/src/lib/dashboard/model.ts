// Grafana's dashboard JSON read into the one model the page draws. Pure: JSON in, model out.
// What is not understood is left out, never an error: a dashboard always opens.

export type PanelKind = "timeseries" | "stat" | "gauge" | "bargauge" | "table" | "logs" | "text" | "row" | "unsupported";

export interface Threshold {
  readonly value: number; // -Infinity for the base step
  readonly color: string;
}

export interface Mapping {
  readonly match: string; // exact value
  readonly text: string;
  readonly color: string | undefined;
}

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legend: string;
  readonly instant: boolean;
  readonly hidden: boolean;
  readonly language: "promql" | "logql" | "other";
  readonly interval: string;
}

export interface Panel {
  readonly id: number;
  readonly kind: PanelKind;
  readonly type: string; // as written
  readonly title: string;
  readonly description: string;
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
  readonly targets: readonly Target[];
  readonly unit: string;
  readonly decimals: number | undefined;
  readonly min: number | undefined;
  readonly max: number | undefined;
  readonly thresholds: readonly Threshold[];
  readonly mappings: readonly Mapping[];
  readonly stacked: boolean;
  readonly bars: boolean;
  readonly fill: number; // 0..1
  readonly legendShown: boolean;
  readonly calc: string;
  readonly content: string;
  readonly collapsed: boolean;
  readonly overrides: readonly Override[];
  readonly maxDataPoints: number | undefined;
  readonly noValue: string;
}

export interface Override {
  readonly by: "name" | "regex" | "ref";
  readonly match: string;
  readonly unit: string | undefined;
  readonly color: string | undefined;
  readonly displayName: string | undefined;
}

export interface Variable {
  readonly name: string;
  readonly label: string;
  readonly type: "query" | "custom" | "interval" | "datasource" | "constant" | "textbox" | "other";
  readonly query: string;
  readonly regex: string;
  readonly multi: boolean;
  readonly includeAll: boolean;
  readonly allValue: string;
  readonly hidden: boolean;
  readonly current: readonly string[];
  readonly sort: number;
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly from: string;
  readonly to: string;
  readonly refresh: string;
  readonly variables: readonly Variable[];
  readonly panels: readonly Panel[]; // sorted by place; panels of a collapsed row follow it
}

type Json = Record<string, unknown>;

const object = (v: unknown): Json => (typeof v === "object" && v !== null && !Array.isArray(v) ? (v as Json) : {});
const list = (v: unknown): unknown[] => (Array.isArray(v) ? v : []);
const text = (v: unknown, fallback = ""): string => (typeof v === "string" ? v : typeof v === "number" ? `${v}` : fallback);
const number = (v: unknown): number | undefined => {
  const n = typeof v === "string" && v.trim() !== "" ? Number(v) : v;
  return typeof n === "number" && Number.isFinite(n) ? n : undefined;
};

const KINDS: Record<string, PanelKind> = {
  timeseries: "timeseries",
  graph: "timeseries",
  barchart: "timeseries",
  stat: "stat",
  singlestat: "stat",
  gauge: "gauge",
  bargauge: "bargauge",
  table: "table",
  "table-old": "table",
  logs: "logs",
  text: "text",
  row: "row",
};

export function readDashboard(json: unknown): Dashboard {
  const outer = object(json);
  const root = fillInputs(outer["dashboard"] ? object(outer["dashboard"]) : outer);
  const time = object(root["time"]);
  return {
    uid: text(root["uid"]),
    title: text(root["title"], "Untitled"),
    description: text(root["description"]),
    tags: list(root["tags"]).map((tag) => text(tag)).filter(Boolean),
    from: text(time["from"]),
    to: text(time["to"]),
    refresh: text(root["refresh"]),
    variables: list(object(root["templating"])["list"]).map(readVariable).filter((v) => v.name !== ""),
    panels: readPanels(root),
  };
}

/** Exports name what the importer should ask for; constants come with a value, which is taken. */
function fillInputs(root: Json): Json {
  const inputs = list(root["__inputs"])
    .map(object)
    .filter((input) => input["type"] === "constant" && text(input["name"]) !== "");
  if (inputs.length === 0) return root;
  let written = JSON.stringify(root);
  for (const input of inputs) {
    written = written.split(`\${${text(input["name"])}}`).join(JSON.stringify(text(input["value"])).slice(1, -1));
  }
  return object(JSON.parse(written));
}

function readPanels(root: Json): Panel[] {
  const panels: Panel[] = [];
  const top = list(root["panels"]).map(object);
  const byPlace = (a: Json, b: Json): number => {
    const [p, q] = [object(a["gridPos"]), object(b["gridPos"])];
    return (number(p["y"]) ?? 0) - (number(q["y"]) ?? 0) || (number(p["x"]) ?? 0) - (number(q["x"]) ?? 0);
  };
  for (const raw of [...top].sort(byPlace)) {
    panels.push(readPanel(raw));
    if (raw["type"] === "row") for (const nested of list(raw["panels"]).map(object)) panels.push(readPanel(nested));
  }
  // Before schema 16 panels stood in rows of 12 columns.
  let y = 0;
  for (const row of list(root["rows"]).map(object)) {
    const height = Math.max(3, Math.round((number(row["height"]) ?? number(text(row["height"]).replace("px", "")) ?? 250) / 38));
    const title = text(row["title"]);
    const shown = row["showTitle"] === true || row["collapse"] === true;
    if (shown) panels.push(readPanel({ type: "row", title, collapsed: row["collapse"] === true, gridPos: { x: 0, y: y++, w: 24, h: 1 } }));
    let x = 0;
    for (const raw of list(row["panels"]).map(object)) {
      const w = Math.min(24, (number(raw["span"]) ?? 12) * 2);
      if (x + w > 24) {
        x = 0;
        y += height;
      }
      panels.push(readPanel({ ...raw, gridPos: { x, y, w, h: height } }));
      x += w;
    }
    y += height;
  }
  // Copies by hand leave ids twice; the page needs them to differ.
  const taken = new Set<number>();
  return panels.map((panel, index) => {
    const id = panel.id > 0 && !taken.has(panel.id) ? panel.id : 1_000_000 + index;
    taken.add(id);
    return { ...panel, id };
  });
}

function readPanel(raw: Json): Panel {
  const type = text(raw["type"]);
  const kind = KINDS[type] ?? "unsupported";
  const grid = object(raw["gridPos"]);
  const options = object(raw["options"]);
  const defaults = object(object(raw["fieldConfig"])["defaults"]);
  const custom = object(defaults["custom"]);
  const stacking = object(custom["stacking"]);
  const legacyAxis = object(list(raw["yaxes"])[0]);
  const legend = object(options["legend"]);
  const calcs = list(object(options["reduceOptions"])["calcs"]);
  const thresholds = list(object(defaults["thresholds"])["steps"]).map(object);
  return {
    id: number(raw["id"]) ?? 0,
    kind,
    type,
    title: text(raw["title"]),
    description: text(raw["description"]),
    x: Math.max(0, Math.min(23, number(grid["x"]) ?? 0)),
    y: Math.max(0, number(grid["y"]) ?? 0),
    w: Math.max(1, Math.min(24, number(grid["w"]) ?? 12)),
    h: Math.max(1, Math.min(100, number(grid["h"]) ?? 8)),
    targets: list(raw["targets"]).map(object).map((target) => readTarget(target, raw, kind)).filter((t) => t.expr !== ""),
    unit: text(defaults["unit"]) || text(raw["format"]) || text(legacyAxis["format"]),
    decimals: number(defaults["decimals"]) ?? number(raw["decimals"]),
    min: number(defaults["min"]) ?? number(legacyAxis["min"]),
    max: number(defaults["max"]) ?? number(legacyAxis["max"]),
    thresholds: thresholds.map((step) => ({ value: number(step["value"]) ?? Number.NEGATIVE_INFINITY, color: text(step["color"]) })),
    mappings: readMappings(defaults["mappings"]),
    stacked: ["normal", "percent"].includes(text(stacking["mode"])) || raw["stack"] === true,
    bars: text(custom["drawStyle"]) === "bars" || raw["bars"] === true || type === "barchart",
    fill: Math.min(1, (number(custom["fillOpacity"]) ?? (number(raw["fill"]) ?? 0) * 10) / 100),
    legendShown: legend["showLegend"] !== false && text(legend["displayMode"]) !== "hidden" && object(raw["legend"])["show"] !== false,
    calc: text(calcs[0]) || legacyCalc(text(raw["valueName"])),
    content: text(options["content"]) || text(raw["content"]),
    collapsed: raw["collapsed"] === true,
    overrides: list(object(raw["fieldConfig"])["overrides"]).map(readOverride).filter((o): o is Override => o !== undefined),
    maxDataPoints: number(raw["maxDataPoints"]),
    noValue: text(defaults["noValue"]),
  };
}

const legacyCalc = (name: string): string =>
  ({ avg: "mean", current: "lastNotNull", min: "min", max: "max", total: "sum" })[name] ?? "lastNotNull";

function readTarget(target: Json, panel: Json, kind: PanelKind): Target {
  const source = target["datasource"] ?? panel["datasource"];
  const sourceName = (typeof source === "string" ? source : `${text(object(source)["type"])} ${text(object(source)["uid"])}`).toLowerCase();
  const expr = text(target["expr"]);
  const logql = kind === "logs" || sourceName.includes("loki");
  return {
    refId: text(target["refId"], "A"),
    expr,
    legend: text(target["legendFormat"]),
    instant: target["instant"] === true && target["range"] !== true,
    hidden: target["hide"] === true,
    language: expr === "" ? "other" : logql ? "logql" : "promql",
    interval: text(target["interval"]) || text(panel["interval"]),
  };
}

function readMappings(raw: unknown): Mapping[] {
  const mappings: Mapping[] = [];
  for (const mapping of list(raw).map(object)) {
    if (mapping["type"] === "value") {
      for (const [match, result] of Object.entries(object(mapping["options"]))) {
        mappings.push({ match, text: text(object(result)["text"], match), color: text(object(result)["color"]) || undefined });
      }
    } else if (mapping["type"] === "special") {
      const options = object(mapping["options"]);
      mappings.push({
        match: text(options["match"]),
        text: text(object(options["result"])["text"]),
        color: text(object(options["result"])["color"]) || undefined,
      });
    } else if (mapping["value"] !== undefined) {
      mappings.push({ match: text(mapping["value"]), text: text(mapping["text"]), color: undefined });
    }
  }
  return mappings;
}

function readOverride(raw: unknown): Override | undefined {
  const matcher = object(object(raw)["matcher"]);
  const by = ({ byName: "name", byRegexp: "regex", byFrameRefID: "ref" } as const)[text(matcher["id"]) as "byName"];
  if (!by) return undefined;
  const properties = new Map(list(object(raw)["properties"]).map(object).map((p) => [text(p["id"]), p["value"]]));
  return {
    by,
    match: text(matcher["options"]),
    unit: text(properties.get("unit")) || undefined,
    color: text(object(properties.get("color"))["fixedColor"]) || undefined,
    displayName: text(properties.get("displayName")) || undefined,
  };
}

function readVariable(raw: unknown): Variable {
  const v = object(raw);
  const type = text(v["type"]);
  const query = v["query"];
  const current = object(v["current"])["value"];
  return {
    name: text(v["name"]),
    label: text(v["label"]) || text(v["name"]),
    type: (["query", "custom", "interval", "datasource", "constant", "textbox"] as const).find((known) => known === type) ?? "other",
    query: typeof query === "string" ? query : text(object(query)["query"]) || text(v["definition"]),
    regex: text(v["regex"]),
    multi: v["multi"] === true,
    includeAll: v["includeAll"] === true,
    allValue: text(v["allValue"]),
    hidden: v["hide"] === 2 || type === "constant",
    current: (Array.isArray(current) ? current : current === undefined || current === "" ? [] : [current]).map((c) => text(c)),
    sort: number(v["sort"]) ?? 0,
  };
}

export interface Section {
  readonly row: Panel | undefined;
  readonly panels: readonly Panel[];
}

/** Panels grouped under the row that heads them; rows are drawn full width, each section on its own grid. */
export function sections(dashboard: Dashboard): Section[] {
  const out: { row: Panel | undefined; panels: Panel[] }[] = [];
  for (const panel of dashboard.panels) {
    if (panel.kind === "row") out.push({ row: panel, panels: [] });
    else {
      if (out.length === 0) out.push({ row: undefined, panels: [] });
      out[out.length - 1]?.panels.push(panel);
    }
  }
  return out.map(({ row, panels }) => {
    const top = Math.min(...panels.map((panel) => panel.y));
    return { row, panels: panels.map((panel) => ({ ...panel, y: panel.y - top })) };
  });
}

/** The colour of the last threshold at or below `value`. */
export function thresholdColor(thresholds: readonly Threshold[], value: number | null): string | undefined {
  if (value === null || thresholds.length === 0) return undefined;
  let color = thresholds[0]?.color;
  for (const step of thresholds) if (value >= step.value) color = step.color;
  return color;
}
