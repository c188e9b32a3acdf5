//! A log reader over records in memory that uses hints to the full, so that a wrong one shows as a wrong result.

use std::ops::ControlFlow;
use std::sync::Arc;

use trefoil_elastic::{Error, Indices, SearchRequest, Source, search};
use trefoil_model::event_store::ScanStats;
use trefoil_model::labels::underscored;
use trefoil_model::value::find;
use trefoil_model::{
    AttributeValue, Attributes, Direction, Labels, LogEntry, LogQuery, LogReader, LogRecord, Matcher, NanoRange,
    QueryBudget, StoreError, TenantId, Unlimited,
};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// A record with what it shares.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) stream: Labels,
    pub(crate) shared: Arc<Attributes>,
    pub(crate) record: LogRecord,
}

/// Records in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct MemoryLogs(pub(crate) Vec<Stored>);

pub(crate) fn record(time_ns: i64, text: &str, attributes: &[(&str, AttributeValue)]) -> LogRecord {
    LogRecord {
        time_ns,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: text.to_owned(),
        attributes: attributes.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect(),
        trace_id: None,
        span_id: None,
    }
}

impl MemoryLogs {
    pub(crate) fn push(&mut self, stream: &[(&str, &str)], record: LogRecord) {
        let stream = Labels::from_pairs(stream.iter().copied());
        self.0.push(Stored { stream, shared: Arc::default(), record });
    }

    /// The answer to a body, or the error's.
    pub(crate) fn ask(&self, index: &str, body: serde_json::Value) -> serde_json::Value {
        let run = || -> Result<serde_json::Value, Error> {
            let request = SearchRequest::parse(&body, NOW_MS)?;
            let source = Source { reader: self, tenant: TenantId(0), budget: &Unlimited };
            Ok(serde_json::Value::Object(search(&request, &Indices::parse(index)?, source)?.body))
        };
        run().unwrap_or_else(|error| error.body())
    }
}

fn selected(stream: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| {
        let value = stream.iter().find(|(n, _)| underscored(n) == m.name.as_str()).map_or("", |(_, v)| v);
        m.matches(value)
    })
}

fn has_term(stored: &Stored, name: &str, value: &str) -> bool {
    let ids = [
        ("trace_id", stored.record.trace_id.map(|id| id.to_string())),
        ("span_id", stored.record.span_id.map(|id| id.to_string())),
    ];
    ids.iter().any(|(n, id)| *n == name && id.as_deref() == Some(value))
        || [&stored.record.attributes, &*stored.shared].iter().any(|attributes| {
            attributes
                .iter()
                .any(|(n, _)| underscored(n) == name && find(attributes, n).is_some_and(|v| v.to_text() == value))
        })
}

impl LogReader for MemoryLogs {
    fn scan(
        &self,
        query: &LogQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError> {
        budget.check()?;
        let mut found: Vec<(u64, &Stored)> = (1u64..).zip(&self.0).collect();
        found.retain(|(_, s)| {
            let lower = s.record.text.to_ascii_lowercase();
            query.range.contains(s.record.time_ns)
                && selected(&s.stream, &query.matchers)
                && query.needles.iter().all(|n| s.record.text.contains(n.as_str()))
                && query.words.iter().all(|w| lower.contains(&w.to_ascii_lowercase()))
                && query.attribute_terms.iter().all(|(n, v)| has_term(s, n, v))
        });
        found.sort_by(|(a_at, a), (b_at, b)| {
            (a.record.time_ns, &a.stream, a_at).cmp(&(b.record.time_ns, &b.stream, b_at))
        });
        if query.direction == Direction::Backward {
            found.reverse();
        }
        for (sequence, stored) in found {
            let Stored { stream, shared, record } = stored;
            let entry = LogEntry { stream, stream_ref: stream.stable_hash(), sequence, shared, record };
            if each(entry).is_break() {
                break;
            }
        }
        Ok(ScanStats::default())
    }

    fn streams(
        &self,
        _: TenantId,
        range: NanoRange,
        matchers: &[Matcher],
        _: &dyn QueryBudget,
    ) -> Result<Vec<Labels>, StoreError> {
        let in_range = self.0.iter().filter(|s| range.contains(s.record.time_ns));
        let mut all: Vec<Labels> = in_range.map(|s| s.stream.clone()).filter(|s| selected(s, matchers)).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }
}
