//! Whether the answer to a query is at hand: kept, or so small that to give work to another thread takes longer.

use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{MatchOp, Matcher, SelectRequest, TimeRange};

use super::instant::{STEP_MS, sample};
use super::{InstantQuery, Key, RangeQuery, Reach, ResultCache, cut, kept_whole, size, valid_until};
use crate::ast::{Expr, ExprKind};
use crate::engine::Engine;
use crate::value::{QueryResult, ResultSeries, Value};

/// Larger kept answers take a while to be written.
const KEPT_BYTES_MAX: u64 = 64 << 10;
/// Nodes and selectors of a small query.
const NODES_MAX: usize = 32;
const SELECTORS_MAX: usize = 4;
/// Series of a selector; more would be spread over cores.
const SERIES_MAX: i64 = 48;
/// Series times the seconds that are read of each.
const SERIES_SECONDS_MAX: i64 = 32 * 3600;
/// Series times steps.
const POINTS_MAX: i64 = 10_000;
/// Functions that read more than their arguments say, or compile what is given to them.
const OTHER_FUNCTIONS: &[&str] = &["info", "label_replace"];

/// Where the answer to a query is.
#[derive(Debug)]
pub enum AtHand {
    /// Evaluating may take long.
    No,
    /// This is it.
    Kept(Box<QueryResult>),
    /// It needs no data.
    Yes,
    /// It is small if [`few_series`] says so. Both look at memory alone.
    InMemory,
    /// As `InMemory`, but both may wait for a disk.
    OnDisk,
}

impl ResultCache {
    /// Whether the answer to an instant query is at hand.
    pub fn instant_at_hand(&self, engine: &Engine, query: &InstantQuery<'_>) -> AtHand {
        let step = query.as_range();
        let Some(reach) = Reach::of_step(query.expr) else { return AtHand::No };
        let keepable = self.keepable_as(engine, &step, reach);
        let kept = keepable.map(|(mut key, _, ahead_ms)| {
            key.step_ms = STEP_MS;
            (key, ahead_ms)
        });
        let value = |series: &[ResultSeries]| Value::Vector(series.iter().filter_map(sample).collect());
        self.at_hand(engine, &step, &reach, kept, value)
    }

    /// Whether the answer to a range query is at hand.
    pub fn range_at_hand(&self, engine: &Engine, query: &RangeQuery<'_>) -> AtHand {
        let Some(reach) = Reach::of_step(query.expr) else { return AtHand::No };
        let kept = self.keepable(engine, query).map(|(key, _, ahead_ms)| (key, ahead_ms));
        let value = |series: &[ResultSeries]| Value::Matrix(cut(series, query.start_ms, query.last_ms()));
        self.at_hand(engine, query, &reach, kept, value)
    }

    fn at_hand(
        &self,
        engine: &Engine,
        query: &RangeQuery<'_>,
        reach: &Reach,
        kept: Option<(Key, i64)>,
        value: impl FnOnce(&[ResultSeries]) -> Value,
    ) -> AtHand {
        if let Some((key, ahead_ms)) = kept
            && let Some(entry) = self.find(&key)
            && entry.bytes <= KEPT_BYTES_MAX
            && valid_until(&entry, query, ahead_ms) == Some(query.last_ms())
            && query.budget.charge_bytes(size(&entry.series)).is_ok()
        {
            return AtHand::Kept(Box::new(kept_whole(value(&entry.series))));
        }
        let selectors = query.expr.selectors();
        if !is_simple(query.expr) || !selectors.iter().all(|m| is_exact(m)) || selectors.len() > SELECTORS_MAX {
            return AtHand::No;
        }
        let range = read_range(engine, query, reach);
        match series_max(query, range) {
            0 => AtHand::No,
            _ if selectors.is_empty() => AtHand::Yes,
            _ if query.reader.is_in_memory(query.tenant, range) => AtHand::InMemory,
            _ => AtHand::OnDisk,
        }
    }
}

