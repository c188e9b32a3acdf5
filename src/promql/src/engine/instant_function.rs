//! Functions over instant vectors and scalars.

use trefoil_model::re2::Regex;
use trefoil_model::{Labels, LabelsBuilder, MatchOp, Matcher};

use super::EngineError;
use super::eval::{Evaluated, Evaluator};
use crate::algebra::{Points, Series, label_join_within, label_replace_with, sort, sort_by_label};
use crate::annotations::NoteKind;
use crate::ast::{Expr, ExprKind};
use crate::histogram;

impl Evaluator<'_> {
    pub(super) fn call(&self, name: &str, args: &[Expr], expr: &Expr) -> Result<Evaluated, EngineError> {
        if let Some((call, source)) = self.range_call(name, args)? {
            let arg = &args[call.argument];
            return self.range_series(&call, source, arg).map(Evaluated::Series);
        }
        if let Some(column) = self.scalar_call(name, args)? {
            return Ok(Evaluated::Scalar(column));
        }
        let series = match name {
            "vector" => vec![Series::new(Labels::empty(), Points::from_floats(self.scalar(&args[0])?))],
            "absent" => {
                let input = self.series(&args[0])?;
                self.absent(&input, &args[0])
            }
            "timestamp" | "start_timestamp" => self.timestamp_call(name == "start_timestamp", &args[0])?,
            "label_replace" => {
                let text = |i: usize| self.text(&args[i]);
                let (dst, replacement, src, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
                let series = self.series(&args[0])?;
                let regex = Regex::anchored(&pattern).map_err(|_| {
                    EngineError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
                })?;
                label_replace_with(series, &dst, &replacement, &src, &regex, self.context.room())?
            }
            "label_join" => {
                let (dst, separator) = (self.text(&args[1])?, self.text(&args[2])?);
                let sources = args[3..].iter().map(|a| self.text(a)).collect::<Result<Vec<_>, _>>()?;
                label_join_within(self.series(&args[0])?, &dst, &separator, &sources, self.context.room())?
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort_call(name, args, expr)?,
            "info" => self.info(args)?,
            "histogram_quantile" => self.histogram_quantile(args)?,
            "histogram_quantiles" => self.histogram_quantiles(args)?,
            "histogram_fraction" => self.histogram_fraction(args)?,
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev" | "histogram_stdvar" => {
                self.histogram_call(name, &args[0])?
            }
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(name, args)?,
            "round" => self.round(args)?,
            "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year" | "days_in_month" | "month" | "year" => {
                self.date_call(name, args)?
            }
            _ => match simple(name) {
                Some(f) => self.map_floats(&args[0], f)?,
                None => return Err(EngineError::Execution(format!("function {name} is not supported"))),
            },
        };
        Ok(Evaluated::Series(series))
    }

    fn scalar_call(&self, name: &str, args: &[Expr]) -> Result<Option<Vec<f64>>, EngineError> {
        let steps = self.grid.count;
        Ok(Some(match name {
            "time" => (0..steps).map(|i| self.grid.time(i) as f64 / 1000.0).collect(),
            "pi" => vec![std::f64::consts::PI; steps],
            "max_of" | "min_of" => {
                let (a, b) = (self.scalar(&args[0])?, self.scalar(&args[1])?);
                let choose = if name == "max_of" { greater } else { lesser };
                a.into_iter().zip(b).map(|(a, b)| choose(a, b)).collect()
            }
            "scalar" => {
                let series = self.series(&args[0])?;
                (0..steps)
                    .map(|i| {
                        let mut floats = series.iter().filter_map(|s| s.points.float(i));
                        match (floats.next(), floats.next()) {
                            (Some(v), None) => v,
                            _ => f64::NAN,
                        }
                    })
                    .collect()
            }
            _ => return Ok(None),
        }))
    }

    /// Applies `f` to every float, removes histograms and names.
    fn map_floats(&self, arg: &Expr, f: fn(f64) -> f64) -> Result<Vec<Series>, EngineError> {
        let input = self.series(arg)?;
        self.map_series_floats(input, |_, v| f(v))
    }

    fn map_series_floats(&self, input: Vec<Series>, f: impl Fn(usize, f64) -> f64) -> Result<Vec<Series>, EngineError> {
        let mut out = Vec::with_capacity(input.len());
        for mut s in input {
            // A result stands where the operand was; its labels may be new.
            self.context.meter.take(s.labels.heap_bytes() as u64)?;
            let mut points = Points::absent(s.points.len());
            for step in 0..s.points.len() {
                if let Some(v) = s.points.float(step) {
                    points.set_float(step, f(step, v));
                }
            }
            s.points = points;
            s.remove_name(self.context.options.delayed_name_removal);
            if !s.points.is_void() {
                out.push(s);
            }
        }
        self.unique(out)
    }

    fn clamp(&self, name: &str, args: &[Expr]) -> Result<Vec<Series>, EngineError> {
        let steps = self.grid.count;
        let (low, high) = match name {
            "clamp" => (self.scalar(&args[1])?, self.scalar(&args[2])?),
            "clamp_min" => (self.scalar(&args[1])?, vec![f64::INFINITY; steps]),
            _ => (vec![f64::NEG_INFINITY; steps], self.scalar(&args[1])?),
        };
        let mut input = self.series(&args[0])?;
        for s in &mut input {
            for step in (0..steps).filter(|i| high[*i] < low[*i]) {
                s.points.clear(step);
            }
        }
        self.map_series_floats(input, |step, v| {
            let (low, high) = (low[step], high[step]);
            greater(low, lesser(high, v))
        })
    }

    fn round(&self, args: &[Expr]) -> Result<Vec<Series>, EngineError> {
        let nearest = match args.get(1) {
            Some(arg) => self.scalar(arg)?,
            None => vec![1.0; self.grid.count],
        };
        let input = self.series(&args[0])?;
        self.map_series_floats(input, |step, v| {
            // The inverse loses less.
            let inverse = 1.0 / nearest[step];
            (v * inverse + 0.5).floor() / inverse
        })
    }

    fn date_call(&self, name: &str, args: &[Expr]) -> Result<Vec<Series>, EngineError> {
        let f = date_part(name);
        match args.first() {
            Some(arg) => self.map_floats(arg, f),
            None => {
                let column = (0..self.grid.count).map(|i| f(self.grid.time(i) as f64 / 1000.0)).collect();
                Ok(vec![Series::new(Labels::empty(), Points::from_floats(column))])
            }
        }
    }

    fn timestamp_call(&self, starts: bool, arg: &Expr) -> Result<Vec<Series>, EngineError> {
        if let ExprKind::Vector(v) = &arg.unwrapped().kind {
            if starts && !self.context.options.start_timestamps {
                return Ok(Vec::new());
            }
            let mut series = self.sample_times(v, starts)?;
            for s in &mut series {
                s.remove_name(self.context.options.delayed_name_removal);
            }
            return self.unique(series);
        }
        if starts {
            return Ok(Vec::new());
        }
        let mut out = self.series(arg)?;
        for s in &mut out {
            for step in 0..s.points.len() {
                if s.points.is_present(step) {
                    s.points.set_float(step, self.grid.time(step) as f64 / 1000.0);
                }
            }
            s.remove_name(self.context.options.delayed_name_removal);
        }
        self.unique(out)
    }

    fn sort_call(&self, name: &str, args: &[Expr], expr: &Expr) -> Result<Vec<Series>, EngineError> {
        let mut series = self.series(&args[0])?;
        if self.spans {
            self.context.annotate(NoteKind::SortInRangeQuery, expr.position);
            if !name.starts_with("sort_by") {
                for s in &mut series {
                    s.points.map_floats(|v| v);
                }
                series.retain(|s| !s.points.is_void());
            }
            return Ok(series);
        }
        let descending = name.ends_with("_desc");
        if name.starts_with("sort_by") {
            let names = args[1..].iter().map(|a| self.text(a)).collect::<Result<Vec<_>, _>>()?;
            sort_by_label(&mut series, &names, descending);
        } else {
            sort(&mut series, descending);
        }
        Ok(series)
    }

    /// 1 at the steps at which no series has a value, with the labels that the selector asked for.
    pub(super) fn absent(&self, series: &[Series], arg: &Expr) -> Vec<Series> {
        let mut points = Points::absent(self.grid.count);
        for step in 0..self.grid.count {
            if !series.iter().any(|s| s.points.is_present(step)) {
                points.set_float(step, 1.0);
            }
        }
        if points.is_void() {
            return Vec::new();
        }
        let matchers: &[Matcher] = match &arg.unwrapped().kind {
            ExprKind::Vector(v) => &v.matchers,
            ExprKind::Matrix(m) => &m.selector.matchers,
            _ => &[],
        };
        let mut labels = LabelsBuilder::new();
        let mut seen: Vec<&str> = Vec::new();
        for m in matchers.iter().filter(|m| m.name != trefoil_model::labels::METRIC_NAME) {
            if m.op == MatchOp::Equal && !seen.contains(&m.name.as_str()) {
                labels.set(m.name.as_str(), m.value.as_str());
                seen.push(&m.name);
            } else {
                labels.del(&m.name);
            }
        }
        vec![Series::new(labels.build(), points)]
    }

    fn histogram_call(&self, name: &str, arg: &Expr) -> Result<Vec<Series>, EngineError> {
        let mut out = Vec::new();
        for mut s in self.series(arg)? {
            self.context.meter.take(s.labels.heap_bytes() as u64)?;
            let mut points = Points::absent(s.points.len());
            for step in 0..s.points.len() {
                if let Some(h) = s.points.histogram(step) {
                    let value = match name {
                        "histogram_count" => h.count,
                        "histogram_sum" => h.sum,
                        "histogram_avg" => h.sum / h.count,
                        "histogram_stdvar" => histogram::quantile::histogram_variance(h),
                        _ => histogram::quantile::histogram_variance(h).sqrt(),
                    };
                    points.set_float(step, value);
                }
            }
            s.points = points;
            s.remove_name(self.context.options.delayed_name_removal);
            if !s.points.is_void() {
                out.push(s);
            }
        }
        self.unique(out)
    }
}

