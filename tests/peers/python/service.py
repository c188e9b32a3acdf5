"""A FastAPI service with its ordinary OpenTelemetry SDK. Sends traces, metrics and logs over OTLP gRPC or HTTP.

Environment: PORT, OTLP_ENDPOINT, OTLP_PROTOCOL (grpc or http), NEXT_URL (called by GET /checkout).
"""

import logging
import os

import requests
import uvicorn
from fastapi import FastAPI
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

endpoint = os.environ["OTLP_ENDPOINT"]
if os.environ.get("OTLP_PROTOCOL", "grpc") == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    exporters = [kind(endpoint=endpoint, insecure=True) for kind in (OTLPSpanExporter, OTLPMetricExporter, OTLPLogExporter)]
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporters = [
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"),
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"),
        OTLPLogExporter(endpoint=f"{endpoint}/v1/logs"),
    ]
span_exporter, metric_exporter, log_exporter = exporters

resource = Resource.create({
    "service.name": "checkout",
    "service.namespace": "peers",
    "service.instance.id": "checkout-1",
    "deployment.environment.name": "test",
})
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(BatchSpanProcessor(span_exporter, schedule_delay_millis=200))
trace.set_tracer_provider(tracer_provider)
reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=500)
meter_provider = MeterProvider(resource=resource, metric_readers=[reader])
metrics.set_meter_provider(meter_provider)
logger_provider = LoggerProvider(resource=resource)
logger_provider.add_log_record_processor(BatchLogRecordProcessor(log_exporter, schedule_delay_millis=200))
set_logger_provider(logger_provider)
log = logging.getLogger("checkout")
log.setLevel(logging.INFO)
log.addHandler(LoggingHandler(level=logging.INFO, logger_provider=logger_provider))

orders = metrics.get_meter("checkout").create_counter("orders", unit="{order}", description="Orders taken.")
latency = metrics.get_meter("checkout").create_histogram("checkout.duration", unit="s", description="Time of a checkout.")

app = FastAPI()


@app.get("/health")
def health() -> dict:
    return {"status": "ok"}


@app.get("/checkout")
def checkout(item: str = "book") -> dict:
    with trace.get_tracer("checkout").start_as_current_span("price the basket") as span:
        span.set_attribute("app.item", item)
        price = requests.get(os.environ["NEXT_URL"], params={"item": item}, timeout=10).json()["price"]
    orders.add(1, {"item": item})
    latency.record(0.02, {"item": item})
    log.info("order taken for %s at %s", item, price, extra={"app.item": item})
    trace_id = format(trace.get_current_span().get_span_context().trace_id, "032x")
    return {"price": price, "trace_id": trace_id}


FastAPIInstrumentor.instrument_app(app, excluded_urls="health")
RequestsInstrumentor().instrument()
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
for provider in (tracer_provider, meter_provider, logger_provider):
    provider.shutdown()
