//! What happens to one request: the spans and log lines that it leaves behind.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The services that send spans and logs.
pub(crate) const SERVICES: [&str; 5] = ["gateway", "orders", "inventory", "payments", "worker"];
const GATEWAY: usize = 0;
const ORDERS: usize = 1;
const INVENTORY: usize = 2;
const PAYMENTS: usize = 3;
const WORKER: usize = 4;

const ITEMS: [&str; 6] = ["clover-mug", "leaf-notebook", "stem-lamp", "meadow-rug", "petal-bowl", "root-chair"];
const REGIONS: [&str; 3] = ["eu-north", "eu-west", "us-east"];

/// OTLP's numbers of the kinds in use.
pub(crate) const SERVER: i32 = 2;
pub(crate) const CLIENT: i32 = 3;
pub(crate) const PRODUCER: i32 = 4;
pub(crate) const CONSUMER: i32 = 5;

/// An attribute value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

/// A span, times relative to the start of the request in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct SimSpan {
    pub(crate) service: usize,
    pub(crate) id: [u8; 8],
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) start_us: i64,
    pub(crate) end_us: i64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// The message of what failed.
    pub(crate) error: Option<String>,
}

/// A log line, time relative to the start of the request in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct SimLog {
    pub(crate) service: usize,
    pub(crate) span: [u8; 8],
    pub(crate) at_us: i64,
    /// OTLP's severity number.
    pub(crate) severity: i32,
    pub(crate) text: String,
    pub(crate) attributes: Vec<(&'static str, Value)>,
}

/// One measured server call: for the request metrics and their exemplars.
#[derive(Debug, Clone)]
pub(crate) struct SimCall {
    pub(crate) service: usize,
    pub(crate) route: &'static str,
    pub(crate) code: u16,
    pub(crate) seconds: f64,
    pub(crate) span: [u8; 8],
}

/// All that one request leaves behind.
#[derive(Debug, Clone)]
pub(crate) struct SimRequest {
    pub(crate) trace: [u8; 16],
    pub(crate) spans: Vec<SimSpan>,
    pub(crate) logs: Vec<SimLog>,
    pub(crate) calls: Vec<SimCall>,
    pub(crate) cache_hit: bool,
    pub(crate) queued: bool,
    pub(crate) db_statements: u64,
}

/// Makes requests.
#[derive(Debug)]
pub(crate) struct Simulation {
    rng: StdRng,
    orders: u64,
}

/// The span that is being built and what it needs of the whole.
struct Builder<'a> {
    request: &'a mut SimRequest,
    rng: &'a mut StdRng,
}

impl Builder<'_> {
    fn span(
        &mut self,
        service: usize,
        parent: Option<[u8; 8]>,
        name: impl Into<String>,
        kind: i32,
        start_us: i64,
    ) -> usize {
        let id = self.rng.random::<u64>().max(1).to_be_bytes();
        self.request.spans.push(SimSpan {
            service,
            id,
            parent,
            name: name.into(),
            kind,
            start_us,
            end_us: start_us,
            attributes: Vec::new(),
            error: None,
        });
        self.request.spans.len() - 1
    }

    fn id(&self, span: usize) -> [u8; 8] {
        self.request.spans[span].id
    }

    fn set(&mut self, span: usize, name: &'static str, value: impl Into<Value>) {
        self.request.spans[span].attributes.push((name, value.into()));
    }

    fn end(&mut self, span: usize, end_us: i64) {
        self.request.spans[span].end_us = end_us;
    }

    fn fail(&mut self, span: usize, message: &str) {
        self.request.spans[span].error = Some(message.to_owned());
    }

    fn log(&mut self, span: usize, at_us: i64, severity: i32, text: String, attributes: Vec<(&'static str, Value)>) {
        let (service, id) = (self.request.spans[span].service, self.id(span));
        self.request.logs.push(SimLog { service, span: id, at_us, severity, text, attributes });
    }

    fn call(&mut self, span: usize, route: &'static str, code: u16) {
        let s = &mut self.request.spans[span];
        s.attributes.push(("http.response.status_code", Value::Int(i64::from(code))));
        let call =
            SimCall { service: s.service, route, code, seconds: (s.end_us - s.start_us) as f64 / 1e6, span: s.id };
        self.request.calls.push(call);
    }

    /// A time in microseconds around `typical`, now and then much longer.
    fn around(&mut self, typical: i64) -> i64 {
        let spread: f64 = self.rng.random_range(0.6..1.6);
        let tail = if self.rng.random_range(0..100) == 0 { 6.0 } else { 1.0 };
        (typical as f64 * spread * tail) as i64
    }

    fn database(
        &mut self,
        service: usize,
        parent: [u8; 8],
        statement: &'static str,
        start_us: i64,
        typical: i64,
    ) -> i64 {
        let span =
            self.span(service, Some(parent), statement.split(" WHERE").next().unwrap_or(statement), CLIENT, start_us);
        self.set(span, "db.system.name", "postgresql");
        self.set(span, "db.namespace", "shop");
        self.set(span, "db.query.text", statement);
        self.set(span, "server.address", "database");
        let end = start_us + self.around(typical);
        self.end(span, end);
        self.request.db_statements += 1;
        end
    }
}

