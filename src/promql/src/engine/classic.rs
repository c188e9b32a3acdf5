//! `histogram_quantile`, `histogram_quantiles`, `histogram_fraction` over classic and native histograms.

use rustc_hash::FxHashMap;
use trefoil_model::Labels;
use trefoil_model::labels::BUCKET_LABEL;

use super::EngineError;
use super::eval::Evaluator;
use crate::algebra::aggregate::note;
use crate::algebra::labels::with_label;
use crate::algebra::{Notes, Points, Series};
use crate::annotations::{ForcedMonotonicity, NoteKind};
use crate::ast::{Expr, PositionRange};
use crate::format::format_g;
use crate::histogram::quantile::{
    ClassicBucket, NanEffect, classic_fraction, classic_quantile, histogram_fraction, histogram_quantile,
};

/// The series of one histogram.
struct Grouped {
    /// Without `le`.
    labels: Labels,
    /// (upper bound, series)
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
    drop_name: bool,
}

/// What is computed of a histogram at a step.
trait Measure {
    fn classic(&self, step: usize, buckets: &mut Vec<ClassicBucket>, name: &str, t_ms: i64, notes: &mut Notes) -> f64;
    fn native(&self, step: usize, h: &trefoil_model::FloatHistogram, name: &str, notes: &mut Notes) -> f64;
}

struct Quantile<'a>(&'a [f64], bool);

impl Measure for Quantile<'_> {
    fn classic(&self, step: usize, buckets: &mut Vec<ClassicBucket>, name: &str, t_ms: i64, notes: &mut Notes) -> f64 {
        let (value, mended) = classic_quantile(self.0[step], buckets);
        if let Some(m) = mended {
            notes.push(NoteKind::ForcedMonotonicity(ForcedMonotonicity {
                name: if self.1 { name.to_owned() } else { String::new() },
                times_ms: (t_ms, t_ms),
                buckets: m.buckets,
                max_difference: m.max_difference,
                samples: 1,
            }));
        }
        value
    }

    fn native(&self, step: usize, h: &trefoil_model::FloatHistogram, name: &str, notes: &mut Notes) -> f64 {
        let (value, effect) = histogram_quantile(self.0[step], h);
        match effect {
            NanEffect::No => {}
            NanEffect::Result => note(notes, NoteKind::QuantileNanResult(name.to_owned())),
            NanEffect::Skew => note(notes, NoteKind::QuantileNanSkew(name.to_owned())),
        }
        value
    }
}

struct Fraction<'a>(&'a [f64], &'a [f64]);

impl Measure for Fraction<'_> {
    fn classic(&self, step: usize, buckets: &mut Vec<ClassicBucket>, _: &str, _: i64, _: &mut Notes) -> f64 {
        classic_fraction(self.0[step], self.1[step], buckets)
    }

    fn native(&self, step: usize, h: &trefoil_model::FloatHistogram, name: &str, notes: &mut Notes) -> f64 {
        let (value, effect) = histogram_fraction(self.0[step], self.1[step], h);
        if effect != NanEffect::No {
            note(notes, NoteKind::FractionNan(name.to_owned()));
        }
        value
    }
}

/// What a bucket's series takes in its group.
const GROUPED_BYTES: usize = 320;

