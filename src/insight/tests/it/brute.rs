//! The count over all spans at once that the counters must agree with, as samples by series.

use std::collections::{BTreeMap, HashSet};

use trefoil_model::{AttributeValue, Span, SpanId, SpanKind, StatusCode, TraceId};

use crate::random_spans::Sent;

/// Values by series: metric name and labels as text.
pub(crate) type Totals = BTreeMap<String, f64>;

const SPAN_BOUNDS: [f64; 3] = [0.002, 0.2, 4.0];
const GRAPH_BOUNDS: [f64; 2] = [0.1, 6.4];

/// Bounds of the buckets that [`count`] takes for granted.
pub(crate) fn bounds() -> (Vec<f64>, Vec<f64>) {
    (SPAN_BOUNDS.to_vec(), GRAPH_BOUNDS.to_vec())
}

/// The text of a series.
pub(crate) fn series<'a>(name: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut labels: Vec<(&str, &str)> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    labels.sort_unstable();
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{name} {}", labels.join(" "))
}

#[derive(Default)]
struct Histogram {
    sum_ns: u128,
    ns: Vec<u64>,
}

fn put(totals: &mut Totals, name: &str, labels: &[(&str, &str)], bounds: &[f64], histogram: &Histogram) {
    let seconds: Vec<f64> = histogram.ns.iter().map(|ns| *ns as f64 / 1e9).collect();
    for bound in bounds.iter().copied().chain([f64::INFINITY]) {
        let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
        let count = seconds.iter().filter(|s| **s <= bound).count();
        let labels = labels.iter().copied().chain([("le", le.as_str())]);
        totals.insert(series(&format!("{name}_bucket"), labels), count as f64);
    }
    totals.insert(series(&format!("{name}_sum"), labels.iter().copied()), histogram.sum_ns as f64 / 1e9);
    totals.insert(series(&format!("{name}_count"), labels.iter().copied()), histogram.ns.len() as f64);
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    span.attributes.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
}

fn any_of<'a>(span: &'a Span, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| attribute(span, name))
}

#[derive(Default)]
struct Edge {
    requests: u64,
    failed: u64,
    server: Histogram,
    client: Histogram,
}

fn is_database(span: &Span) -> bool {
    span.kind == SpanKind::Client && any_of(span, &["db.namespace", "db.name", "db.system"]).is_some()
}

/// The unique spans, each once.
fn unique(spans: &[Sent]) -> Vec<&Sent> {
    let mut seen = HashSet::new();
    spans.iter().filter(|s| seen.insert((s.span.trace_id, s.span.span_id, s.span.start_ns, s.span.kind))).collect()
}

/// All counters over all spans. `cloud.region` is a dimension.
pub(crate) fn count(spans: &[Sent]) -> Totals {
    let spans = unique(spans);
    let mut totals = Totals::new();
    span_metrics(&spans, &mut totals);
    service_graph(&spans, &mut totals);
    totals
}

fn service_of(sent: &Sent) -> &str {
    if sent.service.is_empty() { "unknown_service" } else { sent.service }
}

fn span_metrics(spans: &[&Sent], totals: &mut Totals) {
    let mut groups: BTreeMap<[String; 5], Histogram> = BTreeMap::new();
    for sent in spans {
        let span = &sent.span;
        let kind = format!("SPAN_KIND_{}", span.kind.as_str().to_uppercase());
        let status = match span.status_code {
            StatusCode::Unset => "STATUS_CODE_UNSET",
            StatusCode::Ok => "STATUS_CODE_OK",
            StatusCode::Error => "STATUS_CODE_ERROR",
        };
        let region = sent.region.map(|r| AttributeValue::Int(r).to_text()).unwrap_or_default();
        let key = [service_of(sent).to_owned(), span.name.clone(), kind, status.to_owned(), region];
        let group = groups.entry(key).or_default();
        group.sum_ns += (span.end_ns - span.start_ns) as u128;
        group.ns.push((span.end_ns - span.start_ns) as u64);
    }
    for ([service, name, kind, status, region], group) in &groups {
        let labels = [
            ("service", service.as_str()),
            ("span_name", name),
            ("span_kind", kind),
            ("status_code", status),
            ("cloud_region", region),
        ];
        totals.insert(series("traces_spanmetrics_calls_total", labels), group.ns.len() as f64);
        put(totals, "traces_spanmetrics_latency", &labels, &SPAN_BOUNDS, group);
    }
}

