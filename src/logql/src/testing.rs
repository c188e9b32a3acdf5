//! Runs case files in the format `trefoil-logql-cases/1` against the engine: data sets, queries, expected results.
//!
//! A file has `datasets` (streams with labels and entries by name) and `cases`. Times are offsets from
//! 2024-03-01T00:00:00Z. A case is a log query (`log`), an instant one (`instant`), a range one (`range`), or one that
//! must be refused; without a mode it is put to the range endpoint. No automatic labels are added.

mod data;
mod expect;

use serde_json::Value as Json;
use trefoil_model::{Direction, TenantId, Unlimited};

use crate::{Engine, Error, InstantQuery, Output, RangeQuery};

pub use crate::groups_reader::GroupsReader;

/// Name of the format, as `format` of a file may state it.
pub const FORMAT: &str = "trefoil-logql-cases/1";

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
    let got = answer(body, &data::reader(data)?)?;
    let expect = &body["expect"];
    if let Some(error) = expect.get("error") {
        let status = error["status"].as_u64().unwrap_or(500);
        return match got {
            Ok(_) => Err("was not refused".to_owned()),
            Err(e) if u64::from(e.status()) != status => Err(format!("status {} instead of {status}: {e}", e.status())),
            Err(_) => Ok(()),
        };
    }
    let output = got.map_err(|e| e.to_string())?;
    let range = &body["range"];
    match (expect.get("entries"), expect.get("scalar"), expect.get("vector"), expect.get("matrix")) {
        (Some(want), ..) => expect::entries(&output, want, data, body["log"]["direction"] == "backward"),
        (_, Some(want), ..) => match output {
            Output::Scalar { value, .. } if expect::close(value, want) => Ok(()),
            other => Err(format!("got {other:?}")),
        },
        (_, _, Some(want), _) => expect::vector(&output, want, expect["ordered"] == true),
        (_, _, _, Some(want)) => {
            expect::matrix(&output, want, data::time(&range["from"])?, data::duration(&range["step"])?)
        }
        _ => Err("nothing is expected".to_owned()),
    }
}

/// Runs the query of a case; the outer error says that the case is malformed.
fn answer(body: &Json, reader: &GroupsReader) -> Result<Result<Output, Error>, String> {
    let query = body["query"].as_str().ok_or("no query")?;
    let tenant = TenantId(0);
    if let Some(at) = body["instant"].get("at") {
        let request = InstantQuery { query, time_ns: data::time(at)?, tenant };
        return Ok(Engine::instant(&request, reader, &Unlimited).map(|a| a.output));
    }
    let mode = if body["log"].is_null() { &body["range"] } else { &body["log"] };
    let (start_ns, end_ns) = if mode.is_null() {
        (data::EPOCH_NS, data::EPOCH_NS)
    } else {
        (data::time(&mode["from"])?, data::time(&mode["to"])?)
    };
    let request = RangeQuery {
        query,
        start_ns,
        end_ns,
        step_ns: mode.get("step").map_or(Ok(0), data::duration)?,
        direction: match mode["direction"].as_str() {
            Some("backward") => Direction::Backward,
            Some("forward") | None => Direction::Forward,
            Some(other) => return Err(format!("direction {other:?}")),
        },
        limit: usize::try_from(mode["limit"].as_u64().unwrap_or(0)).map_err(|e| e.to_string())?,
        tenant,
    };
    Ok(Engine::range(&request, reader, &Unlimited).map(|a| a.output))
}