impl Evaluator<'_> {
    pub(super) fn histogram_quantile(&self, args: &[Expr]) -> Result<Vec<Series>, EngineError> {
        let q = self.quantile_param(&args[0])?;
        let input = self.series(&args[1])?;
        let delayed = self.context.options.delayed_name_removal;
        self.context.meter.take((input.len() * GROUPED_BYTES) as u64)?;
        let places = (args[1].unwrapped().position, args[0].unwrapped().position);
        let grouped = self.group_buckets(&input, places.0);
        self.measure(&input, &grouped, &Quantile(&q, delayed), places, None)
    }

    pub(super) fn histogram_quantiles(&self, args: &[Expr]) -> Result<Vec<Series>, EngineError> {
        let input = self.series(&args[0])?;
        let label = self.text(&args[1])?;
        let delayed = self.context.options.delayed_name_removal;
        self.context.meter.take((input.len() * GROUPED_BYTES) as u64)?;
        let place = args[0].unwrapped().position;
        let grouped = self.group_buckets(&input, place);
        let mut out = Vec::new();
        for arg in &args[2..] {
            let q = self.quantile_param(arg)?;
            // A quantile that changes over time gives one series for each of its values.
            let mut distinct: Vec<f64> = Vec::new();
            for v in &q {
                if !distinct.iter().any(|d| d.to_bits() == v.to_bits()) {
                    distinct.push(*v);
                }
            }
            for value in distinct {
                let text = open_metrics_float(value);
                let named = Some((label.as_str(), text.as_str()));
                let series = self.measure(&input, &grouped, &Quantile(&q, delayed), (place, place), named)?;
                for mut s in series {
                    for (step, v) in q.iter().enumerate() {
                        if v.to_bits() != value.to_bits() {
                            s.points.clear(step);
                        }
                    }
                    if !s.points.is_void() {
                        out.push(s);
                    }
                }
            }
        }
        self.unique(out)
    }

    pub(super) fn histogram_fraction(&self, args: &[Expr]) -> Result<Vec<Series>, EngineError> {
        let (lower, upper) = (self.scalar(&args[0])?, self.scalar(&args[1])?);
        let input = self.series(&args[2])?;
        self.context.meter.take((input.len() * GROUPED_BYTES) as u64)?;
        let places = (args[2].unwrapped().position, args[0].unwrapped().position);
        let grouped = self.group_buckets(&input, places.0);
        self.measure(&input, &grouped, &Fraction(&lower, &upper), places, None)
    }

    fn quantile_param(&self, arg: &Expr) -> Result<Vec<f64>, EngineError> {
        let column = self.scalar(arg)?;
        for q in column.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            self.context.annotate(NoteKind::InvalidQuantile(*q), arg.unwrapped().position);
        }
        Ok(column)
    }

    /// Puts the buckets of a histogram together.
    fn group_buckets(&self, input: &[Series], position: PositionRange) -> Vec<Grouped> {
        let delayed = self.context.options.delayed_name_removal;
        let mut index: FxHashMap<Labels, usize> = FxHashMap::default();
        let mut out: Vec<Grouped> = Vec::new();
        let mut group = |labels: Labels, out: &mut Vec<Grouped>| {
            *index.entry(labels).or_insert_with_key(|labels| {
                out.push(Grouped { labels: labels.clone(), buckets: Vec::new(), native: None, drop_name: true });
                out.len() - 1
            })
        };
        for (i, s) in input.iter().enumerate() {
            let has_floats = (0..s.points.len()).any(|step| s.points.float(step).is_some());
            if s.points.has_histograms() {
                // A native histogram keeps its labels, `le` included.
                let g = group(s.labels.clone(), &mut out);
                out[g].native = Some(i);
                out[g].drop_name |= s.drop_name;
            }
            if !has_floats {
                continue;
            }
            let bound = s.labels.get(BUCKET_LABEL).unwrap_or("");
            match parse_bound(bound) {
                Some(upper) => {
                    let g = group(s.labels.filter(|n| n != BUCKET_LABEL), &mut out);
                    out[g].buckets.push((upper, i));
                }
                None => {
                    let name = if delayed { s.labels.metric_name().to_owned() } else { String::new() };
                    self.context.annotate(NoteKind::BadBucketLabel(name, bound.to_owned()), position);
                }
            }
        }
        out
    }

    /// `places`: what remarks are about, those about NaN observations in native histograms apart.
    fn measure(
        &self,
        input: &[Series],
        grouped: &[Grouped],
        measure: &dyn Measure,
        places: (PositionRange, PositionRange),
        label: Option<(&str, &str)>,
    ) -> Result<Vec<Series>, EngineError> {
        let delayed = self.context.options.delayed_name_removal;
        let mut out = Vec::with_capacity(grouped.len());
        let mut buckets: Vec<ClassicBucket> = Vec::new();
        for g in grouped {
            self.context.budget.check()?;
            self.context.meter.take(Series::bytes_of(&g.labels, self.grid.count) as u64)?;
            let mut points = Points::absent(self.grid.count);
            let mut notes = Notes::new();
            let name = if delayed { g.labels.metric_name() } else { "" };
            for step in 0..self.grid.count {
                buckets.clear();
                buckets.extend(g.buckets.iter().filter_map(|(upper, i)| {
                    input[*i].points.float(step).map(|count| ClassicBucket { upper: *upper, count })
                }));
                let native = g.native.and_then(|i| input[i].points.histogram(step));
                match (native, buckets.is_empty()) {
                    (Some(_), false) => note(&mut notes, NoteKind::MixedClassicNative(name.to_owned())),
                    (Some(h), true) => points.set_float(step, measure.native(step, h, name, &mut notes)),
                    (None, false) => {
                        let t_ms = self.grid.time(step);
                        points.set_float(step, measure.classic(step, &mut buckets, name, t_ms, &mut notes));
                    }
                    (None, true) => {}
                }
            }
            for kind in notes {
                let is_nan = matches!(
                    kind,
                    NoteKind::QuantileNanResult(_) | NoteKind::QuantileNanSkew(_) | NoteKind::FractionNan(_)
                );
                self.context.annotate(kind, if is_nan { places.1 } else { places.0 });
            }
            if points.is_void() {
                continue;
            }
            let labels = match label {
                Some((name, value)) => with_label(&g.labels, name, value),
                None => g.labels.clone(),
            };
            let mut series = Series { labels, points, drop_name: g.drop_name && delayed };
            series.remove_name(delayed);
            out.push(series);
        }
        self.unique(out)
    }
}

/// A bucket bound as Go's `ParseFloat` reads it.
fn parse_bound(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().trim_start_matches(['+', '-']) {
        "inf" | "infinity" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        "nan" => Some(f64::NAN),
        _ => text.parse().ok(),
    }
}

/// A float with at least one digit after the point, as the label of a quantile.
fn open_metrics_float(v: f64) -> String {
    if v == 1.0 {
        return "1.0".to_owned();
    }
    let text = format_g(v);
    if text.contains(['.', 'e', 'N', 'I']) { text } else { text + ".0" }
}
