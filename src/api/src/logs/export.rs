//! `export`: all lines of a search as JSON lines or CSV, sent while they are read.
//!
//! Lines are read page by page, each page a query of its own, so that an export takes no more memory than a page and may
//! take longer than a query. A slow reader holds nothing but its connection. When a page fails after the first one the
//! transfer breaks off, so that nobody takes a part for the whole.

use std::io;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use prometheus::{IntCounter, register_int_counter};
use serde_json::{Map, Value, json};
use trefoil_logql::Entry;
use trefoil_model::labels::underscored;
use trefoil_model::{Direction, Labels};
use trefoil_runtime::limits;

use super::compose::Asked;
use super::search::Cursor;
use super::source::{Page, run};
use super::{level_of, value_of};
use crate::error::ApiError;
use crate::loki::params::{count, direction};
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Lines of a page.
const PAGE_LINES: usize = 5000;
/// Bytes of a page, about.
const PAGE_BYTES: usize = 8 << 20;
/// Columns of CSV when the client does not name them.
const COLUMNS: [&str; 4] = ["time", "level", "service_name", "line"];
/// Most columns.
const COLUMNS_MAX: usize = 200;

static LINES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_logs_export_lines_total", "Log lines that were exported.")
        .expect("unique metric name")
});

/// How lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    JsonLines,
    /// With these columns.
    Csv(Vec<String>),
}

impl Format {
    fn read(params: &Params) -> Result<Self, ApiError> {
        match params.get("format") {
            "" | "jsonl" | "json" | "ndjson" => Ok(Self::JsonLines),
            "csv" => {
                let named: Vec<String> = params
                    .get("columns")
                    .split(',')
                    .map(str::trim)
                    .filter(|c| !c.is_empty())
                    .map(|c| underscored(c).into_owned())
                    .collect();
                if named.len() > COLUMNS_MAX {
                    return Err(ApiError::parameter("columns", format!("more than {COLUMNS_MAX}")));
                }
                let default = || COLUMNS.map(str::to_owned).to_vec();
                Ok(Self::Csv(if named.is_empty() { default() } else { named }))
            }
            other => Err(ApiError::parameter("format", format!("{other:?} is neither jsonl nor csv"))),
        }
    }

    fn header(&self) -> String {
        let mut out = String::new();
        if let Self::Csv(columns) = self {
            row(&mut out, columns.iter().map(String::as_str));
        }
        out
    }

    fn line(&self, out: &mut String, stream: &Labels, entry: &Entry) {
        match self {
            Self::JsonLines => {
                let extra = entry.structured_metadata.iter().chain(&entry.parsed);
                let fields: Map<String, Value> = extra.map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect();
                let labels: Map<String, Value> = stream.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
                let line = json!({
                    "time": rfc3339(entry.ts_ns),
                    "level": level_of(stream, entry),
                    "line": entry.line,
                    "stream": labels,
                    "fields": fields,
                });
                out.push_str(&line.to_string());
                out.push('\n');
            }
            Self::Csv(columns) => {
                let time = rfc3339(entry.ts_ns);
                let nanos = entry.ts_ns.to_string();
                row(
                    out,
                    columns.iter().map(|column| match column.as_str() {
                        "time" => time.as_str(),
                        "time_ns" => nanos.as_str(),
                        "line" => entry.line.as_str(),
                        "level" => level_of(stream, entry),
                        name => value_of(stream, entry, name).unwrap_or(""),
                    }),
                );
            }
        }
    }
}

/// A time with all the digits that it has.
fn rfc3339(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |t| t.to_string())
}

/// A record of RFC 4180.
fn row<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(',');
        }
        if cell.contains(['"', ',', '\n', '\r']) || cell.starts_with(' ') || cell.ends_with(' ') {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push_str("\r\n");
}

/// An export under way.
struct Export {
    state: AppState,
    client: String,
    asked: Asked,
    /// Known from the first page on.
    query: Option<String>,
    format: Format,
    direction: Direction,
    after: Option<Cursor>,
    left: usize,
    /// Whether the client said how many lines it wants.
    is_limited: bool,
    is_done: bool,
}

