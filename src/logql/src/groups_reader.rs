//! The reader contract over groups in memory: for live tails and tests.
//!
//! Hints are used to the full, so that a wrong one shows as a wrong result.

use std::ops::ControlFlow;

use trefoil_model::event_store::ScanStats;
use trefoil_model::labels::underscored;
use trefoil_model::{
    Attributes, Direction, Labels, LogEntry, LogGroup, LogQuery, LogReader, Matcher, NanoRange, QueryBudget,
    StoreError, TenantId,
};

/// Groups as they were pushed.
#[derive(Debug, Default)]
pub struct GroupsReader {
    /// The groups, in the order of their arrival.
    pub groups: Vec<LogGroup>,
}

fn selected(stream: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| {
        let value = stream.iter().find(|(n, _)| underscored(n) == m.name.as_str()).map_or("", |(_, v)| v);
        m.matches(value)
    })
}

fn has_term(record: &trefoil_model::LogRecord, shared: &Attributes, name: &str, value: &str) -> bool {
    let id = match name {
        "trace_id" => record.trace_id.map(|id| id.to_string()),
        "span_id" => record.span_id.map(|id| id.to_string()),
        _ => None,
    };
    id.is_some_and(|id| id == value)
        || record.attributes.iter().chain(shared).any(|(n, v)| underscored(n) == name && v.to_text() == value)
}

impl LogReader for GroupsReader {
    fn scan(
        &self,
        query: &LogQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError> {
        budget.check()?;
        let mut entries: Vec<(usize, &LogGroup, &trefoil_model::LogRecord)> = Vec::new();
        for (i, group) in self.groups.iter().enumerate() {
            if selected(&group.stream, &query.matchers) {
                entries.extend(group.records.iter().map(|r| (i, group, r)));
            }
        }
        entries.retain(|(_, _, r)| query.range.contains(r.time_ns));
        // The hints are used to the full, so that a wrong one shows as a wrong result.
        entries.retain(|(_, g, r)| {
            query.needles.iter().all(|n| r.text.contains(n.as_str()))
                && query.attribute_terms.iter().all(|(n, v)| has_term(r, &g.shared, n, v))
        });
        entries.sort_by(|a, b| (a.2.time_ns, &a.1.stream).cmp(&(b.2.time_ns, &b.1.stream)));
        if query.direction == Direction::Backward {
            entries.reverse();
        }
        let mut stats = ScanStats::default();
        for (i, group, record) in entries {
            stats.records += 1;
            stats.bytes += record.text.len() as u64;
            let (stream_ref, sequence) = (i as u64, i as u64);
            let entry = LogEntry { stream: &group.stream, stream_ref, sequence, shared: &group.shared, record };
            if each(entry).is_break() {
                break;
            }
        }
        Ok(stats)
    }

    fn streams(
        &self,
        _: TenantId,
        range: NanoRange,
        matchers: &[Matcher],
        _: &dyn QueryBudget,
    ) -> Result<Vec<Labels>, StoreError> {
        let mut out: Vec<Labels> = self
            .groups
            .iter()
            .filter(|g| selected(&g.stream, matchers) && g.records.iter().any(|r| range.contains(r.time_ns)))
            .map(|g| g.stream.clone())
            .collect();
        out.sort();
        out.dedup();
        Ok(out)
    }
}
