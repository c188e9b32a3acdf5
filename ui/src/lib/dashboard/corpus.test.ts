// Real dashboards, when the folder with them is at hand: every panel is read, no query keeps a variable.
/// <reference types="node" />
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { unixMs } from "../brand";
import { readDashboard } from "./model";
import { chooseValue, interpolate, macros, staticOptions, type VariableValue } from "./variables";

const folder = process.env["TREFOIL_DASHBOARDS"] ?? join(process.cwd(), "../../shared/dashboards-corpus");
const files = existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String).filter((name) => name.endsWith(".json") && !name.includes("MANIFEST")) : [];

const range = { from: unixMs(0), to: unixMs(3_600_000) };

interface RawPanel {
  type?: string;
  panels?: RawPanel[];
}

/** Panels as they stand in the file, rows left out. */
function count(json: { panels?: RawPanel[]; rows?: { panels?: RawPanel[] }[] }): number {
  const own = (panels: RawPanel[] = []): number => panels.reduce((sum, p) => sum + (p.type === "row" ? 0 : 1) + own(p.panels), 0);
  return own(json.panels) + (json.rows ?? []).reduce((sum, row) => sum + own(row.panels), 0);
}

test.skipIf(files.length === 0).each(files)("%s", (file) => {
  const json = JSON.parse(readFileSync(join(folder, file), "utf8"));
  const dashboard = readDashboard(json);
  expect(dashboard.panels.filter((p) => p.kind !== "row").length).toBe(count(json.dashboard ?? json));
  expect(new Set(dashboard.panels.map((p) => p.id)).size).toBe(dashboard.panels.length);
  const values = new Map<string, VariableValue>(macros(range, 300));
  for (const variable of dashboard.variables) values.set(variable.name, chooseValue(variable, variable.type === "query" ? ["a", "b"] : staticOptions(variable), []));
  for (const panel of dashboard.panels) {
    for (const target of panel.targets) {
      const sent = interpolate(target.expr, values);
      // Names the dashboard does not define stay as they are.
      const left = [...sent.matchAll(/\$\{?(\w+)|\[\[(\w+)/g)].map((m) => m[1] ?? m[2] ?? "");
      expect(left.filter((name) => values.has(name)), `${panel.title}: ${sent}`).toEqual([]);
    }
  }
});