/// The greater one; NaN is stronger than all but infinity.
fn greater(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The lesser one; NaN is stronger than all but negative infinity.
fn lesser(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

fn simple(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

/// Takes a part out of a Unix time in seconds, UTC. What is no time (NaN, or beyond 64 bits) is the one that the
/// reference makes of it: 15:30:08 on the 4th of December, a Sunday, 292277026596.
fn date_part(name: &str) -> fn(f64) -> f64 {
    /// Whole seconds; `None` when they do not fit.
    fn seconds(v: f64) -> Option<i64> {
        (v >= i64::MIN as f64 && v < i64::MAX as f64).then_some(v as i64)
    }
    fn parts(v: f64) -> Option<(i64, u32, u32, i64)> {
        let days = seconds(v)?.div_euclid(86_400);
        let (year, month, day) = civil(days);
        Some((year, month, day, days))
    }
    fn of_day(v: f64) -> i64 {
        seconds(v).map_or(55_808, |s| s.rem_euclid(86_400))
    }
    match name {
        "minute" => |v| ((of_day(v) / 60) % 60) as f64,
        "hour" => |v| (of_day(v) / 3600) as f64,
        "day_of_week" => |v| parts(v).map_or(0.0, |p| (p.3 + 4).rem_euclid(7) as f64),
        "day_of_month" => |v| parts(v).map_or(4.0, |p| f64::from(p.2)),
        "day_of_year" => |v| parts(v).map_or(339.0, |p| (p.3 - days_from_civil(p.0, 1, 1) + 1) as f64),
        "days_in_month" => |v| {
            parts(v).map_or(31.0, |(year, month, ..)| {
                let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                (days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1)) as f64
            })
        },
        "month" => |v| parts(v).map_or(12.0, |p| f64::from(p.1)),
        _ => |v| parts(v).map_or(292_277_026_596.0, |p| p.0 as f64),
    }
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
