// Made-up answers: a small web shop watched by Trefoil. The same question gives the same answer.
import { readdirSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const hash = (text) => {
  let h = 2166136261;
  for (const char of text) h = Math.imul(h ^ char.charCodeAt(0), 16777619);
  return h >>> 0;
};
const random = (seed) => {
  let s = hash(`${seed}`) || 1;
  return () => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) / 4294967296;
  };
};

export const services = ["checkout", "frontend", "inventory", "payments", "postgres", "trefoil"];
const OPS = {
  frontend: ["GET /", "GET /cart", "POST /checkout"],
  checkout: ["PlaceOrder", "ValidateCart"],
  inventory: ["Reserve", "GetStock"],
  payments: ["Charge", "Refund"],
  postgres: ["SELECT orders", "INSERT orders", "UPDATE stock"],
  trefoil: ["query", "ingest"],
};
export const operations = (service) => OPS[service] ?? [];

const METRICS = [
  "trefoil_ingest_samples_total", "trefoil_ingest_log_records_total", "trefoil_ingest_spans_total", "trefoil_tsdb_series_active",
  "trefoil_tsdb_memtable_bytes", "trefoil_tsdb_parts", "trefoil_events_memtable_bytes", "trefoil_events_parts",
  "trefoil_journal_fsync_duration_seconds_bucket", "trefoil_journal_appended_bytes_total", "trefoil_http_requests_total",
  "trefoil_http_request_duration_seconds_bucket", "process_resident_memory_bytes", "process_cpu_seconds_total", "up",
  "scrape_duration_seconds", "ALERTS", "http_requests_total", "http_request_duration_seconds_bucket", "node_cpu_seconds_total",
  "node_memory_MemAvailable_bytes", "node_filesystem_avail_bytes",
];
export const labelNames = ["__name__", "code", "instance", "job", "le", "method", "mode", "route", "service"];
const VALUES = { __name__: METRICS, job: ["node", "shop", "trefoil"], instance: ["shop-1:8080", "shop-2:8080", "shop-3:8080"], route: ["/api/v1/query_range", "/loki/api/v1/push", "/v1/traces", "/api/v1/write"], code: ["200", "400", "500"], method: ["GET", "POST"] };
export const labelValues = (name) => VALUES[name] ?? [];
export const metadata = (metric) => (METRICS.includes(metric) ? { [metric]: [{ type: metric.endsWith("_total") ? "counter" : "gauge", help: `What ${metric} counts, in one sentence.`, unit: "" }] } : {});