/// Whether the selectors of a query have few series, after [`ResultCache::range_at_hand`].
pub fn few_series(engine: &Engine, query: &RangeQuery<'_>) -> bool {
    let Some(reach) = Reach::of_step(query.expr) else { return false };
    let range = read_range(engine, query, &reach);
    let series_max = series_max(query, range);
    query.expr.selectors().into_iter().all(|matchers| {
        let request = SelectRequest { tenant: query.tenant, matchers: matchers.to_vec(), range };
        query.reader.selects_few(&request, series_max, query.budget)
    })
}

/// What is read, and perhaps a little more.
fn read_range(engine: &Engine, query: &RangeQuery<'_>, reach: &Reach) -> TimeRange {
    let lookback_ms = query.options.lookback_ms.unwrap_or(engine.options().lookback_ms).max(0);
    let start_ms = query.start_ms.saturating_sub(reach.back_ms).saturating_sub(lookback_ms);
    TimeRange::new(start_ms, query.end_ms.saturating_add(reach.ahead_ms).saturating_add(1))
}

/// How many series each selector of a small query may have; 0 when none is small.
fn series_max(query: &RangeQuery<'_>, range: TimeRange) -> u64 {
    let seconds = (range.end_ms.saturating_sub(range.start_ms) / 1000).max(1);
    let steps = (query.end_ms.saturating_sub(query.start_ms) / query.step_ms.max(1)).saturating_add(1).max(1);
    SERIES_MAX.min(SERIES_SECONDS_MAX / seconds).min(POINTS_MAX / steps).max(0).unsigned_abs()
}

fn is_simple(expr: &Expr) -> bool {
    let (mut nodes, mut simple) = (0, true);
    expr.walk(&mut |e| {
        nodes += 1;
        simple &= match &e.kind {
            ExprKind::Subquery(_) => false,
            ExprKind::Call { function, .. } => !OTHER_FUNCTIONS.contains(&function.name),
            _ => true,
        };
    });
    simple && nodes <= NODES_MAX
}

/// True for a name and one more label: such series are looked up, not searched for.
fn is_exact(matchers: &[Matcher]) -> bool {
    matchers.len() > 1
        && matchers.iter().all(|m| m.op == MatchOp::Equal && !m.value.is_empty())
        && matchers.iter().any(|m| m.name == METRIC_NAME)
}

#[cfg(test)]
mod tests {
    use trefoil_model::{TenantId, Unlimited};

    use super::*;
    use crate::engine::QueryOptions;
    use crate::testing::MemoryReader;

    #[test]
    fn small_queries_are_known_by_their_text() {
        let (engine, cache, reader) = (Engine::default(), ResultCache::new(0), MemoryReader::default());
        for (query, hours, want) in [
            ("1 + 1", 1, "Yes"),
            ("a{b=\"c\"}", 1, "OnDisk"),
            ("sum by (x) (rate(a{b=\"c\"}[5m])) / 2", 1, "OnDisk"),
            ("a{b=\"c\"} + on (x) d{b=\"c\"} offset 1m", 1, "OnDisk"),
            ("a{b=\"c\"}", 100, "No"),
            ("rate(a{b=\"c\"}[40h])", 1, "No"),
            ("a", 1, "No"),
            ("{b=\"c\",d=\"e\"}", 1, "No"),
            ("a{b=~\"c\"}", 1, "No"),
            ("a{b=\"\"}", 1, "No"),
            ("a{b=\"c\"} @ 5", 1, "No"),
            ("max_over_time(a{b=\"c\"}[5m:1m])", 1, "No"),
            ("label_replace(a{b=\"c\"}, \"x\", \"$1\", \"y\", \"(.*)\")", 1, "No"),
        ] {
            let expr = engine.parse(query).unwrap();
            let options = QueryOptions::default();
            let range = RangeQuery {
                expr: &expr,
                start_ms: 0,
                end_ms: hours * 3_600_000,
                step_ms: 60_000,
                options,
                reader: &reader,
                tenant: TenantId(0),
                budget: &Unlimited,
            };
            assert_eq!(format!("{:?}", cache.range_at_hand(&engine, &range)), want, "{query}");
            // What a reader does not know is not few.
            assert_eq!(few_series(&engine, &range), query == "1 + 1", "{query}");
        }
    }
}
