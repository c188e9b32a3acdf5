// A stand-in for the server while the page is being built: serves dist and plausible answers on
// loopback. Not shipped. Usage: node mock/server.mjs [--port=5180] [--mode=full|empty|error|slow|auth] [--prefix=/x]
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { alertsData, buildInfo, cardinality, configYaml, dashboards, dashboardJson, evaluate, instantOf, jaegerTraces, jaegerTrace, labelNames, labelValues, logLabelValues, logStreams, logVolume, metadata, rules, services, operations, targets } from "./answers.mjs";

const option = (name, fallback) => process.argv.find((arg) => arg.startsWith(`--${name}=`))?.split("=").slice(1).join("=") ?? fallback;
const mode = option("mode", "full");
const prefix = option("prefix", "").replace(/\/$/, "");
const port = Number(option("port", "5180"));
const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8", ".json": "application/json" };
const CSP = "default-src 'self'; script-src 'self'; style-src 'self'";

const ok = (data, more = {}) => ({ status: 200, body: { status: "success", data, ...more } });
const bad = (message) => ({ status: 400, body: { status: "error", errorType: "bad_data", error: message } });

function api(path, query) {
  const get = (name) => query.get(name) ?? "";
  if (mode === "error") return { status: 503, body: { status: "error", errorType: "unavailable", error: "storage is replaying the journal: 41% done" } };
  const empty = mode === "empty";
  const start = Number(get("start"));
  const end = Number(get("end"));
  let match;
  switch (path) {
    case "/api/v1/query_range":
    case "/api/v1/query": {
      const expr = get("query");
      if (/\($/.test(expr) || expr.includes("!!")) return bad(`invalid parameter "query": 1:${expr.length}: parse error: unclosed left parenthesis`);
      const more = /rate\((?!.*_(total|bucket|count|sum))/.test(expr) ? { infos: ['PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket (1:6)'] } : {};
      if (path.endsWith("range")) return ok({ resultType: "matrix", result: empty ? [] : evaluate(expr, start, end, Number(get("step"))) }, more);
      return ok({ resultType: "vector", result: empty ? [] : instantOf(expr, Number(get("time"))) }, more);
    }
    case "/api/v1/labels":
      return ok(empty ? [] : labelNames);
    case "/api/v1/metadata":
      return ok(metadata(get("metric")));
    case "/api/v1/alerts":
      return ok({ alerts: empty ? [] : alertsData() });
    case "/api/v1/rules":
      return ok({ groups: empty ? [] : rules() });
    case "/prometheus/api/v1/alerts":
      return ok({ alerts: [] });
    case "/prometheus/api/v1/rules":
      return ok({ groups: [] });
    case "/api/v1/targets":
      return ok({ activeTargets: empty ? [] : targets(), droppedTargets: [] });
    case "/api/v1/status/buildinfo":
      return ok(buildInfo);
    case "/api/v1/status/runtimeinfo":
      return ok({ startTime: new Date(Date.now() - 86_400_000).toISOString(), reloadConfigSuccess: true, storageRetention: "30d", serverTime: new Date().toISOString(), goroutineCount: 0 });
    case "/api/v1/status/cardinality":
      return ok(cardinality(empty));
    case "/api/v1/status/config":
      return ok({ yaml: configYaml });
    case "/api/v1/trefoil/dashboards":
      return ok(empty ? [] : dashboards());
    case "/loki/api/v1/labels":
      return ok(empty ? undefined : ["service_name", "level", "namespace", "pod"]);
    case "/loki/api/v1/query_range": {
      const text = get("query");
      if (/\{[^}]*$/.test(text)) return { status: 400, text: `parse error at line 1, col ${text.length}: syntax error: unexpected end of input` };
      if (!text.startsWith("{")) return ok({ resultType: "matrix", result: empty ? [] : logVolume(text, start, end, get("step")) });
      return ok({ resultType: "streams", result: empty ? [] : logStreams(text, start, end, Number(get("limit") || 100), get("direction")), encodingFlags: ["categorize-labels"] });
    }
    case "/jaeger/api/services":
      return { status: 200, body: { data: empty ? [] : services, total: services.length, limit: 0, offset: 0, errors: null } };
    case "/jaeger/api/traces":
      return { status: 200, body: { data: empty ? [] : jaegerTraces(query), total: 0, limit: 0, offset: 0, errors: null } };
  }
  if ((match = /^\/api\/v1\/label\/([^/]+)\/values$/.exec(path))) return ok(empty ? [] : labelValues(decodeURIComponent(match[1])));
  if ((match = /^\/loki\/api\/v1\/label\/([^/]+)\/values$/.exec(path))) return ok(empty ? [] : logLabelValues(decodeURIComponent(match[1])));
  if ((match = /^\/jaeger\/api\/services\/([^/]+)\/operations$/.exec(path))) return { status: 200, body: { data: operations(decodeURIComponent(match[1])), errors: null } };
  if ((match = /^\/jaeger\/api\/traces\/([^/]+)$/.exec(path))) {
    const trace = empty ? undefined : jaegerTrace(match[1]);
    return trace ? { status: 200, body: { data: [trace], errors: null } } : { status: 404, body: { data: null, errors: [{ code: 404, msg: "trace not found" }] } };
  }
  if ((match = /^\/api\/v1\/trefoil\/dashboards\/([^/]+)$/.exec(path))) {
    const json = dashboardJson(decodeURIComponent(match[1]));
    return json ? ok(json) : { status: 404, body: { status: "error", errorType: "not_found", error: "dashboard not found" } };
  }
  return { status: 404, body: { status: "error", errorType: "not_found", error: `no such endpoint: ${path}` } };
}

async function answer(request, response) {
  const url = new URL(request.url, "http://mock");
  if (prefix && !url.pathname.startsWith(`${prefix}/`)) {
    response.writeHead(404).end();
    return;
  }
  const path = url.pathname.slice(prefix.length);
  if (/^\/(api|loki|jaeger|prometheus)\//.test(path)) {
    let body = "";
    for await (const chunk of request) body += chunk;
    const query = request.method === "POST" ? new URLSearchParams(body) : url.searchParams;
    if (mode === "slow") await new Promise((resolve) => setTimeout(resolve, 60_000));
    if (mode === "auth" && !request.headers.authorization?.endsWith("dXNlcjpwYXNz")) {
      response.writeHead(401, { "WWW-Authenticate": "Bearer" }).end("unauthorized");
      return;
    }
    const said = api(path, query);
    response.writeHead(said.status, { "Content-Type": said.text ? "text/plain" : "application/json" });
    response.end(said.text ?? JSON.stringify(said.body));
    return;
  }
  const file = join(dist, normalize(path));
  const headers = { "Content-Security-Policy": CSP };
  if (path !== "/" && file.startsWith(dist) && extname(file) && existsSync(file)) {
    response.writeHead(200, { ...headers, "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Cache-Control": "public, max-age=31536000, immutable" });
    createReadStream(file).pipe(response);
    return;
  }
  const html = readFileSync(join(dist, "index.html"), "utf8").replace('<base href="/"', `<base href="${prefix}/"`);
  response.writeHead(200, { ...headers, "Content-Type": TYPES[".html"], "Cache-Control": "no-cache" }).end(html);
}

createServer((request, response) => {
  answer(request, response).catch((error) => {
    response.writeHead(500).end(String(error));
  });
}).listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}${prefix}/ (${mode})`));
