//! Documents: flat lists of named values as `_bulk`, JSON lines, HEC, Datadog, GELF and journald bring them, made log records.
//!
//! One rule for all of these doors. Of a document's fields one is the text, one the time, some name the stream, `log.level`
//! is the severity, `trace.id` and `span.id` are the ids; all others are attributes, nested objects under dotted names,
//! typed as sent, lists as lists. A document without a text is its own text, as JSON. Which field is what stands in a
//! [`Mapping`], which a door makes and a sender may change ([`FieldOptions`]).

mod builder;
mod parse;
pub mod time;

use rustc_hash::FxHashMap;

pub(crate) use builder::{Builder, Envelope};
pub(crate) use parse::{Field, FieldValue, parse_object};
pub use time::TimeUnit;

/// The stream label that names the index of `_bulk`; a record without it is of the index `logs`.
pub const INDEX_LABEL: &str = "_index";
/// The index whose name is not kept: that of records from all other doors.
pub const DEFAULT_INDEX: &str = "logs";
/// Most names in a list of field names.
const NAMES_MAX: usize = 256;

/// Names that are stream labels when a sender does not say which ones are (DESIGN section 5).
pub const STREAM_FIELDS: [&str; 22] = [
    "data_stream.dataset",
    "data_stream.namespace",
    "data_stream.type",
    "host.name",
    "kubernetes.container.name",
    "kubernetes.container_name",
    "kubernetes.cronjob.name",
    "kubernetes.daemonset.name",
    "kubernetes.deployment.name",
    "kubernetes.host",
    "kubernetes.job.name",
    "kubernetes.namespace",
    "kubernetes.namespace_name",
    "kubernetes.node.name",
    "kubernetes.pod.name",
    "kubernetes.pod_name",
    "kubernetes.replicaset.name",
    "kubernetes.statefulset.name",
    "service.environment",
    "service.name",
    "service.namespace",
    "service_name",
];
/// Names of fields whose value becomes the label `service_name` when no stream label tells the service, best first.
pub const SERVICE_FIELDS: [&str; 10] = [
    "service",
    "app",
    "application",
    "app_name",
    "kubernetes.labels.app",
    "kubernetes.labels.app_kubernetes_io/name",
    "kubernetes.labels.app.kubernetes.io/name",
    "kubernetes.container.name",
    "kubernetes.container_name",
    "container_name",
];

/// What a sender says about its fields, by query parameters or headers of the names that VictoriaLogs gave them
/// (<https://docs.victoriametrics.com/victorialogs/data-ingestion/#http-parameters>).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldOptions {
    /// `_msg_field`, `VL-Msg-Field`: names of the text, the first that has one counts.
    pub message: Vec<String>,
    /// `_time_field`, `VL-Time-Field`: names of the time, likewise.
    pub time: Vec<String>,
    /// `_stream_fields`, `VL-Stream-Fields`: names of the stream's labels; empty: [`STREAM_FIELDS`].
    pub streams: Vec<String>,
    /// `ignore_fields`, `VL-Ignore-Fields`: what is left out; a `*` at the end stands for any rest.
    pub ignored: Vec<String>,
    /// `extra_fields`, `VL-Extra-Fields`: `name=value`, set in every document.
    pub extra: Vec<(String, String)>,
}

impl FieldOptions {
    /// Reads the options: a query parameter wins over its header.
    ///
    /// Errors: the text for a 400.
    pub fn read<'a>(
        parameter: impl Fn(&str) -> Option<String>,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, String> {
        let list = |name: &str, header_name: &str| -> Result<Vec<String>, String> {
            let text = parameter(name).or_else(|| header(header_name).map(str::to_owned)).unwrap_or_default();
            let names: Vec<String> =
                text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
            if names.len() > NAMES_MAX {
                return Err(format!("{name} has {} names, at most {NAMES_MAX} are taken", names.len()));
            }
            Ok(names)
        };
        let extra = list("extra_fields", "vl-extra-fields")?
            .into_iter()
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
                _ => Err(format!("extra_fields: {pair:?} is not name=value")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            message: list("_msg_field", "vl-msg-field")?,
            time: list("_time_field", "vl-time-field")?,
            streams: list("_stream_fields", "vl-stream-fields")?,
            ignored: list("ignore_fields", "vl-ignore-fields")?,
            extra,
        })
    }
}

