//! Errors of spans in groups: by service, name of the span, type, shape of the message, and where in the code.

use rustc_hash::FxHashMap;
use trefoil_model::{AttributeValue, Attributes, Resource, Span, SpanId, TraceId, value};

use crate::patterns::shape;

/// Attributes of spans that are looked at.
pub const ATTRIBUTES: [&str; 12] = [
    "exception.type",
    "exception.message",
    "exception.stacktrace",
    "error.type",
    "error.message",
    "error.stack",
    "code.function.name",
    "code.function",
    "code.namespace",
    "http.response.status_code",
    "http.status_code",
    "rpc.grpc.status_code",
];
/// Parts of the range of which errors are counted apart.
pub const STEPS: usize = 30;
/// Bytes of a text that are kept.
const TEXT_BYTES_MAX: usize = 400;

/// What errors of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorKey {
    /// Service.
    pub service: String,
    /// Name of the span.
    pub span: String,
    /// Type of the exception, or what else names the error; "" when nothing does.
    pub kind: String,
    /// The message with `<_>` in place of numbers and ids; "" without one.
    pub shape: String,
    /// Function, or top of the stack; "" when nothing says it.
    pub place: String,
}

/// A group of errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorGroup {
    /// What they have in common.
    pub key: ErrorKey,
    /// How many.
    pub count: u64,
    /// Start of the first span, Unix nanoseconds.
    pub first_ns: i64,
    /// Start of the last.
    pub last_ns: i64,
    /// Trace and id of the last span, and its message.
    pub example: (TraceId, SpanId, String),
    /// How many in each part of the range.
    pub counts: [u64; STEPS],
}

/// Collects groups, within bounds.
#[derive(Debug)]
pub struct ErrorGroups {
    range: (i64, i64),
    groups_max: usize,
    groups: FxHashMap<ErrorKey, ErrorGroup>,
    /// All errors.
    pub total: u64,
    /// Those of groups for which there was no room.
    pub left_out: u64,
}

impl ErrorGroups {
    /// Of a range of time (the end is outside), so many groups at most.
    pub fn new(range: (i64, i64), groups_max: usize) -> Self {
        Self { range, groups_max, groups: FxHashMap::default(), total: 0, left_out: 0 }
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True without errors.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Notes a span that failed; ids and start are told apart, for the span may stand for several.
    pub fn note(&mut self, span: &Span, resource: &Resource, ids: (TraceId, SpanId), start_ns: i64) {
        self.total += 1;
        let exception = span.events.iter().rev().find(|event| event.name == "exception");
        let attributes = [exception.map(|event| &event.attributes), Some(&span.attributes)];
        let message = text_of(&attributes, &["exception.message", "error.message"])
            .or_else(|| (!span.status_message.is_empty()).then(|| span.status_message.clone()))
            .unwrap_or_default();
        let message = cut(message.lines().next().unwrap_or(""));
        let key = ErrorKey {
            service: resource.service_name().to_owned(),
            span: span.name.clone(),
            kind: cut(&kind_of(&attributes)),
            shape: shape(&message),
            place: cut(&place_of(&attributes)),
        };
        if self.groups.len() >= self.groups_max && !self.groups.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let group = self.groups.entry(key).or_insert_with_key(|key| ErrorGroup {
            key: key.clone(),
            count: 0,
            first_ns: i64::MAX,
            last_ns: i64::MIN,
            example: (ids.0, ids.1, String::new()),
            counts: [0; STEPS],
        });
        group.count += 1;
        group.first_ns = group.first_ns.min(start_ns);
        if (start_ns, ids.0) >= (group.last_ns, group.example.0) {
            group.last_ns = start_ns;
            group.example = (ids.0, ids.1, message);
        }
        let (start, end) = self.range;
        let length = i128::from(end) - i128::from(start);
        let at = (i128::from(start_ns) - i128::from(start)) * STEPS as i128 / length.max(1);
        group.counts[usize::try_from(at).unwrap_or(0).min(STEPS - 1)] += 1;
    }

    /// The groups, the largest first.
    pub fn finish(self) -> Vec<ErrorGroup> {
        let mut out: Vec<ErrorGroup> = self.groups.into_values().collect();
        out.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        out
    }
}

/// The first of some attributes that is there and not empty, of the first place that has it.
fn text_of(places: &[Option<&Attributes>], names: &[&str]) -> Option<String> {
    let found =
        places.iter().flatten().flat_map(|attributes| names.iter().filter_map(|name| value::find(attributes, name)));
    found.map(AttributeValue::to_text).find(|text| !text.is_empty())
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn kind_of(attributes: &[Option<&Attributes>]) -> String {
    if let Some(kind) = text_of(attributes, &["exception.type", "error.type"]) {
        return kind;
    }
    let http = text_of(attributes, &["http.response.status_code", "http.status_code"]);
    let http = http.filter(|code| code.starts_with(['4', '5'])).map(|code| format!("HTTP {code}"));
    let grpc = || text_of(attributes, &["rpc.grpc.status_code"]).filter(|code| code != "0");
    http.or_else(|| grpc().map(|code| format!("gRPC {code}"))).unwrap_or_default()
}

fn place_of(attributes: &[Option<&Attributes>]) -> String {
    let function = text_of(attributes, &["code.function.name", "code.function"]);
    if let Some(function) = function {
        return match text_of(attributes, &["code.namespace"]) {
            Some(namespace) if !function.starts_with(&namespace) => format!("{namespace}.{function}"),
            _ => function,
        };
    }
    text_of(attributes, &["exception.stacktrace", "error.stack"])
        .and_then(|stack| stack_top(&stack))
        .unwrap_or_default()
}

/// The function that a stack trace of Java, JavaScript, .NET, Python, Ruby or Go ends in, without line numbers.
fn stack_top(stack: &str) -> Option<String> {
    let lines = || stack.lines().map(str::trim).filter(|line| !line.is_empty());
    // `at f(File.java:1)`, `at f (file.js:1:2)`, `at f(x) in file:1`.
    let at = lines().find_map(|line| line.strip_prefix("at "));
    if let Some(frame) = at {
        return Some(frame.split('(').next().unwrap_or(frame).trim().to_owned()).filter(|frame| !frame.is_empty());
    }
    // `File "shop/cart.py", line 1, in load`: the last is where it happened.
    let python = lines().rev().find_map(|line| line.strip_prefix("File \""));
    if let Some((file, rest)) = python.and_then(|line| line.split_once('"')) {
        let file = file.rsplit(['/', '\\']).next().unwrap_or(file);
        return Some(match rest.split_once(", in ") {
            Some((_, function)) => format!("{file} {function}"),
            None => file.to_owned(),
        });
    }
    // `cart.rb:1:in 'load'`.
    let ruby = lines().find_map(|line| line.split_once(":in "));
    if let Some((file, function)) = ruby {
        let file = file.split(':').next().unwrap_or(file).rsplit('/').next().unwrap_or(file);
        return Some(format!("{file} {}", function.trim_matches(['`', '\''])));
    }
    // `goroutine 1 [running]:`, then functions with their files below.
    if lines().next().is_some_and(|line| line.starts_with("goroutine ")) {
        let own = ["runtime/", "runtime.", "panic(", "created by "];
        let function = lines().skip(1).find(|line| {
            line.ends_with(')') && !line.starts_with('/') && own.iter().all(|prefix| !line.starts_with(prefix))
        })?;
        return Some(function.rsplit_once('(').map_or(function, |(name, _)| name).to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use trefoil_model::SpanEvent;

    use super::super::tree::tests::span;
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), AttributeValue::String((*v).to_owned()))).collect()
    }

