//! Remarks on a query's result: warnings and infos with the reference's texts and positions.

use std::fmt;

use crate::ast::{PositionRange, line_column};
use crate::format::{format_g, quote};

/// What is remarked, with the values that its text names.
#[derive(Debug, Clone, PartialEq)]
pub enum NoteKind {
    /// Quantile outside 0..1.
    InvalidQuantile(f64),
    /// Ratio outside -1..1 and what it is capped to.
    InvalidRatio(f64, f64),
    /// A bucket's `le` cannot be read: metric name, value.
    BadBucketLabel(String, String),
    /// Floats and histograms in one range: metric name.
    MixedFloatsHistograms(String),
    /// Floats and histograms in one aggregation group.
    MixedFloatsHistogramsAggregation,
    /// Classic and native histograms of one name: metric name.
    MixedClassicNative(String),
    /// A gauge histogram where a counter is due: metric name.
    NativeHistogramNotCounter(String),
    /// A counter histogram where a gauge is due: metric name.
    NativeHistogramNotGauge(String),
    /// Exponential and custom buckets together: metric name.
    MixedExponentialCustom(String),
    /// Operands with incompatible buckets: operator.
    IncompatibleBucketLayout(&'static str),
    /// `sort` in a range query.
    SortInRangeQuery,
    /// Rate of a name without a counter's suffix: metric name.
    PossibleNonCounter(String),
    /// Classic buckets had to be made monotonic.
    ForcedMonotonicity(ForcedMonotonicity),
    /// Operand types that an operator does not take: left, operator, right.
    IncompatibleTypes(&'static str, &'static str, &'static str),
    /// An aggregation left a histogram out: its name.
    HistogramIgnoredInAggregation(&'static str),
    /// A function left histograms of a mixed range out: metric name.
    HistogramIgnoredInMixedRange(String),
    /// NaN observations make the quantile NaN: metric name.
    QuantileNanResult(String),
    /// NaN observations skew the quantile: metric name.
    QuantileNanSkew(String),
    /// NaN observations are in no fraction: metric name.
    FractionNan(String),
    /// Counter-reset hints contradict each other: addition, subtraction or aggregation.
    CounterResetCollision(&'static str),
    /// Custom bounds differed and were intersected: addition, subtraction or aggregation.
    MismatchedCustomBuckets(&'static str),
    /// A sample starts before the previous one: metric name, occurrences.
    StartTimeOverlap(String, u32),
    /// A function that needs all samples met downsampled ones: metric name.
    Downsampled(String),
}

/// How far classic buckets were from monotonic, over the samples merged into one remark.
#[derive(Debug, Clone, PartialEq)]
pub struct ForcedMonotonicity {
    /// Metric name.
    pub name: String,
    /// First and last evaluation time, Unix milliseconds.
    pub times_ms: (i64, i64),
    /// Lowest and highest bucket bound concerned.
    pub buckets: (f64, f64),
    /// Greatest difference.
    pub max_difference: f64,
    /// Samples concerned.
    pub samples: u64,
}

impl NoteKind {
    /// True for warnings, false for infos.
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::PossibleNonCounter(_)
                | Self::ForcedMonotonicity(_)
                | Self::IncompatibleTypes(..)
                | Self::HistogramIgnoredInAggregation(_)
                | Self::HistogramIgnoredInMixedRange(_)
                | Self::QuantileNanResult(_)
                | Self::QuantileNanSkew(_)
                | Self::FractionNan(_)
                | Self::MismatchedCustomBuckets(_)
                | Self::Downsampled(_)
        )
    }

    /// Takes up `other` when both say the same of the same thing.
    fn merge(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::ForcedMonotonicity(a), Self::ForcedMonotonicity(b)) if a.name == b.name => {
                a.times_ms = (a.times_ms.0.min(b.times_ms.0), a.times_ms.1.max(b.times_ms.1));
                a.buckets = (a.buckets.0.min(b.buckets.0), a.buckets.1.max(b.buckets.1));
                a.max_difference = a.max_difference.max(b.max_difference);
                a.samples += b.samples;
                true
            }
            (Self::StartTimeOverlap(a, n), Self::StartTimeOverlap(b, m)) if a == b => {
                *n += m;
                true
            }
            (Self::InvalidQuantile(a), Self::InvalidQuantile(b)) => a == b || (a.is_nan() && b.is_nan()),
            (a, b) => *a == *b,
        }
    }

    fn text(&self, position: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_warning() { "PromQL warning: " } else { "PromQL info: " })?;
        let named = |f: &mut fmt::Formatter<'_>, text: &str, name: &str| {
            f.write_str(text)?;
            if name.is_empty() { Ok(()) } else { write!(f, " for metric name {}", quote(name)) }
        };
        match self {
            Self::InvalidQuantile(q) => {
                write!(f, "quantile value should be between 0 and 1, got {}", format_g(*q))?;
            }
            Self::InvalidRatio(r, to) => {
                write!(f, "ratio value should be between -1 and 1, got {}, capping to {}", format_g(*r), format_g(*to))?
            }
            Self::BadBucketLabel(name, value) => {
                named(f, &format!("bucket label \"le\" is missing or has a malformed value of {}", quote(value)), name)?
            }
            Self::MixedFloatsHistograms(name) => {
                write!(f, "encountered a mix of histograms and floats for metric name {}", quote(name))?;
            }
            Self::MixedFloatsHistogramsAggregation => {
                f.write_str("encountered a mix of histograms and floats for aggregation")?;
            }
            Self::MixedClassicNative(name) => {
                named(f, "vector contains a mix of classic and native histograms", name)?;
            }
            Self::NativeHistogramNotCounter(name) => {
                write!(f, "this native histogram metric is not a counter: {}", quote(name))?;
            }
            Self::NativeHistogramNotGauge(name) => {
                write!(f, "this native histogram metric is not a gauge: {}", quote(name))?;
            }
            Self::MixedExponentialCustom(name) => write!(
                f,
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quote(name)
            )?,
            Self::IncompatibleBucketLayout(op) => {
                write!(f, "incompatible bucket layout encountered for binary operator {op}")?;
            }
            Self::SortInRangeQuery => {
                f.write_str("sort is ineffective for range queries since results are always ordered by labels")?
            }
            Self::PossibleNonCounter(name) => write!(
                f,
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quote(name)
            )?,
            Self::ForcedMonotonicity(m) => {
                named(
                    f,
                    "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
                    &m.name,
                )?;
                write!(
                    f,
                    ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                    format_g(m.buckets.0),
                    format_g(m.buckets.1),
                    two_digits(m.max_difference),
                    m.samples,
                    rfc3339_seconds(m.times_ms.0),
                    rfc3339_seconds(m.times_ms.1)
                )?;
            }
            Self::IncompatibleTypes(l, op, r) => {
                write!(f, "incompatible sample types encountered for binary operator {}: {l} {op} {r}", quote(op))?
            }
            Self::HistogramIgnoredInAggregation(name) => write!(f, "ignored histogram in {name} aggregation")?,
            Self::HistogramIgnoredInMixedRange(name) => write!(
                f,
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quote(name)
            )?,
            Self::QuantileNanResult(name) => {
                named(f, "input to histogram_quantile has NaN observations, result is NaN", name)?;
            }
            Self::QuantileNanSkew(name) => {
                named(f, "input to histogram_quantile has NaN observations, result is skewed higher", name)?;
            }
            Self::FractionNan(name) => named(
                f,
                "input to histogram_fraction has NaN observations, which are excluded from all fractions",
                name,
            )?,
            Self::CounterResetCollision(what) => {
                write!(f, "conflicting counter resets during histogram {what}")?;
            }
            Self::MismatchedCustomBuckets(what) => {
                write!(f, "mismatched custom buckets were reconciled during {what}")?;
            }
            Self::StartTimeOverlap(name, n) => {
                write!(
                    f,
                    "sample has start time that overlaps with previous sample timestamp for metric {}",
                    quote(name)
                )?;
                if *n > 1 {
                    write!(f, " ({n} occurrences)")?;
                }
            }
            Self::Downsampled(name) => {
                named(f, "result is approximate, some of its samples are downsampled", name)?;
            }
        }
        if position.is_empty() { Ok(()) } else { write!(f, " ({position})") }
    }
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return format_g(v);
    }
    let text = format!("{v:.1e}");
    text.parse::<f64>().map_or(text.clone(), format_g_or_exponent)
}