impl Simulation {
    /// A simulation that makes the same requests for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), orders: 10_000 }
    }

    /// Whether a request arrives now, for a mean of `per_tick` requests a tick.
    pub(crate) fn arrivals(&mut self, per_tick: f64) -> usize {
        let whole = per_tick.floor() as usize;
        whole + usize::from(self.rng.random_range(0.0..1.0) < per_tick.fract())
    }

    /// One request; `fault` says that the card processor is in trouble.
    pub(crate) fn request(&mut self, fault: bool) -> SimRequest {
        let mut request = SimRequest {
            trace: self.rng.random::<u128>().max(1).to_be_bytes(),
            spans: Vec::new(),
            logs: Vec::new(),
            calls: Vec::new(),
            cache_hit: false,
            queued: false,
            db_statements: 0,
        };
        let browse = self.rng.random_range(0..100) < 45;
        self.orders += 1;
        let order = self.orders;
        let mut b = Builder { request: &mut request, rng: &mut self.rng };
        let item = ITEMS[b.rng.random_range(0..ITEMS.len())];
        let region = REGIONS[b.rng.random_range(0..REGIONS.len())];
        let (method, route) = if browse { ("GET", "/items/{item}") } else { ("POST", "/orders") };
        let root = b.span(GATEWAY, None, format!("{method} {route}"), SERVER, 0);
        b.set(root, "http.request.method", method);
        b.set(root, "http.route", route);
        b.set(root, "client.region", region);
        let root_id = b.id(root);
        let t = b.around(900);
        let (end, code) = if browse {
            let end = inventory(&mut b, root_id, GATEWAY, item, t);
            (end, 200)
        } else {
            place_order(&mut b, root_id, item, order, t, fault)
        };
        let end = end + b.around(500);
        b.end(root, end);
        if code >= 500 {
            b.fail(root, "upstream orders failed");
        }
        b.call(root, route, code);
        let path = if browse { format!("/items/{item}") } else { "/orders".to_owned() };
        let text = format!("{method} {path} {code} {:.1}ms region={region}", end as f64 / 1000.0);
        b.log(
            root,
            end,
            if code >= 500 { 17 } else { 9 },
            text,
            vec![("http.route", route.into()), ("region", region.into())],
        );
        request
    }
}

/// A look-up of the stock: the cache, and the database when the cache misses. Returns the end.
fn inventory(b: &mut Builder<'_>, parent: [u8; 8], caller: usize, item: &'static str, start_us: i64) -> i64 {
    let call = b.span(caller, Some(parent), "GET /stock/{item}", CLIENT, start_us);
    b.set(call, "server.address", "inventory");
    let call_id = b.id(call);
    let lag = b.around(300);
    let server = b.span(INVENTORY, Some(call_id), "GET /stock/{item}", SERVER, start_us + lag);
    b.set(server, "http.request.method", "GET");
    b.set(server, "http.route", "/stock/{item}");
    b.set(server, "app.item", item);
    let server_id = b.id(server);
    let mut t = start_us + lag + b.around(200);
    let cache = b.span(INVENTORY, Some(server_id), "GET stock", CLIENT, t);
    b.set(cache, "db.system.name", "redis");
    b.set(cache, "server.address", "cache");
    t += b.around(350);
    b.end(cache, t);
    let hit = b.rng.random_range(0..100) < 80;
    b.request.cache_hit = hit;
    if !hit {
        t = b.database(INVENTORY, server_id, "SELECT quantity FROM stock WHERE item = $1", t, 4_000);
        b.log(server, t, 5, format!("cache miss for {item}, read from database"), vec![("app.item", item.into())]);
    }
    let end = t + b.around(250);
    b.end(server, end);
    b.call(server, "/stock/{item}", 200);
    let end = end + b.around(200);
    b.end(call, end);
    end
}

/// An order: stock, payment, the database, and a message for the worker. Returns the end and the status code.
fn place_order(
    b: &mut Builder<'_>,
    parent: [u8; 8],
    item: &'static str,
    order: u64,
    start_us: i64,
    fault: bool,
) -> (i64, u16) {
    let call = b.span(GATEWAY, Some(parent), "POST /orders", CLIENT, start_us);
    b.set(call, "server.address", "orders");
    let call_id = b.id(call);
    let lag = b.around(300);
    let server = b.span(ORDERS, Some(call_id), "POST /orders", SERVER, start_us + lag);
    b.set(server, "http.request.method", "POST");
    b.set(server, "http.route", "/orders");
    b.set(server, "app.order.id", format!("order-{order}"));
    b.set(server, "app.item", item);
    let server_id = b.id(server);
    let t = inventory(b, server_id, ORDERS, item, start_us + lag + 400);
    let (t, paid) = pay(b, server_id, order, t, fault);
    let (end, code) = if paid {
        let t = b.database(ORDERS, server_id, "INSERT INTO orders (id, item) VALUES ($1, $2)", t, 3_000);
        let end = publish(b, server_id, order, t);
        b.log(
            server,
            end,
            9,
            format!("order order-{order} accepted: {item}"),
            vec![("app.order.id", format!("order-{order}").into())],
        );
        (end, 201)
    } else {
        b.fail(server, "payment failed");
        b.log(
            server,
            t,
            17,
            format!("order order-{order} rejected: payment failed"),
            vec![("app.order.id", format!("order-{order}").into())],
        );
        (t, 502)
    };
    let end = end + b.around(300);
    b.end(server, end);
    b.call(server, "/orders", code);
    let end = end + b.around(200);
    b.end(call, end);
    (end, code)
}

