//! Where the endpoints read: LogQL over the store, within the limits of a query.

use std::ops::ControlFlow;

use trefoil_logql::{
    EachLine, Engine, Entry, InstantQuery, Output, RangeQuery, Stats, StreamResult, VectorSample, each_line,
};
use trefoil_model::{Direction, Labels, LogReader, NanoRange, QueryBudget, TenantId};
use trefoil_runtime::QueryContext;

use super::compose::Asked;
use crate::error::ApiError;
use crate::loki::logql_error;
use crate::queries::QueryNote;
use crate::state::{AppState, run_noted};

/// What a line costs beside its texts.
const LINE_BYTES: usize = 160;

/// Bytes of lines for those who only count lines.
pub(super) const NO_BYTES_MAX: usize = usize::MAX;

/// Some lines of a query.
pub(super) struct Page {
    /// Stream labels and lines, in the order of the store.
    pub(super) lines: Vec<(Labels, Entry)>,
    /// Whether no more can follow.
    pub(super) is_last: bool,
    pub(super) stats: Stats,
}

/// Numbers of steps and values.
pub(super) type Steps = Vec<(i64, f64)>;

/// The store as one query sees it.
pub(super) struct Source<'a> {
    pub(super) logs: &'a dyn LogReader,
    pub(super) tenant: TenantId,
    pub(super) context: &'a QueryContext,
    pub(super) scan_bytes_max: u64,
}

/// Runs `work` when it is its turn, listed among the queries under `path`.
pub(super) async fn run<T, F>(
    state: &AppState,
    path: &'static str,
    client: &str,
    asked: Asked,
    work: F,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&Source<'_>, Asked) -> Result<T, ApiError> + Send + 'static,
{
    let note = QueryNote {
        path,
        query: asked.text(),
        start_ms: asked.range.start_ns / 1_000_000,
        end_ms: asked.range.end_ns / 1_000_000,
        step_ms: 0,
        client: client.to_owned(),
        rule_group: None,
    };
    let (logs, tenant, scan_bytes_max) = (state.logs.clone(), state.tenant, state.limits.query_scan_bytes_max);
    let work =
        move |context: &QueryContext| work(&Source { logs: logs.as_ref(), tenant, context, scan_bytes_max }, asked);
    run_noted(state, None, note, work).await
}

impl Source<'_> {
    fn range<'q>(&self, query: &'q str, range: NanoRange, direction: Direction, limit: usize) -> RangeQuery<'q> {
        let (start_ns, end_ns, tenant) = (range.start_ns, range.end_ns, self.tenant);
        RangeQuery { query, start_ns, end_ns, step_ns: 1, direction, limit, tenant }
    }

    /// At most `limit` lines by stream.
    pub(super) fn newest(
        &self,
        query: &str,
        range: NanoRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<StreamResult>, ApiError> {
        let query = self.range(query, range, direction, limit);
        let answer = Engine::range_within(&query, self.logs, self.context, self.scan_bytes_max).map_err(logql_error)?;
        match answer.output {
            Output::Streams(streams) => Ok(streams),
            _ => Ok(Vec::new()),
        }
    }

    /// At most `limit` lines (and about `bytes_max` bytes) in the order of the store, the first `skip` left out when they
    /// are of the time `at_ns`.
    pub(super) fn lines(
        &self,
        query: &str,
        range: NanoRange,
        direction: Direction,
        (at_ns, skip): (i64, usize),
        (limit, bytes_max): (usize, usize),
    ) -> Result<Page, ApiError> {
        let mut lines = Vec::new();
        if limit == 0 || range.start_ns >= range.end_ns {
            return Ok(Page { lines, is_last: limit > 0, stats: Stats::default() });
        }
        let (mut left, mut bytes, mut is_last) = (skip, 0, true);
        let query = self.range(query, range, direction, 0);
        let stats = each_line(&query, self.logs, self.context, self.scan_bytes_max, &mut |stream, entry| {
            if left > 0 && entry.ts_ns == at_ns {
                left -= 1;
                return Ok(ControlFlow::Continue(()));
            }
            left = 0;
            let more = bytes_of(&entry);
            self.context.charge_bytes(more as u64)?;
            bytes += more;
            lines.push((stream, entry));
            is_last = lines.len() < limit && bytes < bytes_max;
            Ok(if is_last { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .map_err(logql_error)?;
        Ok(Page { lines, is_last, stats })
    }

    /// Hands the lines on one by one, until `each` breaks.
    pub(super) fn each(
        &self,
        query: &str,
        range: NanoRange,
        direction: Direction,
        each: &mut EachLine<'_>,
    ) -> Result<Stats, ApiError> {
        let query = self.range(query, range, direction, 0);
        each_line(&query, self.logs, self.context, self.scan_bytes_max, each).map_err(logql_error)
    }

    /// A metric query at one time.
    pub(super) fn instant(&self, query: &str, time_ns: i64) -> Result<Vec<VectorSample>, ApiError> {
        let query = InstantQuery { query, time_ns, tenant: self.tenant };
        let answer =
            Engine::instant_within(&query, self.logs, self.context, self.scan_bytes_max).map_err(logql_error)?;
        match answer.output {
            Output::Vector { samples, .. } => Ok(samples),
            _ => Ok(Vec::new()),
        }
    }

    /// A metric query at `steps` times, the first at `first_ns`: labels, and number of the step and value.
    pub(super) fn matrix(
        &self,
        query: &str,
        first_ns: i64,
        step_ns: i64,
        steps: i64,
    ) -> Result<Vec<(Labels, Steps)>, ApiError> {
        if steps <= 0 {
            return Ok(Vec::new());
        }
        let last = first_ns.saturating_add(step_ns.saturating_mul(steps - 1));
        let query = RangeQuery { step_ns, ..self.range(query, NanoRange::new(first_ns, last), Direction::Forward, 0) };
        let answer = Engine::range_within(&query, self.logs, self.context, self.scan_bytes_max).map_err(logql_error)?;
        let Output::Matrix(series) = answer.output else { return Ok(Vec::new()) };
        let numbered = |points: Vec<(i64, f64)>| points.into_iter().map(|(t, v)| ((t - first_ns) / step_ns, v));
        Ok(series.into_iter().map(|s| (s.labels, numbered(s.points).collect())).collect())
    }
}

fn bytes_of(entry: &Entry) -> usize {
    let pairs = entry.structured_metadata.iter().chain(&entry.parsed);
    LINE_BYTES + entry.line.len() + pairs.map(|(n, v)| n.len() + v.len() + 48).sum::<usize>()
}
