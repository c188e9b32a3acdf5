//! `search`: lines of a search, page by page.

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_logql::Entry;
use trefoil_model::{Direction, Labels, NanoRange};

use super::compose::Asked;
use super::source::{NO_BYTES_MAX, Page, run};
use super::{answer, line_count, line_json};
use crate::error::ApiError;
use crate::loki::params::direction;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Lines of a page when the client does not say.
const LIMIT: usize = 100;

/// Where a page of lines ended: the time of its last line, and how many lines of that time were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) time_ns: i64,
    pub(super) given: usize,
}

impl Cursor {
    /// Reads `after`.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, ApiError> {
        if text.is_empty() {
            return Ok(None);
        }
        let parts = text.split_once(':').and_then(|(t, n)| Some((t.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((time_ns, given)) => Ok(Some(Self { time_ns, given })),
            None => Err(ApiError::parameter("after", format!("{text:?} is not what `next` of an answer holds"))),
        }
    }

    /// Behind some lines, of which those before ended at `before`. `None` when there are none.
    pub(super) fn behind(before: Option<Self>, lines: &[(Labels, Entry)]) -> Option<Self> {
        let time_ns = lines.last()?.1.ts_ns;
        let same = lines.iter().rev().take_while(|(_, e)| e.ts_ns == time_ns).count();
        let given_before = before.filter(|c| c.time_ns == time_ns && same == lines.len()).map_or(0, |c| c.given);
        Some(Self { time_ns, given: same + given_before })
    }

    /// What is left of a range behind it.
    pub(super) fn rest(self, range: NanoRange, direction: Direction) -> NanoRange {
        match direction {
            Direction::Backward => NanoRange::new(range.start_ns, range.end_ns.min(self.time_ns.saturating_add(1))),
            Direction::Forward => NanoRange::new(range.start_ns.max(self.time_ns), range.end_ns),
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.time_ns, self.given)
    }
}

/// `GET`, `POST /api/v1/logs/search`
pub(super) async fn search(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let asked = Asked::read(&state, &params)?;
    let limit = line_count(&state, &params, "limit", LIMIT)?;
    let direction = direction(&params)?;
    let after = Cursor::parse(params.get("after"))?;
    let marked = asked.marked();
    let data = run(&state, "/api/v1/logs/search", &client, asked, move |source, asked| {
        let query = asked.compose(source, &[])?;
        let range = after.map_or(asked.range, |cursor| cursor.rest(asked.range, direction));
        let skip = after.map_or((0, 0), |c| (c.time_ns, c.given));
        let Page { lines, is_last, stats } = source.lines(&query, range, direction, skip, (limit, NO_BYTES_MAX))?;
        let next = Cursor::behind(after, &lines).filter(|_| !is_last).map(|c| c.to_string());
        let shown: Vec<Value> = lines.iter().map(|(stream, entry)| line_json(stream, entry)).collect();
        Ok(json!({
            "query": query,
            "marked": marked,
            "lines": shown,
            "next": next,
            "stats": { "linesRead": stats.lines_processed, "bytesRead": stats.bytes_processed },
        }))
    })
    .await?;
    answer(&state, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_counts_lines_of_its_time() {
        let lines = |times: &[i64]| -> Vec<(Labels, Entry)> {
            let entry =
                |t: &i64| Entry { ts_ns: *t, line: String::new(), structured_metadata: Vec::new(), parsed: Vec::new() };
            times.iter().map(|t| (Labels::empty(), entry(t))).collect()
        };
        let check = |before: &str, times: &[i64], want: &str| {
            let before = Cursor::parse(before).expect("a cursor");
            let got = Cursor::behind(before, &lines(times)).map(|c| c.to_string());
            assert_eq!(got.unwrap_or_default(), want, "{times:?}");
        };
        check("", &[9, 8, 8], "8:2");
        check("8:2", &[8, 8], "8:4");
        check("8:4", &[8, 7], "7:1");
        check("", &[], "");
        assert!(Cursor::parse("x").is_err() && Cursor::parse("1:-1").is_err());
        let range = NanoRange::new(0, 100);
        let cursor = Cursor { time_ns: 8, given: 1 };
        assert_eq!(cursor.rest(range, Direction::Backward), NanoRange::new(0, 9));
        assert_eq!(cursor.rest(range, Direction::Forward), NanoRange::new(8, 100));
    }
}
