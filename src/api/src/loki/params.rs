//! Parameters of Loki's endpoints: times, ranges, steps, limits.

use trefoil_model::{Direction, NanoRange};

use super::time::{duration_ns, time_ns};
use crate::error::ApiError;
use crate::params::Params;

const SECOND_NS: i64 = 1_000_000_000;
/// How far back a range reaches when its start is not given: one hour.
const SINCE_NS: i64 = 3600 * SECOND_NS;
/// Most lines when no limit is given.
const LIMIT: usize = 100;
/// A step not given makes so many of a range.
const STEPS: i64 = 250;

/// What `query_range` is asked for, beside the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeParams {
    pub(crate) start_ns: i64,
    pub(crate) end_ns: i64,
    pub(crate) step_ns: i64,
    pub(crate) direction: Direction,
    pub(crate) limit: usize,
}

impl RangeParams {
    /// Moves start and end outward to multiples of the step, as Loki's front does for metric queries, so that a graph
    /// does not jump from one refresh to the next.
    pub(crate) fn align(&mut self) {
        let down = |t: i64| t.div_euclid(self.step_ns).saturating_mul(self.step_ns);
        let end = down(self.end_ns);
        let end = if end < self.end_ns { end.saturating_add(self.step_ns) } else { end };
        (self.start_ns, self.end_ns) = (down(self.start_ns), end);
    }
}

/// A time; `None` when it is not given.
pub(crate) fn time(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => match time_ns(text) {
            Some(t) => Ok(Some(t)),
            None => Err(ApiError::bad_data(format!("could not parse '{name}': cannot read {text:?} as a time"))),
        },
    }
}

/// `start`, `end` and `since`, by default the last hour.
pub(crate) fn bounds(params: &Params, now_ns: i64) -> Result<NanoRange, ApiError> {
    let end = time(params, "end")?.unwrap_or(now_ns);
    let since = match params.get("since") {
        "" => SINCE_NS,
        text => duration_ns(text)
            .ok_or_else(|| ApiError::bad_data(format!("could not parse 'since' parameter: {text:?}")))?,
    };
    let start = time(params, "start")?.unwrap_or_else(|| end.min(now_ns).saturating_sub(since));
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before or equal to start time"));
    }
    Ok(NanoRange::new(start, end))
}

/// `limit`, by default 100.
pub(crate) fn limit(params: &Params) -> Result<usize, ApiError> {
    match params.get("limit") {
        "" => Ok(LIMIT),
        text => match text.parse::<i64>() {
            Ok(n) if n > 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            Ok(_) => Err(ApiError::bad_data("limit must be a positive value")),
            Err(_) => Err(ApiError::bad_data(format!("could not parse 'limit': {text:?} is no whole number"))),
        },
    }
}

/// A positive number of things, by default `default`.
pub(crate) fn count(params: &Params, name: &str, default: usize) -> Result<usize, ApiError> {
    match params.get(name) {
        "" => Ok(default),
        text => match text.parse::<u32>() {
            Ok(n) if n > 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            Ok(_) => Err(ApiError::bad_data(format!("{name} must be a positive value"))),
            Err(_) => Err(ApiError::bad_data(format!("could not parse '{name}': {text:?} is no whole number"))),
        },
    }
}

/// `direction`, by default backward.
pub(crate) fn direction(params: &Params) -> Result<Direction, ApiError> {
    let text = params.get("direction");
    if text.is_empty() || text.eq_ignore_ascii_case("backward") {
        Ok(Direction::Backward)
    } else if text.eq_ignore_ascii_case("forward") {
        Ok(Direction::Forward)
    } else {
        Err(ApiError::bad_data(format!("invalid direction {text:?}")))
    }
}

/// All parameters of `query_range`.
pub(crate) fn range(params: &Params, now_ns: i64) -> Result<RangeParams, ApiError> {
    let NanoRange { start_ns, end_ns } = bounds(params, now_ns)?;
    let step_ns = match params.get("step") {
        "" => {
            let seconds = end_ns.saturating_sub(start_ns) / SECOND_NS / STEPS;
            seconds.max(1).saturating_mul(SECOND_NS)
        }
        text => duration_ns(text).ok_or_else(|| ApiError::bad_data(format!("could not parse 'step': {text:?}")))?,
    };
    if step_ns <= 0 {
        return Err(ApiError::bad_data(
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    Ok(RangeParams { start_ns, end_ns, step_ns, direction: direction(params)?, limit: limit(params)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000 * SECOND_NS;

    fn check(query: &str, want: Result<(i64, i64, i64), &str>) {
        let got = range(&Params::from_query(query).unwrap(), NOW);
        let got = got.map(|r| (r.start_ns, r.end_ns, r.step_ns)).map_err(|e| e.message);
        assert_eq!(got, want.map_err(str::to_owned), "{query}");
    }

    #[test]
    fn ranges_have_defaults() {
        check("", Ok((NOW - SINCE_NS, NOW, 14 * SECOND_NS)));
        check("start=0&end=60", Ok((0, 60 * SECOND_NS, SECOND_NS)));
        check("since=10m&step=15000ms", Ok((NOW - 600 * SECOND_NS, NOW, 15 * SECOND_NS)));
        check("start=1.5&end=1.5&step=2", Ok((1_500_000_000, 1_500_000_000, 2 * SECOND_NS)));
        check("start=2&end=1", Err("end timestamp must not be before or equal to start time"));
        check("limit=0", Err("limit must be a positive value"));
        check("direction=up", Err("invalid direction \"up\""));
        check("start=x", Err("could not parse 'start': cannot read \"x\" as a time"));
    }

    #[test]
    fn metric_ranges_stand_on_the_step() {
        let mut range = range(&Params::from_query("start=61&end=119&step=60").unwrap(), NOW).unwrap();
        range.align();
        assert_eq!((range.start_ns, range.end_ns), (60 * SECOND_NS, 120 * SECOND_NS));
        range.align();
        assert_eq!((range.start_ns, range.end_ns), (60 * SECOND_NS, 120 * SECOND_NS));
    }
}
