//! Deletions of log records: which records of which parts are not to be seen any more.
//!
//! A deletion is an entry of the attribute `deletions` of the commits. The memtable is flushed before it is made, and
//! every part says up to which number deletions do not concern it: those that were there when it was written. So a
//! deletion hides records of the parts of its time and no others. Merges leave hidden records out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trefoil_model::{Labels, LogDeletion, LogDeletionState, MatchOp, Matcher, NanoRange, TenantId};
use trefoil_parts::PartMeta;

use crate::log_plan::stream_matches;

/// Attribute of commits.
pub(crate) const DELETIONS: &str = "deletions";
/// Attribute of parts: the last deletion that they need not know.
pub(crate) const DELETIONS_DONE: &str = "deletions_done";
/// Most deletions that wait for merges.
pub(crate) const DELETIONS_MAX: usize = 1000;
/// How many deletions that are done are still listed. Queries that began before need them too.
const DONE_LISTED: usize = 100;

/// All deletions as of one commit.
#[derive(Debug, Default, Clone)]
pub(crate) struct Deletions {
    /// The last number that was given.
    pub(crate) last: u64,
    pub(crate) list: Vec<Arc<LogDeletionState>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredList {
    last: u64,
    list: Vec<Stored>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    id: u64,
    tenant: u32,
    query: String,
    /// Name, operator, value.
    matchers: Vec<(String, String, String)>,
    contains: Vec<String>,
    start_ns: i64,
    end_ns: i64,
    created_ms: i64,
    is_done: bool,
}

impl Stored {
    fn of(state: &LogDeletionState) -> Self {
        let LogDeletionState { id, deletion, created_ms, is_done } = state;
        let matcher = |m: &Matcher| (m.name.clone(), m.op.as_str().to_owned(), m.value.clone());
        Self {
            id: *id,
            tenant: deletion.tenant.0,
            query: deletion.query.clone(),
            matchers: deletion.matchers.iter().map(matcher).collect(),
            contains: deletion.contains.clone(),
            start_ns: deletion.range.start_ns,
            end_ns: deletion.range.end_ns,
            created_ms: *created_ms,
            is_done: *is_done,
        }
    }

    fn state(self) -> Option<LogDeletionState> {
        let matcher = |(name, op, value): (String, String, String)| {
            let all = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            Matcher::new(all.into_iter().find(|o| o.as_str() == op)?, name, value).ok()
        };
        let deletion = LogDeletion {
            tenant: TenantId(self.tenant),
            query: self.query,
            matchers: self.matchers.into_iter().map(matcher).collect::<Option<_>>()?,
            contains: self.contains,
            range: NanoRange::new(self.start_ns, self.end_ns),
        };
        Some(LogDeletionState { id: self.id, deletion, created_ms: self.created_ms, is_done: self.is_done })
    }
}

/// Whether a deletion hides a record of one of its streams.
pub(crate) fn hides(deletion: &LogDeletion, time_ns: i64, text: &str) -> bool {
    deletion.range.contains(time_ns) && deletion.contains.iter().all(|needle| text.contains(needle))
}

/// Whether a deletion may hide records of a stream.
pub(crate) fn selects(deletion: &LogDeletion, labels: &Labels) -> bool {
    stream_matches(labels, &deletion.matchers)
}

fn done_of(part: &PartMeta) -> u64 {
    part.attributes.get(DELETIONS_DONE).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Deletions {
    /// What the attribute says, `None` for what it cannot say.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let stored: StoredList = serde_json::from_str(text).ok()?;
        let list = stored.list.into_iter().map(|s| s.state().map(Arc::new)).collect::<Option<_>>()?;
        Some(Self { last: stored.last, list })
    }

    /// The attribute.
    pub(crate) fn text(&self) -> String {
        let list = StoredList { last: self.last, list: self.list.iter().map(|state| Stored::of(state)).collect() };
        serde_json::to_string(&list).expect("plain data has a JSON form")
    }

    /// Those that may hide records of a part.
    pub(crate) fn of_part(&self, part: &PartMeta) -> Vec<Arc<LogDeletionState>> {
        if self.list.is_empty() {
            return Vec::new();
        }
        let done = done_of(part);
        self.list.iter().filter(|state| concerns(state, part, done)).cloned().collect()
    }

    /// Whether one may hide records of a part.
    pub(crate) fn concern(&self, part: &PartMeta) -> bool {
        let done = done_of(part);
        self.list.iter().any(|state| concerns(state, part, done))
    }

    /// With those marked as done that concern none of the parts; of these only the last are kept.
    pub(crate) fn settled(&self, parts: &[Arc<PartMeta>]) -> Self {
        let mut list = self.list.clone();
        for state in &mut list {
            if !state.is_done && !parts.iter().any(|part| concerns(state, part, done_of(part))) {
                *state = Arc::new(LogDeletionState { is_done: true, ..LogDeletionState::clone(state) });
            }
        }
        let mut done = list.iter().filter(|state| state.is_done).count();
        list.retain(|state| {
            let drops = state.is_done && done > DONE_LISTED;
            done -= usize::from(drops);
            !drops
        });
        Self { last: self.last, list }
    }

    /// How many are not done.
    pub(crate) fn waiting(&self) -> usize {
        self.list.iter().filter(|state| !state.is_done).count()
    }
}

fn concerns(state: &LogDeletionState, part: &PartMeta, done: u64) -> bool {
    state.id > done && state.deletion.tenant == part.tenant && state.deletion.range.overlaps(part.min_t, part.max_t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_comes_back() {
        let deletion = LogDeletion {
            tenant: TenantId(3),
            query: "{a=\"b\"} |= \"x\"".to_owned(),
            matchers: vec![Matcher::new(MatchOp::Regex, "a", "b.*").unwrap()],
            contains: vec!["x".to_owned()],
            range: NanoRange::new(-5, 7),
        };
        let state = LogDeletionState { id: 4, deletion, created_ms: 9, is_done: false };
        let deletions = Deletions { last: 4, list: vec![Arc::new(state)] };
        let text = deletions.text();
        let read = Deletions::parse(&text).unwrap();
        assert_eq!((read.text(), read.waiting()), (text, 1));
        let settled = read.settled(&[]);
        assert!(settled.list[0].is_done && settled.waiting() == 0);
        assert!(Deletions::parse("{").is_none());
    }
}