/// What a field is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The text; lower numbers are better.
    Message(u16),
    /// The time; lower numbers are better.
    Time(u16),
    /// A label of the stream, at that place of [`Mapping::streams`].
    Stream(u16),
    /// Tells the service when no label does; lower numbers are better. It stays an attribute.
    Service(u16),
    /// The severity.
    Severity,
    /// The trace id.
    Trace,
    /// The span id.
    Span,
    /// Left out.
    Ignored,
}

/// Which field of a document is what.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    roles: FxHashMap<String, Role>,
    streams: Vec<String>,
    ignored_prefixes: Vec<String>,
    extra: Vec<(String, String)>,
    /// What a bare number is as a time.
    unit: TimeUnit,
}

/// A door's own names, for what a sender does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults<'a> {
    pub(crate) message: &'a [&'a str],
    pub(crate) time: &'a [&'a str],
    pub(crate) streams: &'a [&'a str],
    pub(crate) severity: &'a [&'a str],
    pub(crate) unit: TimeUnit,
}

impl Mapping {
    /// Puts a sender's options over a door's defaults.
    pub(crate) fn new(options: &FieldOptions, defaults: &Defaults<'_>) -> Self {
        let or = |own: &[String], defaults: &[&str]| -> Vec<String> {
            if own.is_empty() { defaults.iter().map(|n| (*n).to_owned()).collect() } else { own.to_vec() }
        };
        let streams = or(&options.streams, defaults.streams);
        let mut roles = FxHashMap::default();
        let (exact, prefixes): (Vec<_>, Vec<_>) = options.ignored.iter().partition(|n| !n.ends_with('*'));
        // What is put in first stays.
        let mut put = |names: &mut dyn Iterator<Item = &str>, role: &dyn Fn(u16) -> Role| {
            for (i, name) in names.enumerate() {
                roles.entry(name.to_owned()).or_insert(role(u16::try_from(i).unwrap_or(u16::MAX)));
            }
        };
        put(&mut exact.iter().map(|n| n.as_str()), &|_| Role::Ignored);
        put(&mut streams.iter().map(String::as_str), &Role::Stream);
        put(&mut or(&options.message, defaults.message).iter().map(String::as_str), &Role::Message);
        put(&mut or(&options.time, defaults.time).iter().map(String::as_str), &Role::Time);
        put(&mut defaults.severity.iter().copied(), &|_| Role::Severity);
        put(&mut ["trace.id", "trace_id"].into_iter(), &|_| Role::Trace);
        put(&mut ["span.id", "span_id"].into_iter(), &|_| Role::Span);
        if options.streams.is_empty() {
            put(&mut SERVICE_FIELDS.into_iter(), &Role::Service);
        }
        let ignored_prefixes = prefixes.iter().map(|p| p.trim_end_matches('*').to_owned()).collect();
        Self { roles, streams, ignored_prefixes, extra: options.extra.clone(), unit: defaults.unit }
    }

    fn role(&self, name: &str) -> Option<Role> {
        let role = self.roles.get(name).copied();
        if role.is_none() && self.ignored_prefixes.iter().any(|p| name.starts_with(p.as_str())) {
            return Some(Role::Ignored);
        }
        role
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_win_over_headers() {
        let parameter = |name: &str| match name {
            "_msg_field" => Some("a, b,,".to_owned()),
            "extra_fields" => Some("env=prod,x=y=z".to_owned()),
            _ => None,
        };
        let header = |name: &str| match name {
            "vl-msg-field" => Some("other"),
            "vl-stream-fields" => Some("host,app"),
            _ => None,
        };
        let options = FieldOptions::read(parameter, header).unwrap();
        assert_eq!(options.message, ["a", "b"]);
        assert_eq!(options.streams, ["host", "app"]);
        assert_eq!(options.extra, [("env".to_owned(), "prod".to_owned()), ("x".to_owned(), "y=z".to_owned())]);
        let bad = FieldOptions::read(|name| (name == "extra_fields").then(|| "novalue".to_owned()), |_| None);
        assert_eq!(bad.unwrap_err(), "extra_fields: \"novalue\" is not name=value");
    }
}
