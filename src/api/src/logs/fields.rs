//! `fields`: which fields the newest lines of a search have, with their most frequent values; and
//! `field/{name}/values`: the values of one field over all lines.

use std::collections::HashMap;

use axum::extract::{Path, Request, State};
use serde_json::{Value, json};
use trefoil_logql::{Entry, FieldType, StreamResult, detect_fields};
use trefoil_model::labels::underscored;
use trefoil_model::{Direction, Labels, QueryBudget};

use super::compose::Asked;
use super::source::{NO_BYTES_MAX, run};
use super::{answer, line_count};
use crate::error::ApiError;
use crate::loki::params::count;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Lines that are looked at when the client does not say.
const LINES: usize = 1000;
/// Values of a field when the client does not say.
const VALUES: usize = 10;
/// Most fields.
const FIELDS_MAX: usize = 500;
/// Fields that one line may add.
const FIELDS_PER_LINE_MAX: usize = 1000;
/// Most values of a field that are told apart; more are counted as one.
const VALUES_KNOWN_MAX: usize = 10_000;
/// Bytes of a value that is listed; longer ones are only counted.
const VALUE_BYTES_MAX: usize = 512;

/// Where a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Stream,
    Metadata,
    Line(&'static str),
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Metadata => "metadata",
            Self::Line(parser) => parser,
        }
    }
}

/// What is known of a field.
#[derive(Debug)]
struct Field {
    kind: Kind,
    /// `None` for labels of streams, which are text.
    kinds: Option<FieldType>,
    lines: u64,
    values: HashMap<String, u64>,
    json_path: Vec<String>,
}

/// Counts values by field over lines.
#[derive(Debug, Default)]
struct Counter {
    fields: HashMap<String, Field>,
    lines: usize,
}

impl Counter {
    fn line(&mut self, stream: &Labels, entry: Entry) {
        self.lines += 1;
        for (name, value) in stream.iter() {
            self.add(name, value, Kind::Stream, None, Vec::new());
        }
        let metadata: Vec<String> = entry.structured_metadata.iter().map(|(n, _)| n.clone()).collect();
        let one = [StreamResult { labels: stream.clone(), entries: vec![entry] }];
        for (name, found) in detect_fields(&one, FIELDS_PER_LINE_MAX) {
            let kind = match found.parsers.first() {
                Some(parser) if !metadata.contains(&name) => Kind::Line(parser),
                _ => Kind::Metadata,
            };
            for value in &found.values {
                self.add(&name, value, kind, Some(found.kind), found.json_path.clone());
            }
        }
    }

    fn add(&mut self, name: &str, value: &str, kind: Kind, form: Option<FieldType>, json_path: Vec<String>) {
        if !self.fields.contains_key(name) {
            if self.fields.len() >= FIELDS_MAX {
                return;
            }
            let field = Field { kind, kinds: form, lines: 0, values: HashMap::new(), json_path };
            self.fields.insert(name.to_owned(), field);
        }
        let Some(field) = self.fields.get_mut(name) else { return };
        field.lines += 1;
        field.kind = field.kind.min(kind);
        if field.kinds != form {
            field.kinds = match (field.kinds, form) {
                (Some(a), Some(b)) => Some(a.joined(b)),
                _ => Some(FieldType::String),
            };
        }
        if let Some(count) = field.values.get_mut(value) {
            *count += 1;
        } else if field.values.len() < VALUES_KNOWN_MAX {
            field.values.insert(value.to_owned(), 1);
        }
    }

    /// Labels of streams first, then metadata, then what is in the lines; of each the most frequent first.
    fn shown(self, most: usize) -> Vec<Value> {
        let mut fields: Vec<(String, Field)> = self.fields.into_iter().collect();
        let rank = |kind: Kind| match kind {
            Kind::Stream => 0,
            Kind::Metadata => 1,
            Kind::Line(_) => 2,
        };
        fields.sort_by(|(a, f), (b, g)| {
            (rank(f.kind), std::cmp::Reverse(f.lines), a).cmp(&(rank(g.kind), std::cmp::Reverse(g.lines), b))
        });
        let one = |(name, field): (String, Field)| {
            let distinct = field.values.len();
            let mut values: Vec<(String, u64)> = field.values.into_iter().collect();
            values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            let listed = values.into_iter().filter(|(v, _)| v.len() <= VALUE_BYTES_MAX).take(most);
            let listed: Vec<Value> = listed.map(|(value, count)| json!({ "value": value, "count": count })).collect();
            let mut shown = json!({
                "name": name,
                "source": field.kind.as_str(),
                "type": field.kinds.unwrap_or(FieldType::String).as_str(),
                "lines": field.lines,
                "distinct": distinct,
                "values": listed,
            });
            if !field.json_path.is_empty() {
                shown["jsonPath"] = Value::from(field.json_path);
            }
            shown
        };
        fields.into_iter().map(one).collect()
    }
}