fn format_g_or_exponent(v: f64) -> String {
    // `%.2g` uses an exponent from 100 on.
    if v.abs() >= 100.0 { crate::format::format_e(v) } else { format_g(v) }
}

fn rfc3339_seconds(t_ms: i64) -> String {
    jiff::Timestamp::from_second(t_ms.div_euclid(1000)).map_or_else(|_| t_ms.to_string(), |t| t.to_string())
}

/// A remark and the expression that it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// What.
    pub kind: NoteKind,
    /// Where in the query.
    pub position: PositionRange,
}

/// The remarks of one query, each once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    list: Vec<Annotation>,
}

impl Annotations {
    /// More distinct remarks than this are dropped, so that a query cannot grow its answer without bound.
    const MAX: usize = 1000;

    /// Adds a remark, or merges it with an equal one.
    pub fn add(&mut self, kind: NoteKind, position: PositionRange) {
        for known in &mut self.list {
            if !known.kind.merge(&kind) {
                continue;
            }
            // Of one text the reference keeps the place where it was remarked last: outside of inside, right of left;
            // of those that it counts the place where it was remarked first.
            if !matches!(kind, NoteKind::ForcedMonotonicity(_) | NoteKind::StartTimeOverlap(..)) {
                known.position = position;
            }
            return;
        }
        if self.list.len() < Self::MAX {
            self.list.push(Annotation { kind, position });
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Annotations) {
        for a in other.list {
            self.add(a.kind, a.position);
        }
    }

    /// True without remarks.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The remarks in order of appearance.
    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.list.iter()
    }

    /// Texts of warnings and infos, each ending in ` (line:column)` of `query`; at most `max` of a kind (0: all),
    /// then `N more warning annotations omitted`.
    pub fn texts(&self, query: &str, max: usize) -> (Vec<String>, Vec<String>) {
        let pick = |warning: bool, word: &str| {
            let all: Vec<&Annotation> = self.list.iter().filter(|a| a.kind.is_warning() == warning).collect();
            let kept = if max == 0 { all.len() } else { all.len().min(max) };
            let mut texts: Vec<String> = all[..kept].iter().map(|a| a.text(query)).collect();
            if all.len() > kept {
                texts.push(format!("{} more {word} annotations omitted", all.len() - kept));
            }
            texts
        };
        (pick(true, "warning"), pick(false, "info"))
    }
}

impl Annotation {
    /// The text with its position in `query`.
    pub fn text(&self, query: &str) -> String {
        struct Text<'a>(&'a NoteKind, String);
        impl fmt::Display for Text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.text(&self.1, f)
            }
        }
        let (line, column) = line_column(query, self.position.start);
        Text(&self.kind, format!("{line}:{column}")).to_string()
    }
}
