//! Who calls whom: spans of both sides of a call are found and counted as an edge.
//!
//! A client or producer span is known by its id, a server or consumer span looks for its parent among them; a consumer
//! also for the spans that it links to. Either may come first; the other is waited for, for some time. Each server or
//! consumer span makes an edge with each span that it finds, so a message that two consumers take is two requests.
//! A client of a database makes its edge at once. What waits in vain makes an edge with a virtual node when the span
//! names its peer, and is counted as unpaired otherwise.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use trefoil_model::{AttributeValue, Span, SpanId, SpanKind, StatusCode, TraceId, value};
use trefoil_runtime::limits;

use super::cells::{CellCut, Cells, Example, Moment};
use super::durations::HistogramKind;
use super::metrics::{EVICTED, OVERFLOWED, UNPAIRED};

/// Labels of an edge, in the order of the values of cells.
pub(crate) const LABELS: [&str; 4] = ["client", "server", "connection_type", "metric_overflow"];
/// Value of `connection_type` for a call to or from something that sends no spans.
pub const VIRTUAL_NODE: &str = "virtual_node";
/// For messages.
pub const MESSAGING_SYSTEM: &str = "messaging_system";
/// For databases.
pub const DATABASE: &str = "database";
/// The client of server spans without a parent.
pub const USER: &str = "user";

/// What a database is called by, after `peer.service`.
const DATABASE_ATTRIBUTES: [&str; 4] = ["db.namespace", "db.name", "db.system.name", "db.system"];
/// What a broker is called by.
const BROKER_ATTRIBUTES: [&str; 4] = ["peer.service", "messaging.system", "server.address", "net.peer.name"];
/// What spans have that share their id with the client's.
const SHARED: &str = "zipkin.shared";
const PEER_SERVICE: &str = "peer.service";
/// Links of a consumer span that are followed.
const LINKS_MAX: usize = 128;

/// What is derived of pairs of spans.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceGraphOptions {
    /// How long a span waits for the other side.
    pub wait: Duration,
    /// Attributes of a client span that name a peer which sends no spans; the first that is there counts.
    pub peer_attributes: Vec<String>,
    /// Which histograms there are.
    pub histograms: HistogramKind,
    /// Upper bounds of the classic buckets in seconds, ascending.
    pub buckets: Vec<f64>,
    /// Whether durations have exemplars.
    pub exemplars: bool,
    /// Edges of a tenant.
    pub edges_max: usize,
    /// Spans of a tenant that wait.
    pub spans_max: usize,
}

impl Default for ServiceGraphOptions {
    fn default() -> Self {
        let peers = ["peer.service", "server.address", "net.peer.name", "http.host", "network.peer.address"];
        Self {
            wait: Duration::from_secs(10),
            peer_attributes: peers.map(str::to_owned).to_vec(),
            histograms: HistogramKind::Classic,
            buckets: (0..8).map(|n| 0.1 * f64::from(1 << n)).collect(),
            exemplars: true,
            edges_max: 2000,
            spans_max: 100_000,
        }
    }
}

type SpanKey = (TraceId, SpanId);

/// What an edge needs of one of its sides.
#[derive(Debug, Clone)]
struct Side {
    service: Arc<str>,
    key: SpanKey,
    ns: u64,
    end_ns: i64,
    has_failed: bool,
    is_message: bool,
    /// Whether the span is in what was written before the start.
    was_counted: bool,
    /// The name of the other side, should it not come.
    peer: Option<Box<str>>,
}

#[derive(Debug)]
struct Waiting {
    side: Side,
    is_client: bool,
    is_paired: bool,
    /// Spans that it looks for; of a client its own.
    keys: Vec<SpanKey>,
}

/// Edges of one tenant and the spans that wait for their other side.
#[derive(Debug)]
pub(crate) struct ServiceGraph {
    options: Arc<ServiceGraphOptions>,
    bounds: Arc<[f64]>,
    cells: Cells,
    waiting: FxHashMap<u64, Waiting>,
    /// Waiting spans in order of arrival.
    order: VecDeque<(Duration, u64)>,
    next: u64,
    clients: FxHashMap<SpanKey, u64>,
    /// Server and consumer spans by what they look for.
    servers: FxHashMap<SpanKey, Vec<u64>>,
    /// Clients that wait.
    client_count: usize,
    /// Spans that ended before this and were counted before the start were given up before the start too, Unix
    /// nanoseconds.
    given_up_ns: i64,
}