impl Export {
    /// The text of the next page.
    async fn page(&mut self) -> Result<Bytes, ApiError> {
        let (known, format, direction, after) = (self.query.clone(), self.format.clone(), self.direction, self.after);
        let limit = self.left.min(PAGE_LINES);
        let names: Vec<String> = match &self.format {
            Format::Csv(columns) => columns.iter().filter(|c| is_field(c)).cloned().collect(),
            Format::JsonLines => Vec::new(),
        };
        let asked = self.asked.clone();
        let (query, text, cursor, lines, is_last) =
            run(&self.state, "/api/v1/logs/export", &self.client, asked, move |source, asked| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let query = match known {
                    Some(query) => query,
                    None => asked.compose(source, &names)?,
                };
                let range = after.map_or(asked.range, |cursor| cursor.rest(asked.range, direction));
                let skip = after.map_or((0, 0), |c| (c.time_ns, c.given));
                let Page { lines, is_last, .. } = source.lines(&query, range, direction, skip, (limit, PAGE_BYTES))?;
                let mut text = String::new();
                for (stream, entry) in &lines {
                    format.line(&mut text, stream, entry);
                }
                Ok((query, text, Cursor::behind(after, &lines), lines.len(), is_last))
            })
            .await?;
        LINES.inc_by(lines as u64);
        self.query = Some(query);
        self.after = cursor.or(self.after);
        self.left -= lines;
        self.is_done = is_last || (self.left == 0 && self.is_limited);
        if self.left == 0 && !self.is_done {
            limits::hit("log_export_lines_max");
            let most = self.state.limits.log_export_lines_max;
            return Err(ApiError::execution(format!(
                "the export has more than {most} lines (limit log_export_lines_max)"
            )));
        }
        Ok(Bytes::from(text))
    }

    /// The pages that follow.
    fn rest(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self, |mut export| async move {
            if export.is_done {
                return Ok(None);
            }
            match export.page().await {
                Ok(text) => Ok(Some((text, export))),
                Err(error) => {
                    tracing::warn!(%error, "export of logs broke off");
                    Err(io::Error::other(error.message))
                }
            }
        })
    }
}

/// Whether a column is a field, which a parser may have to find.
fn is_field(column: &str) -> bool {
    !matches!(column, "time" | "time_ns" | "line" | "level")
}

/// `GET`, `POST /api/v1/logs/export`
pub(super) async fn export(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let asked = Asked::read(&state, &params)?;
    let format = Format::read(&params)?;
    let most = state.limits.log_export_lines_max;
    let left = count(&params, "limit", most)?;
    if left > most {
        limits::hit("log_export_lines_max");
        return Err(
            ApiError::parameter("limit", format!("{left} is more than {most} (limit log_export_lines_max)")).into()
        );
    }
    let direction = match params.get("direction") {
        "" => Direction::Forward,
        _ => direction(&params)?,
    };
    let (kind, file) = match &format {
        Format::JsonLines => ("application/x-ndjson", "attachment; filename=\"logs.jsonl\""),
        Format::Csv(_) => ("text/csv; charset=utf-8", "attachment; filename=\"logs.csv\""),
    };
    let header = format.header();
    let mut export = Export {
        state,
        client,
        asked,
        query: None,
        format,
        direction,
        after: None,
        left,
        is_limited: !params.get("limit").is_empty(),
        is_done: false,
    };
    // What is wrong with the search shows here, while there can be a status.
    let first = export.page().await?;
    let begin = stream::iter([Ok(Bytes::from(header)), Ok(first)]);
    let body = Body::from_stream(futures::StreamExt::chain(begin, export.rest()));
    Ok(response(body, kind, file))
}

fn response(body: Body, kind: &'static str, file: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, file)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written() {
        let entry = Entry {
            ts_ns: 1_700_000_000_250_000_000,
            line: "said \"a, b\"\nand more".to_owned(),
            structured_metadata: vec![("detected_level".to_owned(), "warn".to_owned())],
            parsed: vec![("code".to_owned(), "5".to_owned())],
        };
        let stream = Labels::from_pairs([("app", "shop")]);
        let written = |query: &str| {
            let format = Format::read(&Params::from_query(query).expect("a query")).expect("a format");
            let mut out = format.header();
            format.line(&mut out, &stream, &entry);
            out
        };
        assert_eq!(
            written("format=csv&columns=time,level,app,code,none,line"),
            "time,level,app,code,none,line\r\n\
             2023-11-14T22:13:20.25Z,warn,shop,5,,\"said \"\"a, b\"\"\nand more\"\r\n"
        );
        assert!(written("format=csv").starts_with("time,level,service_name,line\r\n"));
        let line: Value = serde_json::from_str(&written("")).expect("JSON");
        assert_eq!(line["fields"], json!({"code": "5", "detected_level": "warn"}));
        assert_eq!((&line["time"], &line["stream"]), (&json!("2023-11-14T22:13:20.25Z"), &json!({"app": "shop"})));
        let fault = Format::read(&Params::from_query("format=xml").expect("a query")).expect_err("no format");
        assert!(fault.message.contains("neither jsonl nor csv"), "{fault}");
    }
}
