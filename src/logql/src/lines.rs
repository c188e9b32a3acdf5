//! Lines of a log query one by one, in the order of the store: for those who page through or stream them.

use std::ops::ControlFlow;

use trefoil_model::{Labels, LogReader, NanoRange, QueryBudget};

use crate::Error;
use crate::ast::Expr;
use crate::engine::RangeQuery;
use crate::labels::Category;
use crate::output::{Entry, Stats};
use crate::parser::parse;
use crate::pipeline::{Pipeline, Scan, Source};

/// Takes the stream labels (after the pipeline, names underscored) and the line of what passed; a break ends the scan.
pub type EachLine<'a> = dyn FnMut(Labels, Entry) -> Result<ControlFlow<()>, Error> + 'a;

/// Delivers the lines of a log query in order of time (ties: by stream labels as stored, then by arrival; backward is the
/// exact reverse). The step and the limit of the query have no meaning here; nothing is charged to the budget for lines
/// that are kept.
///
/// Errors: those of the query, a metric query, more than `scan_bytes_max` bytes of lines read, and what `each` gives.
pub fn each_line(
    query: &RangeQuery<'_>,
    reader: &dyn LogReader,
    budget: &dyn QueryBudget,
    scan_bytes_max: u64,
    each: &mut EachLine<'_>,
) -> Result<Stats, Error> {
    let Expr::Log(log) = parse(query.query)? else {
        return Err(Error::Query("a metric query gives numbers, not lines".to_owned()));
    };
    let pipeline = Pipeline::new(&log)?;
    let scan = Scan {
        source: Source { reader, tenant: query.tenant, budget, scan_bytes_max },
        log: &log,
        pipeline: &pipeline,
        range: NanoRange::new(query.start_ns, query.end_ns),
        direction: query.direction,
        needs_labels: true,
        wanted: None,
    };
    let mut stats = Stats::default();
    scan.run(&mut stats, &|_| true, &mut |ts_ns, text, labels| {
        let entry = Entry {
            ts_ns,
            line: text.into_owned(),
            structured_metadata: labels.sorted(Category::Metadata),
            parsed: labels.sorted(Category::Parsed),
        };
        each(Labels::from_pairs(labels.of(Category::Stream)), entry)
    })?;
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trefoil_model::{Direction, LogGroup, LogRecord, TenantId, Unlimited};

    use super::*;
    use crate::GroupsReader;

    #[test]
    fn lines_of_one_time_come_in_one_order() {
        let record = |time_ns: i64, text: &str| LogRecord {
            time_ns,
            observed_ns: 0,
            severity_number: 0,
            severity_text: String::new(),
            text: text.to_owned(),
            attributes: Vec::new(),
            trace_id: None,
            span_id: None,
        };
        let group = |app: &str, records: Vec<LogRecord>| LogGroup {
            stream: Labels::from_pairs([("app", app)]),
            shared: Arc::default(),
            records,
        };
        let reader = GroupsReader {
            groups: vec![
                group("b", vec![record(1, "x=1"), record(2, "x=2")]),
                group("a", vec![record(1, "x=3"), record(3, "no")]),
            ],
        };
        let read = |query: &str, direction: Direction, most: usize| {
            let (start_ns, end_ns, step_ns, limit, tenant) = (0, 10, 0, 0, TenantId(0));
            let query = RangeQuery { query, start_ns, end_ns, step_ns, direction, limit, tenant };
            let mut lines = Vec::new();
            each_line(&query, &reader, &Unlimited, u64::MAX, &mut |stream, entry| {
                lines.push(format!("{} {} {}", entry.ts_ns, stream.get("app").unwrap_or(""), entry.line));
                Ok(if lines.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })
            .map(|_| lines)
        };
        let query = r#"{app=~".+"} |= "x" | logfmt"#;
        assert_eq!(read(query, Direction::Forward, 9).unwrap(), ["1 a x=3", "1 b x=1", "2 b x=2"]);
        assert_eq!(read(query, Direction::Backward, 2).unwrap(), ["2 b x=2", "1 b x=1"]);
        assert!(read("vector(1)", Direction::Forward, 1).is_err());
    }
}