/// An attribute of the span as a name; "" counts as none.
fn name_of(span: &Span, attribute: &str) -> Option<Box<str>> {
    let text = match value::find(&span.attributes, attribute)? {
        AttributeValue::String(text) => text.clone(),
        other => other.to_text(),
    };
    (!text.is_empty()).then(|| text.into())
}

fn first_of<'a>(span: &Span, attributes: impl IntoIterator<Item = &'a str>) -> Option<Box<str>> {
    attributes.into_iter().find_map(|attribute| name_of(span, attribute))
}

/// The database that a client span calls.
fn database_of(span: &Span) -> Option<Box<str>> {
    let name = first_of(span, DATABASE_ATTRIBUTES)?;
    Some(name_of(span, PEER_SERVICE).unwrap_or(name))
}

impl ServiceGraph {
    /// `given_up_ns`: Unix nanoseconds before which spans that were counted before the start no longer waited then.
    pub(crate) fn new(options: Arc<ServiceGraphOptions>, given_up_ns: i64) -> Self {
        let bounds: Arc<[f64]> = options.buckets.clone().into();
        Self {
            cells: Cells::new(options.histograms, Arc::clone(&bounds), 2),
            bounds,
            options,
            waiting: FxHashMap::default(),
            order: VecDeque::new(),
            next: 0,
            clients: FxHashMap::default(),
            servers: FxHashMap::default(),
            client_count: 0,
            given_up_ns,
        }
    }

    /// Takes a span. `was_counted`: it came before the start and is in what was written then.
    pub(crate) fn add(&mut self, service: &Arc<str>, span: &Span, was_counted: bool, at: &Moment) {
        let is_message = matches!(span.kind, SpanKind::Producer | SpanKind::Consumer);
        let side = |peer| Side {
            service: Arc::clone(service),
            key: (span.trace_id, span.span_id),
            ns: span.duration_ns().unsigned_abs(),
            end_ns: span.end_ns,
            has_failed: span.status_code == StatusCode::Error,
            is_message,
            was_counted,
            peer,
        };
        match span.kind {
            SpanKind::Client | SpanKind::Producer => {
                if let Some(database) = database_of(span).filter(|_| !is_message) {
                    if !was_counted {
                        let side = side(None);
                        self.count(&side.service, &database, DATABASE, Some(&side), Some(&side), at);
                    }
                    return;
                }
                let peer = match is_message {
                    true => first_of(span, BROKER_ATTRIBUTES),
                    false => first_of(span, self.options.peer_attributes.iter().map(String::as_str)),
                };
                self.add_client(side(peer), at);
            }
            SpanKind::Server | SpanKind::Consumer => {
                let mut keys: Vec<SpanKey> = span.parent_span_id.map(|id| (span.trace_id, id)).into_iter().collect();
                // Zipkin's clients may give both sides one id.
                if value::find(&span.attributes, SHARED).is_some() {
                    keys.push((span.trace_id, span.span_id));
                }
                if is_message {
                    keys.extend(span.links.iter().take(LINKS_MAX).map(|link| (link.trace_id, link.span_id)));
                }
                keys.sort_unstable();
                keys.dedup();
                let peer = if is_message { first_of(span, BROKER_ATTRIBUTES) } else { None };
                self.add_server(side(peer), keys, at);
            }
            SpanKind::Internal | SpanKind::Unspecified => {}
        }
    }

    fn add_client(&mut self, side: Side, at: &Moment) {
        let key = side.key;
        let id = self.wait_for(side, true, vec![key], at);
        self.clients.insert(key, id);
        for server in self.servers.remove(&key).unwrap_or_default() {
            self.pair(id, server, at);
        }
    }

    fn add_server(&mut self, side: Side, keys: Vec<SpanKey>, at: &Moment) {
        if keys.is_empty() {
            match side.was_counted {
                true => {}
                false if side.is_message => self.count_alone(&side, false, at),
                false => self.count(USER, &side.service, VIRTUAL_NODE, None, Some(&side), at),
            }
            return;
        }
        let id = self.wait_for(side, false, keys.clone(), at);
        for key in keys {
            match self.clients.get(&key) {
                Some(client) => self.pair(*client, id, at),
                None => self.servers.entry(key).or_default().push(id),
            }
        }
    }