/// `GET`, `POST /api/v1/logs/fields`
pub(super) async fn fields(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let asked = Asked::read(&state, &params)?;
    let lines = line_count(&state, &params, "lines", LINES)?;
    let most = count(&params, "values", VALUES)?;
    let data = run(&state, "/api/v1/logs/fields", &client, asked, move |source, asked| {
        let query = asked.compose(source, &[])?;
        let page = source.lines(&query, asked.range, Direction::Backward, (0, 0), (lines, NO_BYTES_MAX))?;
        let mut counter = Counter::default();
        for (stream, entry) in page.lines {
            source.context.check()?;
            counter.line(&stream, entry);
        }
        let (read, is_complete) = (counter.lines, page.is_last);
        Ok(json!({ "query": query, "lines": read, "complete": is_complete, "fields": counter.shown(most) }))
    })
    .await?;
    answer(&state, &data)
}

/// `GET`, `POST /api/v1/logs/field/{name}/values`
pub(super) async fn values(State(state): State<AppState>, Path(name): Path<String>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let asked = Asked::read(&state, &params)?;
    let name = underscored(&name).into_owned();
    if name.is_empty() {
        return Err(ApiError::bad_data("a field has a name").into());
    }
    let most = count(&params, "limit", 100)?;
    let data = run(&state, "/api/v1/logs/field/{name}/values", &client, asked, move |source, asked| {
        let query = asked.compose(source, &[&name])?;
        let window_ns = asked.range.end_ns.saturating_sub(asked.range.start_ns);
        let counted = format!("sum by ({name}) (count_over_time({query} [{window_ns}ns]))");
        let mut found: Vec<(String, u64)> = match window_ns > 0 {
            true => source.instant(&counted, asked.range.end_ns - 1)?,
            false => Vec::new(),
        }
        .into_iter()
        .map(|s| (s.labels.get(&name).unwrap_or("").to_owned(), s.value as u64))
        .collect();
        // Lines without the field.
        let absent: u64 = found.iter().filter(|(v, _)| v.is_empty()).map(|(_, n)| n).sum();
        found.retain(|(v, _)| !v.is_empty());
        found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let (distinct, lines) = (found.len(), found.iter().map(|(_, n)| n).sum::<u64>());
        found.truncate(most);
        let listed: Vec<Value> = found.iter().map(|(v, n)| json!({ "value": v, "count": n })).collect();
        Ok(json!({ "query": query, "lines": lines, "absent": absent, "distinct": distinct, "values": listed }))
    })
    .await?;
    answer(&state, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_by_where_they_stand() {
        let mut counter = Counter::default();
        let stream = Labels::from_pairs([("app", "shop")]);
        for (line, level) in [("code=500 took=5ms", "error"), ("code=500 took=7", "info"), ("{\"code\":\"x\"}", "info")]
        {
            let structured_metadata = vec![("detected_level".to_owned(), level.to_owned())];
            let entry = Entry { ts_ns: 0, line: line.to_owned(), structured_metadata, parsed: Vec::new() };
            counter.line(&stream, entry);
        }
        let shown: Vec<String> = counter
            .shown(1)
            .iter()
            .map(|f| {
                format!("{} {} {} {} {} {}", f["name"], f["source"], f["type"], f["lines"], f["distinct"], f["values"])
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#""app" "stream" "string" 3 1 [{"value":"shop","count":3}]"#,
                r#""detected_level" "metadata" "string" 3 2 [{"value":"info","count":2}]"#,
                r#""code" "json" "string" 3 2 [{"value":"500","count":2}]"#,
                r#""took" "logfmt" "string" 2 2 [{"value":"5ms","count":1}]"#,
            ]
        );
    }
}
