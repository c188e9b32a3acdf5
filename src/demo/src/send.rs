//! Sends what requests left behind: spans over OTLP/gRPC, logs over OTLP/HTTP and Loki push.

use anyhow::Context;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event};
use prost::Message;
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::shop::{SERVICES, SimLog, SimRequest, SimSpan, Value};

/// Services whose logs go through Loki push; those of the others go over OTLP.
const LOKI_SERVICES: [&str; 2] = ["payments", "worker"];

/// A request with the time at which it began.
pub(crate) struct Timed {
    pub(crate) start_ns: i64,
    pub(crate) request: SimRequest,
}

/// The connections to a server.
pub(crate) struct Sender {
    traces: TraceServiceClient<Channel>,
    http: reqwest::Client,
    otlp_http: String,
    base: String,
    authorization: Option<String>,
}

fn text(value: impl Into<String>) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) })
}

fn attribute(name: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(t) => text(t.clone()),
        Value::Int(n) => Some(AnyValue { value: Some(any_value::Value::IntValue(*n)) }),
    };
    KeyValue { key: name.to_owned(), value, ..Default::default() }
}

fn resource(service: usize) -> Option<Resource> {
    let name = SERVICES[service];
    let pairs = [
        ("service.name", name.to_owned()),
        ("service.namespace", "shop".to_owned()),
        ("service.instance.id", format!("{name}-1")),
        ("service.version", "1.4.2".to_owned()),
        ("deployment.environment.name", "demo".to_owned()),
    ];
    let attributes = pairs.into_iter().map(|(k, v)| attribute(k, &Value::Text(v))).collect();
    Some(Resource { attributes, ..Default::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "shop".to_owned(), version: "1.0".to_owned(), ..Default::default() })
}

fn wire_span(timed: &Timed, s: &SimSpan) -> Span {
    let at = |us: i64| (timed.start_ns + us * 1000).unsigned_abs();
    let events = s.error.iter().map(|message| Event {
        time_unix_nano: at(s.end_us),
        name: "exception".to_owned(),
        attributes: vec![
            attribute("exception.type", &Value::Text("UpstreamError".to_owned())),
            attribute("exception.message", &Value::Text(message.clone())),
        ],
        ..Default::default()
    });
    Span {
        trace_id: timed.request.trace.to_vec(),
        span_id: s.id.to_vec(),
        parent_span_id: s.parent.map(|p| p.to_vec()).unwrap_or_default(),
        name: s.name.clone(),
        kind: s.kind,
        start_time_unix_nano: at(s.start_us),
        end_time_unix_nano: at(s.end_us),
        attributes: s.attributes.iter().map(|(k, v)| attribute(k, v)).collect(),
        events: events.collect(),
        status: s.error.clone().map(|message| Status { message, code: 2 }),
        ..Default::default()
    }
}

fn severity_word(number: i32) -> &'static str {
    match number {
        ..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARN",
        _ => "ERROR",
    }
}

impl Sender {
    /// Prepares the connections; nothing is sent yet.
    pub(crate) fn new(
        otlp_grpc: &str,
        otlp_http: &str,
        base: &str,
        authorization: Option<String>,
    ) -> anyhow::Result<Self> {
        let channel = Channel::from_shared(otlp_grpc.to_owned()).context("otlp grpc endpoint")?.connect_lazy();
        Ok(Self {
            traces: TraceServiceClient::new(channel),
            http: reqwest::Client::builder().no_proxy().build().context("http client")?,
            otlp_http: otlp_http.to_owned(),
            base: base.to_owned(),
            authorization,
        })
    }

    /// Sends everything that `batch` left behind.
    pub(crate) async fn send(&mut self, batch: &[Timed]) -> anyhow::Result<()> {
        self.send_spans(batch).await?;
        self.send_otlp_logs(batch).await?;
        self.send_loki_logs(batch).await
    }

    async fn send_spans(&mut self, batch: &[Timed]) -> anyhow::Result<()> {
        let resource_spans = (0..SERVICES.len())
            .map(|service| ResourceSpans {
                resource: resource(service),
                scope_spans: vec![ScopeSpans {
                    scope: scope(),
                    spans: batch
                        .iter()
                        .flat_map(|t| t.request.spans.iter().filter(|s| s.service == service).map(|s| wire_span(t, s)))
                        .collect(),
                    ..Default::default()
                }],
                ..Default::default()
            })
            .filter(|r| !r.scope_spans[0].spans.is_empty())
            .collect();
        let mut request = tonic::Request::new(ExportTraceServiceRequest { resource_spans });
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", MetadataValue::try_from(value.as_str())?);
        }
        self.traces.export(request).await.context("send spans")?;
        Ok(())
    }

    fn logs_of(batch: &[Timed], service: usize) -> impl Iterator<Item = (&Timed, &SimLog)> {
        batch.iter().flat_map(move |t| t.request.logs.iter().filter(move |l| l.service == service).map(move |l| (t, l)))
    }

    async fn send_otlp_logs(&self, batch: &[Timed]) -> anyhow::Result<()> {
        let services = (0..SERVICES.len()).filter(|s| !LOKI_SERVICES.contains(&SERVICES[*s]));
        let resource_logs = services
            .map(|service| ResourceLogs {
                resource: resource(service),
                scope_logs: vec![ScopeLogs {
                    scope: scope(),
                    log_records: Self::logs_of(batch, service)
                        .map(|(t, l)| LogRecord {
                            time_unix_nano: (t.start_ns + l.at_us * 1000).unsigned_abs(),
                            severity_number: l.severity,
                            severity_text: severity_word(l.severity).to_owned(),
                            body: text(l.text.clone()),
                            attributes: l.attributes.iter().map(|(k, v)| attribute(k, v)).collect(),
                            trace_id: t.request.trace.to_vec(),
                            span_id: l.span.to_vec(),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                }],
                ..Default::default()
            })
            .filter(|r| !r.scope_logs[0].log_records.is_empty())
            .collect();
        let body = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
        let request =
            self.http.post(format!("{}/v1/logs", self.otlp_http)).header("content-type", "application/x-protobuf");
        self.post(request.body(body)).await.context("send logs over otlp")
    }

    async fn send_loki_logs(&self, batch: &[Timed]) -> anyhow::Result<()> {
        let services = (0..SERVICES.len()).filter(|s| LOKI_SERVICES.contains(&SERVICES[*s]));
        let streams: Vec<_> = services
            .map(|service| {
                let values: Vec<_> = Self::logs_of(batch, service)
                    .map(|(t, l)| {
                        let ids = json!({"trace_id": hex::encode(t.request.trace), "span_id": hex::encode(l.span)});
                        json!([(t.start_ns + l.at_us * 1000).to_string(), l.text, ids])
                    })
                    .collect();
                json!({
                    "stream": {"service_name": SERVICES[service], "namespace": "shop", "environment": "demo"},
                    "values": values,
                })
            })
            .filter(|s| s["values"].as_array().is_some_and(|v| !v.is_empty()))
            .collect();
        if streams.is_empty() {
            return Ok(());
        }
        let request = self.http.post(format!("{}/loki/api/v1/push", self.base)).json(&json!({"streams": streams}));
        self.post(request).await.context("send logs by loki push")
    }

    async fn post(&self, mut request: reqwest::RequestBuilder) -> anyhow::Result<()> {
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        anyhow::bail!("status {status}: {}", response.text().await.unwrap_or_default())
    }
}
