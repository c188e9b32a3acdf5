//! Queries whose answers are known to differ, each with the reason.

use super::Age;

/// A difference that is known.
struct Known {
    /// The references that differ.
    ages: &'static [Age],
    /// Why.
    reason: &'static str,
    /// Whether a query is concerned, or may be.
    concerns: fn(&str) -> bool,
    /// Whether that is what is seen of it; `None`: it is not asked at all.
    shows: Option<fn(&str) -> bool>,
}

const KNOWN: &[Known] = &[
    Known {
        ages: &[Age::New, Age::Old],
        reason: "the last digits of sums, powers and exponentials are not the same, and % and rounding make much of them",
        concerns: |query| [" % ", "round(", "ceil(", "floor("].iter().any(|f| query.contains(f)),
        shows: Some(|fault| fault.contains(": theirs (") || fault.contains("\"value\": ")),
    },
    Known {
        ages: &[Age::New],
        reason: "3.14 confuses the fill values of the two sides with group_right; later versions do not",
        concerns: |query| query.contains("group_right") && query.contains(" fill"),
        shows: None,
    },
    Known {
        ages: &[Age::New],
        reason: "of an aggregation pinned by @ 3.14 takes the first step's parameter for all, which a result cache cannot",
        concerns: |query| query.contains(" (time(), ") && (query.contains('@') || query.contains("vector(")),
        shows: Some(|fault| fault.contains("remarks")),
    },
    Known {
        ages: &[Age::New, Age::Old],
        reason: "the reference forgets the offset of timestamp(x offset d @ t): it looks at t, in what it read around t - d",
        concerns: |query| {
            let arguments = query.split("timestamp(").skip(1).filter_map(|rest| rest.split_once(')'));
            arguments.into_iter().any(|(argument, _)| argument.contains(" offset ") && argument.contains('@'))
        },
        shows: Some(|fault| fault.contains(" series, ")),
    },
    Known {
        ages: &[Age::New],
        reason: "of histograms read without buckets 3.14 knows a counter reset where its iterator has read the sample before",
        concerns: |query| ["histogram_sum(", "histogram_count(", "histogram_avg("].iter().any(|f| query.contains(f)),
        shows: Some(|fault| fault.contains("remarks") && fault.contains("conflicting counter resets")),
    },
    Known {
        ages: &[Age::New, Age::Old],
        reason: "a running variance depends on the order of the values, that of the series' creation there: its last \
                 digits beside large means, and whether it overflows to inf or to NaN",
        concerns: |query| ["stddev ", "stdvar "].iter().any(|f| query.contains(f)),
        shows: Some(nearly_same),
    },
    Known {
        ages: &[Age::New],
        reason: "3.14 finds nothing for a subquery that is pinned by @ below a function that looks at the time itself; \
                 later versions do, and so do the tests of its language that we follow",
        concerns: |query| has_pinned_subquery(query) && ["predict_linear", "time()"].iter().any(|f| query.contains(f)),
        shows: None,
    },
    Known {
        ages: &[Age::New],
        reason: "3.14 finds nothing for what is pinned by @ below a subquery with a negative offset",
        concerns: |query| {
            query.contains('@') && ranges(query).any(|(r, to)| r.contains(':') && to.starts_with(" offset -"))
        },
        shows: Some(|fault| fault.starts_with("0 and ")),
    },
    Known {
        ages: &[Age::New],
        reason: "3.14 keeps the empty buckets that its chunks gave to a histogram, which times NaN are NaN and not empty",
        concerns: |query| query.contains("native"),
        shows: Some(|fault| fault.contains(": theirs (") && fault.contains("Histogram(NaN")),
    },
    Known {
        ages: &[Age::New, Age::Old],
        reason: "beside the largest number the last digit of an exponential decides whether there is an infinity, or NaN",
        concerns: |query| ["sinh(", "cosh(", "exp("].iter().any(|f| query.contains(f)),
        shows: Some(|fault| values(fault).is_some_and(|v| v.iter().all(|v| !v.is_finite() || v.abs() > 1e290))),
    },
    Known {
        ages: &[Age::Old],
        reason: "2.42 has values at some steps only for a range pinned by @ below a function whose parameter changes",
        concerns: |query| query.contains("quantile_over_time(time()") && query.contains('@'),
        shows: None,
    },
    Known {
        ages: &[Age::Old],
        reason: "to 2.42 both edges belong to a range, and those of a subquery's inner steps lie on the outer's",
        concerns: |query| ranges(query).filter(|(range, _)| range.contains(':')).count() > 1,
        shows: None,
    },
    Known {
        ages: &[Age::Old],
        reason: "2.42 refuses series that become equal by losing their names even when they are never there together",
        concerns: |query| query.contains(" or "),
        shows: Some(|fault| {
            fault.starts_with("theirs fails with \"vector cannot contain metrics with the same labelset")
        }),
    },
    Known {
        ages: &[Age::Old],
        reason: "2.42 counts the matches of a comparison when it is made, and those that do not hold not at all",
        concerns: |query| ["==", "!=", "<", ">"].iter().any(|op| query.contains(op)),
        shows: Some(|fault| fault.starts_with("ours fails with \"multiple matches")),
    },
];

/// The two values of a difference, when they are floats.
fn values(fault: &str) -> Option<[f64; 2]> {
    let numbers = fault.split("Float(").skip(1).filter_map(|rest| rest.split_once(')')?.0.parse().ok());
    <[f64; 2]>::try_from(numbers.collect::<Vec<f64>>()).ok()
}

/// Whether the two values of a difference are those of one calculation in another order: nearly the same, or none finite.
fn nearly_same(fault: &str) -> bool {
    let Some([a, b]) = values(fault) else { return false };
    (!a.is_finite() && !b.is_finite()) || (a - b).abs() <= 1e-5 * a.abs().max(b.abs()) || (a.is_nan() && b == 0.0)
}

/// What stands in square brackets, and behind them.
fn ranges(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.match_indices(']').map(|(end, _)| {
        let begin = query[..end].rfind('[').unwrap_or(end);
        (&query[begin..end], &query[end + 1..])
    })
}

/// Whether a subquery has `@`.
fn has_pinned_subquery(query: &str) -> bool {
    ranges(query).any(|(range, behind)| {
        let mut words = behind.split(' ').skip(1);
        let first = words.next();
        let pinned = first == Some("@") || (first == Some("offset") && words.nth(1) == Some("@"));
        range.contains(':') && pinned
    })
}

/// Whether a query is not asked.
pub(super) fn is_left_out(query: &str, age: Age) -> bool {
    KNOWN.iter().any(|k| k.ages.contains(&age) && k.shows.is_none() && (k.concerns)(query))
}

/// Why a difference is none to tell of.
pub(super) fn reason(query: &str, fault: &str, age: Age) -> Option<&'static str> {
    let is_it = |k: &&Known| k.ages.contains(&age) && (k.concerns)(query) && k.shows.is_none_or(|shows| shows(fault));
    KNOWN.iter().find(is_it).map(|k| k.reason)
}
