// Fails when the page outgrows its budget: what the first paint loads, and all there is, gzipped.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url);
const KIB = 1024;
const budgets = { firstJs: 150 * KIB, css: 25 * KIB, all: 650 * KIB };

const size = (file) => gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length;
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", dist), "utf8"));

// The entry and everything it imports statically.
const first = new Set();
const visit = (name) => {
  const chunk = manifest[name];
  if (!chunk || first.has(chunk.file)) return;
  first.add(chunk.file);
  for (const next of chunk.imports ?? []) visit(next);
};
for (const [name, chunk] of Object.entries(manifest)) if (chunk.isEntry) visit(name);

const files = readdirSync(new URL("assets/", dist)).map((name) => `assets/${name}`);
const sum = (names) => names.reduce((total, name) => total + size(name), 0);
const found = {
  firstJs: sum([...first].filter((name) => name.endsWith(".js"))),
  css: sum(files.filter((name) => name.endsWith(".css"))),
  all: sum(files),
};
let over = false;
for (const [what, bytes] of Object.entries(found)) {
  over ||= bytes > budgets[what];
  console.log(`${what.padEnd(8)} ${(bytes / KIB).toFixed(1).padStart(7)} KiB gz of ${budgets[what] / KIB} KiB${bytes > budgets[what] ? "  OVER" : ""}`);
}
process.exit(over ? 1 : 0);