    fn wait_for(&mut self, side: Side, is_client: bool, keys: Vec<SpanKey>, at: &Moment) -> u64 {
        while self.waiting.len() >= self.options.spans_max.max(1) {
            limits::hit("service_graph_spans_max");
            EVICTED.inc();
            self.give_up_first(at);
        }
        let id = self.next;
        self.next += 1;
        self.client_count += usize::from(is_client);
        self.waiting.insert(id, Waiting { side, is_client, is_paired: false, keys });
        self.order.push_back((at.now, id));
        id
    }

    fn pair(&mut self, client: u64, server: u64, at: &Moment) {
        let Some(c) = self.waiting.get_mut(&client) else { return };
        c.is_paired = true;
        let c = c.side.clone();
        let Some(s) = self.waiting.get_mut(&server) else { return };
        s.is_paired = true;
        let s = s.side.clone();
        if c.was_counted && s.was_counted {
            return;
        }
        let kind = if c.is_message || s.is_message { MESSAGING_SYSTEM } else { "" };
        self.count(&c.service, &s.service, kind, Some(&c), Some(&s), at);
    }

    /// Counts a span whose other side did not come.
    fn count_alone(&mut self, side: &Side, is_client: bool, at: &Moment) {
        if side.was_counted && side.end_ns < self.given_up_ns {
            return;
        }
        let kind = if side.is_message { MESSAGING_SYSTEM } else { VIRTUAL_NODE };
        match &side.peer {
            Some(peer) if is_client => self.count(&side.service, peer, kind, Some(side), None, at),
            Some(peer) => self.count(peer, &side.service, kind, None, Some(side), at),
            None => UNPAIRED.with_label_values(&[if is_client { "client" } else { "server" }]).inc(),
        }
    }

    fn count(
        &mut self,
        client: &str,
        server: &str,
        kind: &'static str,
        client_side: Option<&Side>,
        server_side: Option<&Side>,
        at: &Moment,
    ) {
        let edges_max = self.options.edges_max;
        let number = self.cells.number(&[client, server, kind, ""], edges_max, at).unwrap_or_else(|| {
            limits::hit("service_graph_edges_max");
            OVERFLOWED.with_label_values(&["service_graph"]).inc();
            self.cells.number(&["", "", kind, "true"], usize::MAX, at).expect("there is no limit")
        });
        let cell = self.cells.change(number, at);
        let has_failed = |side: Option<&Side>| side.is_some_and(|side| side.has_failed);
        cell.counters[0] += 1;
        cell.counters[1] += u64::from(has_failed(client_side) || has_failed(server_side));
        for (number, side) in [server_side, client_side].into_iter().enumerate() {
            let Some(side) = side else { continue };
            let example = self.options.exemplars.then(|| Example {
                trace_id: side.key.0,
                span_id: side.key.1,
                seconds: side.ns as f64 / 1e9,
                t_ms: side.end_ns.div_euclid(1_000_000),
            });
            cell.observe(number, side.ns, &self.bounds, example);
        }
    }

    /// Gives up the spans that waited long enough.
    pub(crate) fn give_up(&mut self, at: &Moment) {
        while self.order.front().is_some_and(|(since, _)| at.now.saturating_sub(*since) >= self.options.wait) {
            self.give_up_first(at);
        }
    }

    /// Gives up all spans: none will come any more.
    pub(crate) fn give_up_all(&mut self, at: &Moment) {
        while !self.order.is_empty() {
            self.give_up_first(at);
        }
    }

    fn give_up_first(&mut self, at: &Moment) {
        let Some((_, id)) = self.order.pop_front() else { return };
        let Some(waiting) = self.waiting.remove(&id) else { return };
        self.client_count -= usize::from(waiting.is_client);
        for key in &waiting.keys {
            if waiting.is_client {
                if self.clients.get(key) == Some(&id) {
                    self.clients.remove(key);
                }
            } else if let Some(ids) = self.servers.get_mut(key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.servers.remove(key);
                }
            }
        }
        if !waiting.is_paired {
            self.count_alone(&waiting.side, waiting.is_client, at);
        }
    }

    /// Edges that are known.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Client and server spans that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.client_count, self.waiting.len() - self.client_count)
    }

    pub(crate) fn cut(&mut self, at: &Moment, stale_after: Duration) -> Vec<CellCut> {
        self.cells.cut(at, stale_after)
    }
}