/// A payment through the card processor. Returns the end and whether it worked.
fn pay(b: &mut Builder<'_>, parent: [u8; 8], order: u64, start_us: i64, fault: bool) -> (i64, bool) {
    let call = b.span(ORDERS, Some(parent), "POST /charge", CLIENT, start_us);
    b.set(call, "server.address", "payments");
    let call_id = b.id(call);
    let lag = b.around(300);
    let server = b.span(PAYMENTS, Some(call_id), "POST /charge", SERVER, start_us + lag);
    b.set(server, "http.request.method", "POST");
    b.set(server, "http.route", "/charge");
    let server_id = b.id(server);
    let t = start_us + lag + b.around(300);
    let processor = b.span(PAYMENTS, Some(server_id), "POST /v1/authorizations", CLIENT, t);
    b.set(processor, "server.address", "card-processor");
    let failed = b.rng.random_range(0..1000) < if fault { 450 } else { 4 };
    let took = b.around(if failed {
        1_200_000
    } else if fault {
        420_000
    } else {
        24_000
    });
    let end = t + took;
    b.end(processor, end);
    let ms = took / 1000;
    let order = format!("order-{order}");
    if failed {
        b.fail(processor, "card processor timed out");
        b.fail(server, "card processor timed out");
        let text =
            format!("level=error msg=\"charge failed\" order={order} error=\"card processor timed out\" took={ms}ms");
        b.log(server, end, 17, text, vec![("app.order.id", order.into())]);
    } else {
        let (severity, word) = if took > 200_000 { (13, "warn") } else { (9, "info") };
        let text = format!("level={word} msg=\"charge authorized\" order={order} took={ms}ms");
        b.log(server, end, severity, text, vec![("app.order.id", order.into())]);
    }
    let end = end + b.around(200);
    b.end(server, end);
    b.call(server, "/charge", if failed { 504 } else { 200 });
    let end = end + b.around(200);
    b.end(call, end);
    if failed {
        b.fail(call, "504 from payments");
    }
    (end, !failed)
}

/// A message over the broker that the worker takes a little later. Returns the end of the publishing.
fn publish(b: &mut Builder<'_>, parent: [u8; 8], order: u64, start_us: i64) -> i64 {
    let producer = b.span(ORDERS, Some(parent), "send shipments", PRODUCER, start_us);
    b.set(producer, "messaging.system", "rabbitmq");
    b.set(producer, "messaging.destination.name", "shipments");
    let end = start_us + b.around(700);
    b.end(producer, end);
    let producer_id = b.id(producer);
    b.request.queued = true;
    let t = end + b.around(30_000);
    let consumer = b.span(WORKER, Some(producer_id), "process shipments", CONSUMER, t);
    b.set(consumer, "messaging.system", "rabbitmq");
    b.set(consumer, "messaging.destination.name", "shipments");
    let consumer_id = b.id(consumer);
    let done = b.database(WORKER, consumer_id, "UPDATE orders SET shipped = now() WHERE id = $1", t + 500, 5_000);
    let done = done + b.around(900);
    b.end(consumer, done);
    let seconds = (done - t) as f64 / 1e6;
    b.request.calls.push(SimCall { service: WORKER, route: "shipments", code: 200, seconds, span: consumer_id });
    let text = format!(
        "{{\"level\":\"info\",\"msg\":\"shipment booked\",\"order\":\"order-{order}\",\"seconds\":{seconds:.4}}}"
    );
    b.log(consumer, done, 9, text, vec![("app.order.id", format!("order-{order}").into())]);
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_request_is_one_whole_trace() {
        let mut simulation = Simulation::new(1);
        for _ in 0..500 {
            let r = simulation.request(false);
            let ids: HashSet<_> = r.spans.iter().map(|s| s.id).collect();
            assert_eq!(ids.len(), r.spans.len());
            assert_eq!(r.spans.iter().filter(|s| s.parent.is_none()).count(), 1);
            assert!(r.spans.iter().all(|s| s.parent.is_none_or(|p| ids.contains(&p)) && s.end_us >= s.start_us));
            assert!(r.logs.iter().all(|l| ids.contains(&l.span)));
            assert!(!r.calls.is_empty());
        }
    }

    #[test]
    fn the_fault_makes_payments_fail() {
        let failures = |fault| {
            let mut simulation = Simulation::new(2);
            (0..1000).filter(|_| simulation.request(fault).calls.iter().any(|c| c.code >= 500)).count()
        };
        assert!(failures(true) > 20 * failures(false).max(1));
    }
}