type Edges = BTreeMap<[String; 3], Edge>;

fn add(edges: &mut Edges, names: [&str; 3], client: Option<&Span>, server: Option<&Span>) {
    let edge = edges.entry(names.map(str::to_owned)).or_default();
    edge.requests += 1;
    edge.failed += u64::from([client, server].iter().flatten().any(|s| s.status_code == StatusCode::Error));
    for (span, histogram) in [(client, &mut edge.client), (server, &mut edge.server)] {
        if let Some(span) = span {
            histogram.sum_ns += (span.end_ns - span.start_ns) as u128;
            histogram.ns.push((span.end_ns - span.start_ns) as u64);
        }
    }
}

fn service_graph(spans: &[&Sent], totals: &mut Totals) {
    const BROKER: [&str; 4] = ["peer.service", "messaging.system", "server.address", "net.peer.name"];
    const PEER: [&str; 4] = ["peer.service", "server.address", "net.peer.name", "http.host"];
    let mut edges = Edges::new();
    let mut clients: BTreeMap<(TraceId, SpanId), &Sent> = BTreeMap::new();
    for sent in spans {
        if is_database(&sent.span) {
            let names = ["peer.service", "db.namespace", "db.name", "db.system"];
            let name = any_of(&sent.span, &names).expect("it has one");
            add(&mut edges, [service_of(sent), name, "database"], Some(&sent.span), Some(&sent.span));
        } else if matches!(sent.span.kind, SpanKind::Client | SpanKind::Producer) {
            clients.insert((sent.span.trace_id, sent.span.span_id), sent);
        }
    }
    let mut paired = HashSet::new();
    for sent in spans.iter().filter(|s| matches!(s.span.kind, SpanKind::Server | SpanKind::Consumer)) {
        let span = &sent.span;
        let is_message = span.kind == SpanKind::Consumer;
        let mut keys: HashSet<(TraceId, SpanId)> = span.parent_span_id.iter().map(|id| (span.trace_id, *id)).collect();
        if span.attributes.iter().any(|(name, _)| name == "zipkin.shared") {
            keys.insert((span.trace_id, span.span_id));
        }
        if is_message {
            keys.extend(span.links.iter().map(|link| (link.trace_id, link.span_id)));
        }
        let found: Vec<&&Sent> = keys.iter().filter_map(|key| clients.get(key)).collect();
        for client in &found {
            paired.insert((client.span.trace_id, client.span.span_id));
            let kind = match is_message || client.span.kind == SpanKind::Producer {
                true => "messaging_system",
                false => "",
            };
            add(&mut edges, [service_of(client), service_of(sent), kind], Some(&client.span), Some(span));
        }
        if !found.is_empty() {
            continue;
        }
        if is_message {
            if let Some(broker) = any_of(span, &BROKER) {
                add(&mut edges, [broker, service_of(sent), "messaging_system"], None, Some(span));
            }
        } else if keys.is_empty() {
            add(&mut edges, ["user", service_of(sent), "virtual_node"], None, Some(span));
        }
    }
    for (key, sent) in &clients {
        if paired.contains(key) {
            continue;
        }
        let (names, kind) = match sent.span.kind {
            SpanKind::Producer => (&BROKER, "messaging_system"),
            _ => (&PEER, "virtual_node"),
        };
        if let Some(peer) = any_of(&sent.span, names) {
            add(&mut edges, [service_of(sent), peer, kind], Some(&sent.span), None);
        }
    }
    for ([client, server, kind], edge) in &edges {
        let labels = [("client", client.as_str()), ("server", server), ("connection_type", kind)];
        let name = |name: &str| format!("traces_service_graph_request_{name}");
        totals.insert(series(&name("total"), labels), edge.requests as f64);
        totals.insert(series(&name("failed_total"), labels), edge.failed as f64);
        put(totals, &name("server_seconds"), &labels, &GRAPH_BOUNDS, &edge.server);
        put(totals, &name("client_seconds"), &labels, &GRAPH_BOUNDS, &edge.client);
    }
}
