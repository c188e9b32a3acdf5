//! Runs case files in the format `trefoil-traceql-cases/1` against the engine: data sets, queries, expected results.
//!
//! A file has `datasets` (traces by name) and `cases`. Times are offsets from 2024-03-01T00:00:00Z. A case is a search,
//! with `range` or `instant` a metrics query, or a query that must be refused.

mod data;
mod expect;

use serde_json::Value as Json;
use trefoil_model::{NanoRange, TenantId, Unlimited};

use crate::error::Phase;
use crate::{Error, MetricsInstantQuery, MetricsRangeQuery, SearchQuery, TracesReader, metrics_instant, metrics_range};

pub use data::{EPOCH_NS, reader};

/// Name of the format, as `format` of a file may state it.
pub const FORMAT: &str = "trefoil-traceql-cases/1";

/// What a file gave.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Ids of the cases that ran, in order.
    pub cases: Vec<String>,
    /// The cases that failed.
    pub failures: Vec<Failure>,
}

/// A case that did not give what it expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Id of the case.
    pub id: String,
    /// What is wrong.
    pub message: String,
}

/// Runs all cases of a file.
///
/// Errors when the text is no such file at all; a malformed case is a failure of its own.
pub fn run(text: &str) -> Result<Report, String> {
    let document: Json = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if let Some(format) = document["format"].as_str()
        && format != FORMAT
    {
        return Err(format!("format {format:?} is not {FORMAT:?}"));
    }
    let cases = document["cases"].as_array().ok_or("no list `cases`")?;
    let mut report = Report::default();
    for (i, body) in cases.iter().enumerate() {
        let id = body["id"].as_str().map_or_else(|| format!("case {}", i + 1), str::to_owned);
        if let Err(message) = case(body, &document["datasets"]) {
            let message = match body["query"].as_str() {
                Some(query) => format!("{query}: {message}"),
                None => message,
            };
            report.failures.push(Failure { id: id.clone(), message });
        }
        report.cases.push(id);
    }
    Ok(report)
}

fn case(body: &Json, datasets: &Json) -> Result<(), String> {
    let none = Json::Null;
    let data = match body["dataset"].as_str() {
        Some(name) => datasets.get(name).ok_or_else(|| format!("no data set {name:?}"))?,
        None => &none,
    };
    let reader = data::reader(data)?;
    let query = body["query"].as_str().ok_or("no query")?;
    let expect = &body["expect"];
    if let Some(error) = expect.get("error") {
        return refused(query, error, &reader);
    }
    if let Some(traces) = expect.get("traces") {
        let found = search(query, &reader).map_err(|e| e.to_string())?;
        return expect::traces(&found, traces);
    }
    let tenant = TenantId(0);
    let (answer, is_instant) = if let Some(window) = body.get("instant") {
        let (start_ns, end_ns) = (data::time(&window["from"])?, data::time(&window["to"])?);
        (metrics_instant(&MetricsInstantQuery { query, start_ns, end_ns, tenant }, &reader, &Unlimited), true)
    } else if let Some(window) = body.get("range") {
        let (start_ns, end_ns) = (data::time(&window["from"])?, data::time(&window["to"])?);
        let step_ns = data::duration(&window["step"])?;
        let request = MetricsRangeQuery { query, start_ns, end_ns, step_ns, exemplars: 100, tenant };
        (metrics_range(&request, &reader, &Unlimited), false)
    } else {
        return Err("nothing is expected".to_owned());
    };
    expect::series(&answer.map_err(|e| e.to_string())?, expect, is_instant)
}

fn search(query: &str, reader: &TracesReader) -> Result<crate::SearchAnswer, Error> {
    let request = SearchQuery { query, range: NanoRange::ALL, limit: 0, spans_per_set: 0, tenant: TenantId(0) };
    crate::search(&request, reader, &Unlimited)
}

fn refused(query: &str, error: &Json, reader: &TracesReader) -> Result<(), String> {
    let status = error["status"].as_u64().unwrap_or(400);
    let found = match crate::parse(query) {
        Err(error) => error,
        Ok(parsed) => match parsed.kind {
            crate::ast::QueryKind::Metrics(_) => return Err("was not refused".to_owned()),
            crate::ast::QueryKind::Search(_) => match search(query, reader) {
                Ok(_) => return Err("was not refused".to_owned()),
                Err(error) => error,
            },
        },
    };
    if u64::from(found.status()) != status {
        return Err(format!("status {} instead of {status}: {found}", found.status()));
    }
    let phase = error["phase"].as_str().unwrap_or("parse");
    match found {
        Error::Refused { phase: got, .. } if got.as_str() != phase => {
            Err(format!("refused in phase {} instead of {phase}: {found}", got.as_str()))
        }
        Error::Refused { phase: Phase::Parse | Phase::Validate | Phase::Unsupported, .. } => Ok(()),
        // Some are refused only when there is data.
        Error::Query(_) | Error::Execution(_) => Ok(()),
        other @ Error::Store(_) => Err(other.to_string()),
    }
}
