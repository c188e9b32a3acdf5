// An Express service with its ordinary OpenTelemetry SDK, sending over OTLP/HTTP: traces as protobuf, metrics and
// logs as JSON. Environment: PORT, OTLP_ENDPOINT.
import { createRequire } from "node:module";
import { logs, SeverityNumber } from "@opentelemetry/api-logs";
import { metrics, trace } from "@opentelemetry/api";
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { ExpressInstrumentation } from "@opentelemetry/instrumentation-express";
import { HttpInstrumentation } from "@opentelemetry/instrumentation-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor } from "@opentelemetry/sdk-logs";
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";

const endpoint = process.env.OTLP_ENDPOINT;
const sdk = new NodeSDK({
  resource: resourceFromAttributes({
    "service.name": "pricing",
    "service.namespace": "peers",
    "service.instance.id": "pricing-1",
  }),
  traceExporter: new OTLPTraceExporter({ url: `${endpoint}/v1/traces` }),
  metricReaders: [
    new PeriodicExportingMetricReader({
      exporter: new OTLPMetricExporter({ url: `${endpoint}/v1/metrics` }),
      exportIntervalMillis: 500,
      exportTimeoutMillis: 400,
    }),
  ],
  logRecordProcessors: [
    new BatchLogRecordProcessor({ exporter: new OTLPLogExporter({ url: `${endpoint}/v1/logs` }), scheduledDelayMillis: 200 }),
  ],
  instrumentations: [new HttpInstrumentation(), new ExpressInstrumentation()],
});
sdk.start();

// Loaded after the start, through require, so that the instrumentations can wrap it.
const express = createRequire(import.meta.url)("express");
const lookups = metrics.getMeter("pricing").createCounter("price.lookups", { description: "Prices looked up." });
const logger = logs.getLogger("pricing");
const app = express();
app.get("/health", (_request, response) => response.json({ status: "ok" }));
app.get("/price", (request, response) => {
  const item = String(request.query.item ?? "book");
  trace.getTracer("pricing").startActiveSpan("look up the price", (span) => {
    span.setAttribute("app.item", item);
    lookups.add(1, { item });
    logger.emit({ severityNumber: SeverityNumber.WARN, severityText: "WARN", body: `price of ${item} is stale`, attributes: { "app.item": item } });
    span.end();
    response.json({ price: 42 });
  });
});
const server = app.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => {
  server.close();
  sdk.shutdown().finally(() => process.exit(0));
});
