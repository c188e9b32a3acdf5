//! Who asks what: queries that wait or run, with a way to end them, and what was asked most.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use trefoil_runtime::QueryContext;

use crate::query_log::QueryLog;

/// Different queries of which sums are kept; beyond, the one that was asked longest ago is forgotten.
const KNOWN_MAX: usize = 2000;
/// Bytes of a query's text that are kept.
const TEXT_MAX: usize = 4096;

/// What is told of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryNote {
    /// Path of the request, for example `/api/v1/query_range`; `rules` for a query of a rule.
    pub path: &'static str,
    /// Text of the query.
    pub query: String,
    /// Unix milliseconds of the first step; of an instant query the time of evaluation.
    pub start_ms: i64,
    /// Unix milliseconds of the last step.
    pub end_ms: i64,
    /// Milliseconds between steps; 0 for an instant query.
    pub step_ms: i64,
    /// Address of the client, "" when it is not known.
    pub client: String,
    /// The group of rules that asks, for queries of rules.
    pub rule_group: Option<RuleGroup>,
}

/// A group of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleGroup {
    /// Path of its file.
    pub file: String,
    /// Its name.
    pub name: String,
}

/// Where queries are noted, shared by all who ask: the HTTP API and the rules.
#[derive(Clone, Default)]
pub struct QueryBooks {
    /// Queries that wait or run, and what was asked most.
    pub queries: Arc<Registry>,
    /// Where answered queries are noted, when they are.
    pub log: Arc<QueryLog>,
}

/// A query that waits or runs.
#[derive(Debug, Clone)]
pub struct ActiveQuery {
    /// Its number, unique within the process.
    pub id: u64,
    /// What it is.
    pub note: QueryNote,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// Whether it waits for its turn.
    pub waits: bool,
    /// Samples that it holds.
    pub samples: u64,
    /// Bytes that it holds.
    pub bytes: u64,
}

/// What is known of all runs of one query text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopQuery {
    /// Path of the last request.
    pub path: &'static str,
    /// Text of the query.
    pub query: String,
    /// Length of the range that was last asked for, milliseconds; 0 for an instant query.
    pub range_ms: i64,
    /// How often it ran.
    pub count: u64,
    /// How often it ended without an answer.
    pub failed: u64,
    /// Sum of the times that it took.
    pub total: Duration,
    /// The longest of them.
    pub longest: Duration,
    /// When it last ended, Unix milliseconds.
    pub last_ms: i64,
}

/// By what [`Registry::top`] sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopBy {
    /// Times asked.
    Count,
    /// Mean time.
    Average,
    /// All time.
    Total,
}

struct Entry {
    note: QueryNote,
    since_ms: i64,
    context: Mutex<Weak<QueryContext>>,
    cancel: Notify,
}

/// All queries of the process. Clones of an `Arc` of it share it.
#[derive(Default)]
pub struct Registry {
    next: AtomicU64,
    active: Mutex<BTreeMap<u64, Arc<Entry>>>,
    known: Mutex<BTreeMap<String, TopQuery>>,
}

/// The place of a query among the active ones, until it is dropped.
pub struct Registered<'a> {
    registry: &'a Registry,
    id: u64,
    entry: Arc<Entry>,
}

impl Registered<'_> {
    /// Hands over what the query holds, once it runs.
    pub fn runs(&self, context: &Arc<QueryContext>) {
        *self.entry.context.lock() = Arc::downgrade(context);
    }

    /// Returns when somebody asks to end the query.
    pub async fn canceled(&self) {
        self.entry.cancel.notified().await;
    }

    /// Notes how the query ended.
    pub fn ended(&self, took: Duration, ok: bool, now_ms: i64) {
        self.registry.note(&self.entry.note, took, ok, now_ms);
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.registry.active.lock().remove(&self.id);
    }
}

/// The first bytes of a text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