const SCALE = [
  [/\/ sum/, 0.012],
  [/samples/, 48_000], [/log_records/, 2_300], [/spans/, 940], [/series_active/, 128_400], [/memtable_bytes/, 240e6], [/resident_memory/, 610e6],
  [/parts/, 42], [/appended_bytes/, 5.4e6], [/quantile/, 0.012], [/duration/, 0.03], [/cpu/, 0.6], [/^(sum\()?(count\()?up/, 1], [/avail|Avail/, 8e9], [/requests/, 320],
];

function labelSets(expr) {
  const by = /\bby\s*\(([^)]*)\)/.exec(expr)?.[1].split(",").map((s) => s.trim()).filter((s) => s && s !== "le") ?? [];
  if (by.length) {
    let sets = [{}];
    for (const label of by) sets = sets.flatMap((set) => (VALUES[label] ?? ["a", "b"]).filter((v) => label !== "__name__").map((value) => ({ ...set, [label]: value })));
    return sets.slice(0, 24);
  }
  if (/^\(?(sum|avg|max|min|count|histogram_quantile)\b/.test(expr.trim())) return [{}];
  const name = /[a-zA-Z_:][\w:]*(?=\s*(\{|\[|\)|$|[*/+-]))/.exec(expr.replace(/\b(rate|increase|irate|abs)\(/g, ""))?.[0] ?? "value";
  const named = /\b(rate|increase|irate)\(/.test(expr) ? {} : { __name__: name };
  if (name.startsWith("trefoil") && !/requests|duration/.test(name)) return [{ ...named, instance: "localhost:9090", job: "trefoil" }];
  if (name.startsWith("process")) return [{ ...named, instance: "localhost:9090", job: "trefoil" }];
  if (name === "ALERTS") return [{ __name__: "ALERTS", alertname: "CheckoutErrors", alertstate: "firing", severity: "page", service: "checkout" }, { __name__: "ALERTS", alertname: "DiskFills", alertstate: "pending", severity: "ticket", instance: "shop-2:8080" }];
  return ["shop-1:8080", "shop-2:8080", "shop-3:8080"].map((instance) => ({ ...named, instance, job: "shop" }));
}

function value(expr, key, at) {
  const scale = SCALE.find(([pattern]) => pattern.test(expr))?.[1] ?? 10;
  if (/^up\b|[^a-z]up\b/.test(expr)) return key.includes("shop-3") ? 0 : /sum|count/.test(expr) ? 5 : 1;
  if (expr.includes("ALERTS")) return 1;
  const r = random(key + expr)();
  const slow = Math.sin(at / 1700 + r * 6) * 0.18 + Math.sin(at / 430 + r * 20) * 0.07;
  const noise = (random(`${key}${expr}${at}`)() - 0.5) * 0.12;
  return scale * (0.4 + r * 0.6) * Math.max(0.02, 1 + slow + noise);
}

export function evaluate(expr, start, end, step) {
  if (/nothing/.test(expr)) return [];
  return labelSets(expr).map((metric) => {
    const key = JSON.stringify(metric);
    const values = [];
    for (let at = Math.ceil(start / step) * step; at <= end; at += step) {
      if (key.includes("shop-2") && at > start + (end - start) * 0.55 && at < start + (end - start) * 0.62) continue;
      values.push([at, `${value(expr, key, at)}`]);
    }
    return { metric, values };
  });
}

export const instantOf = (expr, at) => (/nothing/.test(expr) ? [] : labelSets(expr).map((metric) => ({ metric, value: [at, `${value(expr, JSON.stringify(metric), at)}`] })));

const LINES = [
  ["frontend", "info", (r) => `GET /cart 200 ${(r() * 90).toFixed(1)}ms user=${1000 + Math.floor(r() * 9000)}`],
  ["frontend", "info", (r) => `POST /checkout 201 ${(r() * 400).toFixed(1)}ms items=${1 + Math.floor(r() * 6)}`],
  ["checkout", "info", (r) => JSON.stringify({ level: "info", msg: "order placed", order_id: `o-${Math.floor(r() * 1e6)}`, total: Number((r() * 200).toFixed(2)), currency: "EUR" })],
  ["checkout", "error", (r) => `level=error msg="charge failed" err="payment gateway timeout after ${(2 + r()).toFixed(2)}s" attempt=${1 + Math.floor(r() * 3)}`],
  ["inventory", "debug", (r) => `cache miss for sku=${Math.floor(r() * 99999)} reading from postgres`],
  ["payments", "warn", (r) => `retrying charge, attempt ${1 + Math.floor(r() * 4)}: upstream returned 503`],
  ["payments", "info", () => "settled batch of 48 charges"],
  ["trefoil", "info", (r) => `part written rows=${Math.floor(r() * 90000)} bytes=${Math.floor(r() * 9e6)} duration_ms=${Math.floor(r() * 300)}`],
  ["postgres", "warn", (r) => `duration: ${(r() * 2200).toFixed(3)} ms  statement: SELECT id, status FROM orders WHERE customer = $1 ORDER BY created DESC`],
];

const traceIdAt = (slot) => hash(`a${slot}`).toString(16).padStart(8, "0") + hash(`b${slot}`).toString(16).padStart(8, "0") + hash(`c${slot}`).toString(16).padStart(8, "0") + (slot % 0xffffffff).toString(16).padStart(8, "0");
const slotOf = (id) => Number.parseInt(id.slice(24), 16);
const EVERY = 7; // seconds between traces

export const logLabelValues = (name) => ({ service_name: services, level: ["debug", "error", "info", "warn"], namespace: ["shop"], pod: ["checkout-6c9f-x2x", "frontend-77d-abc", "payments-0"] })[name] ?? [];

export function logStreams(query, start, end, limit, direction) {
  const service = /service_name="([^"]+)"/.exec(query)?.[1];
  const levels = /detected_level=~?"([^"]+)"/.exec(query)?.[1]?.split("|");
  const words = [...query.matchAll(/\|=\s*"([^"]*)"/g)].map((m) => m[1]);
  const trace = /trace_id="([0-9a-f]+)"/.exec(query)?.[1];
  const spanId = /span_id="([0-9a-f]+)"/.exec(query)?.[1];
  const streams = new Map();
  let count = 0;
  const add = (ns, pick, r, metadata) => {
    const [name, lvl, text] = pick;
    if (service && name !== service) return;
    if (levels && !levels.includes(lvl)) return;
    const line = text(r);
    if (!words.every((word) => line.includes(word))) return;
    const stream = { service_name: name, level: lvl, namespace: "shop", pod: `${name}-${(hash(name) % 4096).toString(16)}` };
    const key = JSON.stringify(stream);
    if (!streams.has(key)) streams.set(key, { stream, values: [] });
    streams.get(key).values.push([`${ns}`, line, { structuredMetadata: { detected_level: lvl, ...metadata } }]);
    count++;
  };
  if (trace) {
    const t = jaegerTrace(trace);
    for (const span of t?.spans ?? []) {
      if (spanId && span.spanID !== spanId) continue;
      const name = t.processes[span.processID].serviceName;
      const r = random(span.spanID);
      const picks = LINES.filter(([s]) => s === name);
      if (picks.length && (spanId || r() < 0.6)) add(BigInt(span.startTime) * 1000n + 500n, picks[Math.floor(r() * picks.length)], r, { trace_id: trace, span_id: span.spanID });
    }
    return [...streams.values()];
  }
  const from = Math.floor(start / 1e9);
  const to = Math.floor(end / 1e9);
  for (let at = to; at >= from && count < limit; at--) {
    const r = random(`log${at}`);
    const lines = Math.floor(r() * 3);
    for (let n = 0; n < lines && count < limit; n++) {
      const ns = BigInt(at) * 1_000_000_000n + BigInt(Math.floor(r() * 1e9));
      if (ns >= BigInt(Math.round(end)) || ns < BigInt(Math.round(start))) continue;
      const pick = LINES[Math.floor(r() * r() * LINES.length * 1.3) % LINES.length];
      const slot = Math.floor(at / EVERY);
      add(ns, pick, r, r() < 0.55 ? { trace_id: traceIdAt(slot), span_id: jaegerTrace(traceIdAt(slot)).spans[0].spanID } : {});
    }
  }
  return [...streams.values()];
}

export function logVolume(text, start, end, step) {
  const width = Number.parseFloat(step) / (step.endsWith("ms") ? 1000 : 1);
  const levels = { info: 1.7, error: 0.18, warn: 0.3, debug: 0.5 };
  return Object.entries(levels).map(([detected_level, weight]) => {
    const values = [];
    for (let at = Math.ceil(start / 1e9 / width) * width; at <= end / 1e9; at += width) {
      const wave = 1 + 0.4 * Math.sin(at / 900) + random(`${detected_level}${at}`)() * 0.5;
      const burst = detected_level === "error" && Math.sin(at / 700) > 0.93 ? 6 : 1;
      values.push([at, `${Math.round(weight * width * wave * burst)}`]);
    }
    return { metric: { detected_level }, values };
  });
}

export function jaegerTrace(id) {
  const slot = slotOf(id);
  if (Number.isNaN(slot) || traceIdAt(slot) !== id) return undefined;
  const r = random(`trace${slot}`);
  const spans = [];
  const failed = r() < 0.22;
  const big = slot % 9 === 0;
  const processes = Object.fromEntries(services.map((serviceName, index) => [`p${index + 1}`, { serviceName, tags: [{ key: "service.version", type: "string", value: "1.14.2" }, { key: "k8s.pod.name", type: "string", value: `${serviceName}-0` }, { key: "telemetry.sdk.language", type: "string", value: "rust" }] }]));
  const pid = (name) => `p${services.indexOf(name) + 1}`;
  const t0 = slot * EVERY * 1e6 + Math.floor(r() * 1e6);
  const span = (service, name, parent, at, duration, tags = [], logs = []) => {
    const spanID = (hash(`${id}${spans.length}`).toString(16).padStart(8, "0") + hash(`${spans.length}${id}`).toString(16).padStart(8, "0")).slice(0, 16);
    spans.push({
      traceID: id, spanID, operationName: name, flags: 1, startTime: Math.round(t0 + at), duration: Math.round(duration), processID: pid(service), warnings: null, logs,
      references: parent ? [{ refType: "CHILD_OF", traceID: id, spanID: parent }] : [],
      tags: [{ key: "span.kind", type: "string", value: parent ? "client" : "server" }, { key: "otel.scope.name", type: "string", value: "shop/http" }, ...tags],
    });
    return spanID;
  };
  const total = (60 + r() * 500) * 1000 * (failed ? 3 : 1);
  const errorTags = [{ key: "error", type: "bool", value: true }, { key: "otel.status_code", type: "string", value: "ERROR" }, { key: "otel.status_description", type: "string", value: "payment gateway timeout" }];
  const route = OPS.frontend[Math.floor(r() * 3)];
  const root = span("frontend", route, undefined, 0, total, [{ key: "http.request.method", type: "string", value: route.split(" ")[0] }, { key: "http.route", type: "string", value: route.split(" ")[1] }, { key: "http.response.status_code", type: "int64", value: failed ? 502 : 200 }, ...(failed ? errorTags : [])]);
  const order = span("checkout", "PlaceOrder", root, total * 0.04, total * 0.9, [{ key: "order.items", type: "int64", value: 3 }, ...(failed ? errorTags : [])]);
  const validate = span("checkout", "ValidateCart", order, total * 0.05, total * 0.12);
  span("postgres", "SELECT orders", validate, total * 0.06, total * 0.09, [{ key: "db.system.name", type: "string", value: "postgresql" }, { key: "db.query.text", type: "string", value: "SELECT id, status FROM orders WHERE customer = $1" }]);
  const reserve = span("inventory", "Reserve", order, total * 0.18, total * 0.3);
  const n = big ? 180 : 4;
  for (let i = 0; i < n; i++) span("postgres", "UPDATE stock", reserve, total * (0.19 + (0.27 * i) / n), (total * 0.24) / n, [{ key: "db.system.name", type: "string", value: "postgresql" }]);
  const charge = span("payments", "Charge", order, total * 0.5, total * 0.4, [{ key: "peer.service", type: "string", value: "gateway" }, ...(failed ? errorTags : [])], failed ? [{ timestamp: Math.round(t0 + total * 0.88), fields: [{ key: "event", type: "string", value: "exception" }, { key: "exception.type", type: "string", value: "TimeoutError" }, { key: "exception.message", type: "string", value: "payment gateway timeout after 2.00s" }] }] : []);
  span("postgres", "INSERT orders", charge, total * 0.82, total * 0.06);
  return { traceID: id, spans, processes, warnings: null };
}

export function jaegerTraces(query) {
  const end = Number(query.get("end"));
  const start = Number(query.get("start"));
  const limit = Number(query.get("limit") ?? 20);
  const tags = JSON.parse(query.get("tags") ?? "{}");
  const out = [];
  for (let slot = Math.floor(end / 1e6 / EVERY); slot * EVERY * 1e6 > start && out.length < limit; slot--) {
    const t = jaegerTrace(traceIdAt(slot));
    if (tags.error && !t.spans.some((s) => s.tags.some((tag) => tag.key === "error"))) continue;
    if (Object.keys(tags).some((key) => key !== "error")) continue;
    out.push(t);
  }
  return out;
}

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
export const alertsData = () => [
  { labels: { alertname: "CheckoutErrors", service: "checkout", severity: "page" }, annotations: { summary: "More than 5% of checkouts fail" }, state: "firing", activeAt: ago(1260), value: "0.087" },
  { labels: { alertname: "TargetDown", instance: "shop-3:8080", job: "shop", severity: "ticket" }, annotations: { summary: "shop-3:8080 cannot be scraped" }, state: "firing", activeAt: ago(5400), value: "0" },
  { labels: { alertname: "DiskFills", instance: "shop-2:8080", severity: "ticket" }, annotations: { summary: "Full in four hours at this rate" }, state: "pending", activeAt: ago(95), value: "0.13" },
];

export function rules() {
  const [checkout, down, disk] = alertsData();
  const rule = (name, query, more = {}) => ({ name, query, type: "alerting", state: "inactive", duration: 300, keepFiringFor: 0, labels: { severity: "page" }, annotations: {}, alerts: [], health: "ok", lastError: "", evaluationTime: 0.0013, lastEvaluation: ago(7), ...more });
  return [
    { name: "shop", file: "rules/shop.yml", interval: 15, limit: 0, evaluationTime: 0.0041, lastEvaluation: ago(7), rules: [
      rule("CheckoutErrors", 'sum(rate(http_requests_total{service="checkout",code=~"5.."}[5m])) / sum(rate(http_requests_total{service="checkout"}[5m])) > 0.05', { state: "firing", alerts: [checkout] }),
      rule("CheckoutSlow", 'histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket{service="checkout"}[5m]))) > 2'),
      { name: "service:http_requests:rate5m", query: "sum by (service) (rate(http_requests_total[5m]))", type: "recording", labels: {}, health: "ok", evaluationTime: 0.0007, lastEvaluation: ago(7) },
    ] },
    { name: "machines", file: "rules/node.yml", interval: 60, limit: 0, evaluationTime: 0.002, lastEvaluation: ago(31), rules: [
      rule("TargetDown", "up == 0", { state: "firing", alerts: [down], labels: { severity: "ticket" } }),
      rule("DiskFills", "predict_linear(node_filesystem_avail_bytes[1h], 4 * 3600) < 0", { state: "pending", alerts: [disk], labels: { severity: "ticket" } }),
      rule("ClockSkew", "abs(node_timex_offset_seconds) > on(instance) 0.05", { health: "err", lastError: "found duplicate series for the match group {instance=\"shop-1:8080\"} on the right side of the operation", state: "unknown" }),
    ] },
  ];
}

export const targets = () =>
  [["trefoil", "localhost:9090", "up"], ["node", "shop-1:9100", "up"], ["node", "shop-2:9100", "up"], ["shop", "shop-1:8080", "up"], ["shop", "shop-2:8080", "up"], ["shop", "shop-3:8080", "down"]].map(([job, instance, health]) => ({
    discoveredLabels: { __address__: instance }, labels: { instance, job }, scrapePool: job, scrapeUrl: `http://${instance}/metrics`, globalUrl: `http://${instance}/metrics`,
    lastError: health === "down" ? "connection refused" : "", lastScrape: ago(4), lastScrapeDuration: 0.0042 + (hash(instance) % 100) / 10_000, health, scrapeInterval: "15s", scrapeTimeout: "10s",
  }));

const counts = (pairs) => pairs.map(([name, value]) => ({ name, value }));
export const cardinality = (empty) =>
  empty
    ? { series: 0, labelPairs: 0, minTime: null, maxTime: null, offenders: [] }
    : {
        series: 84_212, labelPairs: 31_877, minTime: Date.now() - 5_400_000, maxTime: Date.now() - 2_000,
        seriesByJob: counts([["shop", 61_004], ["node", 14_120], ["kubelet", 8_342], ["trefoil", 446]]),
        seriesByMetric: counts([["http_request_duration_seconds_bucket", 40_112], ["http_requests_total", 9_981], ["container_network_transmit_packets_dropped_total", 4_320], ["node_cpu_seconds_total", 2_048], ["go_gc_duration_seconds", 1_210], ["process_open_fds", 880], ["kube_pod_container_status_restarts_total", 640], ["node_filesystem_avail_bytes", 512], ["node_network_receive_bytes_total", 498], ["rest_client_requests_total", 300], ["workqueue_depth", 260], ["up", 41]]),
        valuesByLabel: counts([["session_id", 12_208], ["path", 2_204], ["__name__", 1_640], ["pod", 480], ["le", 96], ["instance", 41], ["code", 17], ["job", 4]]),
        bytesByLabel: counts([["session_id", 439_488], ["path", 61_712], ["__name__", 48_000], ["pod", 19_200], ["le", 410], ["instance", 611], ["code", 51], ["job", 22]]),
        seriesByPair: counts([["job=shop", 61_004], ["__name__=http_request_duration_seconds_bucket", 40_112], ["code=200", 30_420], ["instance=shop-1:8080", 20_340], ["instance=shop-2:8080", 20_331], ["job=node", 14_120]]),
        offenders: [{ job: "shop", limit: "series_per_job_max", limitValue: 60_000, series: 61_004, refused: 128_340, firstRefused: ago(2_700), lastRefused: ago(3), label: "session_id", labelValues: 12_208, metric: "http_request_duration_seconds_bucket" }],
      };

export const buildInfo = { version: "0.1.0", revision: "5f2c9e1", branch: "main", buildUser: "", buildDate: "2026-11-21", goVersion: "" };
export const configYaml = `server:\n  listen: 127.0.0.1:9090\nstorage:\n  path: data\n  retention: 30d\nscrape_configs:\n  - job_name: trefoil\n    static_configs:\n      - targets: [localhost:9090]\n  - job_name: shop\n    scrape_interval: 15s\n    static_configs:\n      - targets: [shop-1:8080, shop-2:8080, shop-3:8080]\nrule_files:\n  - rules/*.yml\n`;

const FOLDER = process.env.MOCK_DASHBOARDS ? pathToFileURL(`${process.env.MOCK_DASHBOARDS}/`) : new URL("../../dashboards/", import.meta.url);
const load = () => readdirSync(FOLDER).filter((name) => name.endsWith(".json") && name !== "MANIFEST.json").map((name) => {
    const json = JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));
    return json.dashboard ?? json;
  });
export const dashboards = () => load().map(({ uid, title, tags }) => ({ uid, title, tags: tags ?? [] }));
export const dashboardJson = (uid) => load().find((d) => d.uid === uid);