    #[test]
    fn the_top_of_a_stack() {
        for (stack, want) in [
            ("java.lang.X: no\n\tat com.shop.Cart.load(Cart.java:12)\n\tat b.C.d(C.java:1)", "com.shop.Cart.load"),
            ("TypeError: no\n    at Cart.load (/app/cart.js:1:2)\n    at f (x.js:3:4)", "Cart.load"),
            (
                "Traceback (most recent call last):\n  File \"/a/main.py\", line 3, in run\n    x()\n  File \"/a/cart.py\", line 9, in load\n    y()\nKeyError: 'a'",
                "cart.py load",
            ),
            ("/app/cart.rb:12:in `load'\n/app/x.rb:1:in `y'", "cart.rb load"),
            (
                "goroutine 1 [running]:\nruntime/debug.Stack()\n\t/go/x.go:1\nmain.(*Cart).Load(0x1)\n\t/app/cart.go:9",
                "main.(*Cart).Load",
            ),
            ("no stack at all", ""),
            ("", ""),
        ] {
            assert_eq!(stack_top(stack).unwrap_or_default(), want, "{stack}");
        }
    }

    #[test]
    fn errors_of_one_shape_are_one_group() {
        let mut groups = ErrorGroups::new((0, 300), 3);
        let resource = Resource { attributes: texts(&[("service.name", "shop")]), ..Resource::default() };
        let mut note = |id: u8, name: &str, start: i64, message: &str| {
            let mut failed = span(id, 0, name, start, start);
            let attributes = texts(&[("exception.type", "NotFound"), ("exception.message", message)]);
            failed.events = vec![SpanEvent { name: "exception".to_owned(), attributes, ..SpanEvent::default() }];
            groups.note(&failed, &resource, (TraceId([id; 16]), failed.span_id), start);
        };
        note(1, "load", 10, "no user 17 in table");
        note(2, "load", 290, "no user 4711 in table\nmore");
        note(3, "load", 20, "no user 5 in table");
        note(4, "save", 30, "disk full");
        note(5, "load", 40, "no such thing");
        note(6, "other", 40, "beyond the bound");
        assert_eq!((groups.total, groups.left_out), (6, 1));
        let found = groups.finish();
        let first = &found[0];
        assert_eq!((first.key.shape.as_str(), first.key.kind.as_str()), ("no user <_> in table", "NotFound"));
        assert_eq!((first.count, first.first_ns, first.last_ns), (3, 10, 290));
        assert_eq!(first.example, (TraceId([2; 16]), SpanId([2; 8]), "no user 4711 in table".to_owned()));
        assert_eq!((first.counts[1], first.counts[2], first.counts[29]), (1, 1, 1));
    }

    #[test]
    fn other_names_of_errors() {
        let of = |pairs: &[(&str, &str)]| {
            let attributes = texts(pairs);
            (kind_of(&[None, Some(&attributes)]), place_of(&[None, Some(&attributes)]))
        };
        assert_eq!(of(&[("http.response.status_code", "503")]).0, "HTTP 503");
        assert_eq!(of(&[("http.status_code", "200"), ("rpc.grpc.status_code", "14")]).0, "gRPC 14");
        assert_eq!(of(&[("code.function", "load"), ("code.namespace", "shop.Cart")]).1, "shop.Cart.load");
        assert_eq!(of(&[]), (String::new(), String::new()));
    }
}