impl Registry {
    /// Enters a query.
    pub fn enter(&self, mut note: QueryNote, now_ms: i64) -> Registered<'_> {
        note.query.truncate(cut(&note.query).len());
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Arc::new(Entry { note, since_ms: now_ms, context: Mutex::default(), cancel: Notify::new() });
        self.active.lock().insert(id, Arc::clone(&entry));
        Registered { registry: self, id, entry }
    }

    /// The queries that wait or run, the oldest first.
    pub fn active(&self) -> Vec<ActiveQuery> {
        let entries: Vec<_> = self.active.lock().iter().map(|(id, e)| (*id, Arc::clone(e))).collect();
        entries
            .into_iter()
            .map(|(id, e)| {
                let context = e.context.lock().upgrade();
                ActiveQuery {
                    id,
                    note: e.note.clone(),
                    since_ms: e.since_ms,
                    waits: context.is_none(),
                    samples: context.as_ref().map_or(0, |c| c.samples()),
                    bytes: context.as_ref().map_or(0, |c| c.bytes()),
                }
            })
            .collect()
    }

    /// Ends a query: its client gets the error `canceled`. False when there is none of that number.
    pub fn cancel(&self, id: u64) -> bool {
        let Some(entry) = self.active.lock().get(&id).cloned() else { return false };
        if let Some(context) = entry.context.lock().upgrade() {
            context.cancel();
        }
        entry.cancel.notify_one();
        true
    }

    fn note(&self, note: &QueryNote, took: Duration, ok: bool, now_ms: i64) {
        let mut known = self.known.lock();
        if !known.contains_key(&note.query) && known.len() >= KNOWN_MAX {
            let oldest = known.values().min_by_key(|q| q.last_ms).map(|q| q.query.clone());
            oldest.and_then(|query| known.remove(&query));
        }
        let one = known
            .entry(note.query.clone())
            .or_insert_with(|| TopQuery { query: note.query.clone(), ..TopQuery::default() });
        one.path = note.path;
        one.range_ms = note.end_ms.saturating_sub(note.start_ms);
        one.count += 1;
        one.failed += u64::from(!ok);
        one.total = one.total.saturating_add(took);
        one.longest = one.longest.max(took);
        one.last_ms = now_ms;
    }

    /// At most `limit` queries that ended at or after `since_ms`, greatest first.
    pub fn top(&self, by: TopBy, limit: usize, since_ms: i64) -> Vec<TopQuery> {
        let mut all: Vec<TopQuery> = self.known.lock().values().filter(|q| q.last_ms >= since_ms).cloned().collect();
        let key = |q: &TopQuery| match by {
            TopBy::Count => u128::from(q.count),
            TopBy::Average => q.total.as_nanos() / u128::from(q.count.max(1)),
            TopBy::Total => q.total.as_nanos(),
        };
        all.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.query.cmp(&b.query)));
        all.truncate(limit);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(query: &str) -> QueryNote {
        QueryNote { path: "/api/v1/query", query: query.to_owned(), ..QueryNote::default() }
    }

    #[test]
    fn active_queries_come_and_go() {
        let registry = Registry::default();
        let first = registry.enter(note("up"), 5);
        let second = registry.enter(note(&"é".repeat(TEXT_MAX)), 6);
        let active = registry.active();
        assert_eq!(
            active.iter().map(|q| (q.id, q.since_ms, q.waits)).collect::<Vec<_>>(),
            [(1, 5, true), (2, 6, true)]
        );
        assert_eq!(active[1].note.query.len(), TEXT_MAX);
        assert!(registry.cancel(first.id) && !registry.cancel(99));
        drop((first, second));
        assert!(registry.active().is_empty());
    }

    #[test]
    fn sums_are_kept_by_text() {
        let registry = Registry::default();
        for (query, ms, ok) in [("a", 5, true), ("b", 3, true), ("b", 4, false), ("b", 1, true)] {
            registry.enter(note(query), 0).ended(Duration::from_millis(ms), ok, 10);
        }
        let names = |by| registry.top(by, 10, 0).into_iter().map(|q| q.query).collect::<Vec<_>>();
        assert_eq!(
            (names(TopBy::Count), names(TopBy::Average)),
            (vec!["b".into(), "a".into()], vec!["a".into(), "b".into()])
        );
        let b = &registry.top(TopBy::Total, 1, 0)[0];
        assert_eq!((b.count, b.failed, b.total, b.longest), (3, 1, Duration::from_millis(8), Duration::from_millis(4)));
        assert!(registry.top(TopBy::Total, 1, 11).is_empty());
        for i in 0..KNOWN_MAX + 5 {
            registry.enter(note(&i.to_string()), 0).ended(Duration::ZERO, true, 100 + i as i64);
        }
        assert_eq!(registry.top(TopBy::Count, usize::MAX, 0).len(), KNOWN_MAX);
    }
}
