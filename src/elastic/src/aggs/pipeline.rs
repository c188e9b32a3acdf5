//! Pipelines: figures made of the figures of buckets.

use std::collections::VecDeque;

use serde_json::{Map, Value as Json, json};

use super::bucket::{Bucket, Figure, Finished, steps};
use super::metric::{Stats, percentile};
use super::script::Script;
use super::{Aggs, Kind};
use crate::Error;
use crate::date::{self, Interval};
use crate::doc::number;
use crate::dsl::scalar_text;

/// Widest window of moving figures.
const WINDOW_MAX: usize = 10_000;

/// A pipeline aggregation.
#[derive(Debug)]
pub(super) struct Pipeline {
    kind: PipelineKind,
    gap: Gap,
}

/// What stands for a bucket without documents or without the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    Skip,
    Zeros,
    Keep,
}

#[derive(Debug)]
enum PipelineKind {
    Derivative { path: Vec<String>, unit_ms: Option<f64> },
    Moving { path: Vec<String>, window: usize, shift: i64, function: Moving, takes_current: bool },
    CumulativeSum { path: Vec<String> },
    SerialDiff { path: Vec<String>, lag: usize },
    Script { paths: Vec<(String, Vec<String>)>, script: Script, selects: bool },
    Sort { by: Vec<(Vec<String>, bool)>, from: usize, size: Option<usize> },
    Beside { path: Vec<String>, of: Beside },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Moving {
    Max,
    Min,
    Sum,
    StdDev,
    Avg,
    Linear,
    Ewma(f64),
    Holt(f64, f64),
}

/// Figures of the buckets of an aggregation beside the pipeline.
#[derive(Debug, Clone, PartialEq)]
enum Beside {
    Max,
    Min,
    Avg,
    Sum,
    Stats,
    Extended(f64),
    Percentiles(Vec<f64>),
}

/// Reads a pipeline; `None` when there is none of that kind.
pub(super) fn parse(name: &str, kind: &str, object: &Map<String, Json>) -> Result<Option<Pipeline>, Error> {
    let bad = |what: &str| Error::content(format!("[{kind}] failed to parse field [{what}] of aggregation [{name}]"));
    let path = || match object.get("buckets_path") {
        Some(Json::String(path)) => Ok(steps(path)),
        Some(Json::Array(paths)) if paths.len() == 1 => paths[0].as_str().map(steps).ok_or_else(|| bad("buckets_path")),
        _ => Err(Error::parsing(format!("Missing required field [buckets_path] for aggregation [{name}]"))),
    };
    let whole = |key: &str, default: usize| match object.get(key).and_then(scalar_text) {
        None => Ok(default),
        Some(text) => text.parse::<usize>().ok().filter(|n| *n <= WINDOW_MAX).ok_or_else(|| bad(key)),
    };
    let script = || {
        let text = match object.get("script") {
            Some(Json::String(text)) => Some(text.clone()),
            Some(Json::Object(script)) => {
                ["source", "inline"].iter().find_map(|k| script.get(*k)).and_then(scalar_text)
            }
            _ => None,
        };
        text.ok_or_else(|| Error::parsing(format!("Missing required field [script] for aggregation [{name}]")))
    };
    let beside = |of: Beside| Ok::<_, Error>(PipelineKind::Beside { path: path()?, of });
    let kind = match kind {
        "derivative" => {
            let unit = object.get("unit").and_then(Json::as_str);
            let of_unit = |unit: &str| {
                date::duration_ms(unit)
                    .map(|ms| ms as f64)
                    .or_else(|| Interval::calendar(unit).ok().map(Interval::about_ms))
            };
            let unit_ms = match unit {
                Some(unit) => Some(of_unit(unit).filter(|ms| *ms > 0.0).ok_or_else(|| bad("unit"))?),
                None => None,
            };
            PipelineKind::Derivative { path: path()?, unit_ms }
        }
        "moving_avg" => {
            let settings = object.get("settings");
            let setting = |key: &str, default: f64| {
                settings.and_then(|s| s.get(key)).and_then(scalar_text).and_then(|t| number(&t)).unwrap_or(default)
            };
            let function = match object.get("model").and_then(Json::as_str).unwrap_or("simple") {
                "simple" => Moving::Avg,
                "linear" => Moving::Linear,
                "ewma" => Moving::Ewma(setting("alpha", 0.3)),
                "holt" => Moving::Holt(setting("alpha", 0.3), setting("beta", 0.1)),
                other => {
                    return Err(Error::illegal(format!("model [{}] of moving_avg is not supported", date::cut(other))));
                }
            };
            let window = whole("window", 5)?.max(1);
            PipelineKind::Moving { path: path()?, window, shift: 0, function, takes_current: true }
        }
        "moving_fn" => {
            let window = whole("window", 0)?;
            if window == 0 {
                return Err(Error::illegal("[window] must be a positive, non-zero integer."));
            }
            let shift =
                object.get("shift").and_then(scalar_text).map_or(Ok(0), |t| t.parse().map_err(|_| bad("shift")))?;
            PipelineKind::Moving { path: path()?, window, shift, function: moving(&script()?)?, takes_current: false }
        }
        "cumulative_sum" => PipelineKind::CumulativeSum { path: path()? },
        "serial_diff" => PipelineKind::SerialDiff { path: path()?, lag: whole("lag", 1)?.max(1) },
        "bucket_script" | "bucket_selector" => {
            let paths = match object.get("buckets_path") {
                Some(Json::Object(paths)) => {
                    let one = |(name, path): (&String, &Json)| path.as_str().map(|p| (name.clone(), steps(p)));
                    paths.iter().map(one).collect::<Option<Vec<_>>>().ok_or_else(|| bad("buckets_path"))?
                }
                Some(Json::String(path)) => vec![("_value".to_owned(), steps(path))],
                _ => {
                    return Err(Error::parsing(format!(
                        "Missing required field [buckets_path] for aggregation [{name}]"
                    )));
                }
            };
            PipelineKind::Script { paths, script: Script::parse(&script()?)?, selects: kind == "bucket_selector" }
        }
        "bucket_sort" => {
            let mut by = Vec::new();
            let items = match object.get("sort") {
                Some(Json::Array(items)) => items.as_slice(),
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            for item in items.iter().take(100) {
                match item {
                    Json::String(path) => by.push((steps(path), false)),
                    Json::Object(keys) => by.extend(keys.iter().map(|(path, options)| {
                        let order = options.get("order").or(Some(options)).and_then(Json::as_str);
                        (steps(path), order == Some("desc"))
                    })),
                    _ => return Err(bad("sort")),
                }
            }
            let size = object.contains_key("size").then(|| whole("size", 0)).transpose()?;
            PipelineKind::Sort { by, from: whole("from", 0)?, size }
        }
        "max_bucket" => beside(Beside::Max)?,
        "min_bucket" => beside(Beside::Min)?,
        "avg_bucket" => beside(Beside::Avg)?,
        "sum_bucket" => beside(Beside::Sum)?,
        "stats_bucket" => beside(Beside::Stats)?,
        "extended_stats_bucket" => beside(Beside::Extended(object.get("sigma").and_then(Json::as_f64).unwrap_or(2.0)))?,
        "percentiles_bucket" => {
            let percents = match object.get("percents").and_then(Json::as_array) {
                Some(list) => list.iter().take(1000).filter_map(|p| scalar_text(p).and_then(|t| number(&t))).collect(),
                None => vec![1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0],
            };
            beside(Beside::Percentiles(percents))?
        }
        "cumulative_cardinality"
        | "normalize"
        | "inference"
        | "change_point"
        | "bucket_count_ks_test"
        | "bucket_correlation" => {
            return Err(Error::illegal(format!("aggregation [{name}] of type [{kind}] is not supported")));
        }
        _ => return Ok(None),
    };
    let gap = match object.get("gap_policy").and_then(Json::as_str).unwrap_or("skip") {
        "skip" => Gap::Skip,
        "insert_zeros" => Gap::Zeros,
        "keep_values" => Gap::Keep,
        other => return Err(Error::parsing(format!("Invalid gap policy: [{}]", date::cut(other)))),
    };
    Ok(Some(Pipeline { kind, gap }))
}

/// `MovingFunctions.max(values)` and its like.
fn moving(script: &str) -> Result<Moving, Error> {
    let text: String = script.trim().trim_end_matches(';').chars().filter(|c| !c.is_whitespace()).collect();
    let text = text.strip_prefix("return").unwrap_or(&text);
    let call = text.strip_prefix("MovingFunctions.").and_then(|t| t.strip_suffix(')')).and_then(|t| t.split_once('('));
    let arguments = call.map(|(name, arguments)| (name, arguments.split(',').collect::<Vec<_>>()));
    let number = |text: &&str| text.parse::<f64>().ok();
    let found = match &arguments {
        Some(("max", a)) if a[..] == ["values"] => Some(Moving::Max),
        Some(("min", a)) if a[..] == ["values"] => Some(Moving::Min),
        Some(("sum", a)) if a[..] == ["values"] => Some(Moving::Sum),
        Some(("stdDev", a)) if a.first() == Some(&"values") => Some(Moving::StdDev),
        Some(("unweightedAvg", a)) if a[..] == ["values"] => Some(Moving::Avg),
        Some(("linearWeightedAvg", a)) if a[..] == ["values"] => Some(Moving::Linear),
        Some(("ewma", a)) if a.len() == 2 => number(&a[1]).map(Moving::Ewma),
        Some(("holt", a)) if a.len() == 3 => number(&a[1]).zip(number(&a[2])).map(|(a, b)| Moving::Holt(a, b)),
        _ => None,
    };
    found.ok_or_else(|| Error::Request {
        kind: "script_exception",
        reason: "compile error: only the functions of MovingFunctions over [values] are supported, holtWinters is not"
            .to_owned(),
        status: 400,
        in_phase: false,
    })
}

impl Moving {
    fn of(self, values: &[f64]) -> Option<f64> {
        let n = values.len() as f64;
        let some = |value: f64| (!values.is_empty()).then_some(value);
        let sum: f64 = values.iter().sum();
        match self {
            Self::Max => values.iter().copied().reduce(f64::max),
            Self::Min => values.iter().copied().reduce(f64::min),
            Self::Sum => Some(sum),
            Self::Avg => some(sum / n),
            Self::StdDev => {
                let mean = sum / n;
                some((values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt())
            }
            Self::Linear => {
                let weighted: f64 = values.iter().zip(1u32..).map(|(v, w)| v * f64::from(w)).sum();
                some(weighted / (n * (n + 1.0) / 2.0))
            }
            Self::Ewma(alpha) => values.iter().copied().reduce(|avg, v| v * alpha + avg * (1.0 - alpha)),
            Self::Holt(alpha, beta) => {
                let (mut level, mut trend) = (*values.first()?, 0.0);
                for (at, value) in values.iter().enumerate().skip(1) {
                    let last = level;
                    if at == 1 {
                        trend = value - values[0];
                    }
                    level = alpha * value + (1.0 - alpha) * (level + trend);
                    trend = beta * (level - last) + (1.0 - beta) * trend;
                }
                Some(level)
            }
        }
    }
}

impl Pipeline {
    fn paths(&self) -> Vec<&[String]> {
        match &self.kind {
            PipelineKind::Derivative { path, .. }
            | PipelineKind::Moving { path, .. }
            | PipelineKind::CumulativeSum { path }
            | PipelineKind::SerialDiff { path, .. }
            | PipelineKind::Beside { path, .. } => vec![path],
            PipelineKind::Script { paths, .. } => paths.iter().map(|(_, p)| p.as_slice()).collect(),
            PipelineKind::Sort { by, .. } => by.iter().map(|(p, _)| p.as_slice()).collect(),
        }
    }

    fn needs(&self, name: &str) -> bool {
        self.paths().iter().any(|path| path.first().is_some_and(|first| is_named(first, name)))
    }
}

/// Whether a step of a path means an aggregation.
fn is_named(step: &str, name: &str) -> bool {
    step.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn pipelines(aggs: &Aggs) -> impl Iterator<Item = (&str, &Pipeline)> {
    aggs.0.iter().filter_map(|agg| match &agg.kind {
        Kind::Pipeline(pipeline) => Some((agg.name.as_str(), pipeline)),
        _ => None,
    })
}

/// Errors when a pipeline is about an aggregation that is not there.
pub(super) fn check(aggs: &Aggs) -> Result<(), Error> {
    for (name, pipeline) in pipelines(aggs) {
        for path in pipeline.paths() {
            let first = path.first().map_or("", String::as_str);
            let is_there =
                matches!(first, "_count" | "_key") || aggs.0.iter().any(|a| is_named(first, &a.name) && a.name != name);
            if !is_there {
                let path = date::cut(first);
                return Err(Error::validation(format!("No aggregation found for path [{path}]")));
            }
        }
    }
    Ok(())
}

/// Runs the pipelines of one level that are about buckets beside them.
pub(super) fn beside(aggs: &Aggs, out: &mut Vec<(String, Finished)>) -> Result<(), Error> {
    for (name, pipeline) in pipelines(aggs) {
        let PipelineKind::Beside { path, of } = &pipeline.kind else { continue };
        let Some((first, rest)) = path.split_first() else { continue };
        let Some((_, Finished::Buckets { buckets, .. })) = out.iter().find(|(n, _)| n == first) else {
            return Err(Error::validation(format!(
                "The first aggregation in buckets_path must be a multi-bucket aggregation for aggregation [{name}] found :{first}"
            )));
        };
        let count = ["_count".to_owned()];
        let rest = if rest.is_empty() { &count[..] } else { rest };
        let values: Vec<(&Bucket, f64)> =
            buckets.iter().filter_map(|b| Some((b, value(b, rest, pipeline.gap)?))).collect();
        let figure = of.figure(&values);
        let meta = aggs.0.iter().find(|a| a.name == name).and_then(|a| a.meta.clone());
        out.push((name.to_owned(), Finished::Figure { figure, meta }));
    }
    Ok(())
}

impl Beside {
    fn figure(&self, values: &[(&Bucket, f64)]) -> Figure {
        let mut stats = Stats::default();
        values.iter().for_each(|(_, v)| stats.add(*v));
        let numbers = || values.iter().map(|(_, v)| *v);
        match self {
            Self::Max | Self::Min => {
                let best = if *self == Self::Max { numbers().reduce(f64::max) } else { numbers().reduce(f64::min) };
                let mut figure = Figure::value(best);
                let of_best = values.iter().filter(|(_, v)| Some(*v) == best);
                let key = |bucket: &Bucket| {
                    let shown = |wanted: &str| bucket.head.iter().find(|(n, _)| *n == wanted).map(|(_, v)| v.clone());
                    let text = shown("key_as_string").or_else(|| shown("key"));
                    let text = text.map(|t| scalar_text(&t).unwrap_or_else(|| t.to_string()));
                    json!(text.or_else(|| bucket.name.clone()))
                };
                figure.json.insert("keys".to_owned(), of_best.map(|(bucket, _)| key(bucket)).collect());
                figure
            }
            Self::Avg => Figure::value((!values.is_empty()).then(|| stats.sum() / values.len() as f64)),
            Self::Sum => Figure::value(Some(stats.sum())),
            Self::Stats => stats.figure(),
            Self::Extended(sigma) => stats.extended(*sigma),
            Self::Percentiles(percents) => {
                let mut sorted: Vec<f64> = numbers().collect();
                sorted.sort_by(f64::total_cmp);
                let mut figure = Figure::default();
                for percent in percents {
                    // The nearest value that there is.
                    let at = (percent / 100.0 * sorted.len().saturating_sub(1) as f64).round().max(0.0) as usize;
                    figure.set(
                        &format!("{percent:?}"),
                        sorted.get(at).copied().or_else(|| percentile(&sorted, *percent)),
                    );
                }
                Figure {
                    json: Map::from_iter([("values".to_owned(), Json::Object(figure.json))]),
                    numbers: figure.numbers,
                }
            }
        }
    }
}

/// The number of a bucket at a path, after the policy for gaps.
fn value(bucket: &Bucket, path: &[String], gap: Gap) -> Option<f64> {
    if path.first().is_some_and(|p| p == "_key") {
        return bucket.head.iter().find(|(n, _)| *n == "key").and_then(|(_, v)| v.as_f64());
    }
    let is_count = path.last().is_some_and(|p| p == "_count");
    let found = bucket.number(path).filter(|v| v.is_finite());
    match (found, gap) {
        (found, Gap::Keep) => found,
        (Some(found), _) if bucket.count > 0 || is_count => Some(found),
        (_, Gap::Zeros) => Some(0.0),
        (_, _) => None,
    }
}

/// Runs the pipelines over the buckets that they stand in. `interval`: the distance of their keys.
pub(super) fn inside(subs: &Aggs, buckets: &mut Vec<Bucket>, interval: Option<f64>) -> Result<(), Error> {
    let mut pending: Vec<(&str, &Pipeline)> =
        pipelines(subs).filter(|(_, p)| !matches!(p.kind, PipelineKind::Beside { .. })).collect();
    while !pending.is_empty() {
        // One that needs no other that is still to run.
        let ready = |(at, (_, pipeline)): &(usize, &(&str, &Pipeline))| {
            pending.iter().enumerate().all(|(other, (name, _))| other == *at || !pipeline.needs(name))
        };
        let Some((at, _)) = pending.iter().enumerate().find(ready) else {
            let name = pending[0].0;
            return Err(Error::illegal(format!("Cyclical dependency found with aggregation [{name}]")));
        };
        let (name, pipeline) = pending.remove(at);
        pipeline.run(name, buckets, interval);
    }
    Ok(())
}

impl Pipeline {
    fn run(&self, name: &str, buckets: &mut Vec<Bucket>, interval: Option<f64>) {
        let put = |bucket: &mut Bucket, figure: Figure| {
            bucket.aggs.push((name.to_owned(), Finished::Figure { figure, meta: None }))
        };
        match &self.kind {
            PipelineKind::Derivative { path, unit_ms } => {
                let mut last: Option<(Option<f64>, Option<f64>)> = None;
                for bucket in buckets {
                    let now = value(bucket, path, self.gap);
                    let key = bucket.head.iter().find(|(n, _)| *n == "key").and_then(|(_, v)| v.as_f64());
                    if let Some((before, before_key)) = last {
                        let change = now.zip(before).map(|(now, before)| now - before);
                        let mut figure = Figure::value(change);
                        if let (Some(unit), true) = (unit_ms, interval.is_some()) {
                            let width = key.zip(before_key).map(|(a, b)| (a - b) / unit);
                            figure.set("normalized_value", change.zip(width).map(|(c, w)| c / w));
                        }
                        put(bucket, figure);
                    }
                    last = Some((now, key));
                }
            }
            PipelineKind::Moving { path, window, function, takes_current: true, .. } => {
                let mut values: VecDeque<f64> = VecDeque::new();
                for bucket in buckets {
                    let Some(now) = value(bucket, path, self.gap) else { continue };
                    values.push_back(now);
                    if values.len() > *window {
                        values.pop_front();
                    }
                    let all: Vec<f64> = values.iter().copied().collect();
                    put(bucket, Figure::value(function.of(&all)));
                }
            }
            PipelineKind::Moving { path, window, shift, function, .. } => {
                let values: Vec<f64> = buckets.iter().filter_map(|b| value(b, path, self.gap)).collect();
                let mut index = 0i64;
                for bucket in buckets {
                    if value(bucket, path, self.gap).is_none() {
                        continue;
                    }
                    let clamp = |at: i64| at.clamp(0, values.len() as i64) as usize;
                    let (from, to) = (
                        clamp(index.saturating_sub(*window as i64).saturating_add(*shift)),
                        clamp(index.saturating_add(*shift)),
                    );
                    put(bucket, Figure::value(function.of(&values[from..to.max(from)])));
                    index += 1;
                }
            }
            PipelineKind::CumulativeSum { path } => {
                let mut sum = 0.0;
                for bucket in buckets {
                    sum += value(bucket, path, self.gap).unwrap_or(0.0);
                    put(bucket, Figure::value(Some(sum)));
                }
            }
            PipelineKind::SerialDiff { path, lag } => {
                let values: Vec<Option<f64>> = buckets.iter().map(|b| value(b, path, self.gap)).collect();
                for (at, bucket) in buckets.iter_mut().enumerate().skip(*lag) {
                    if let (Some(now), Some(before)) = (values[at], values[at - lag]) {
                        put(bucket, Figure::value(Some(now - before)));
                    }
                }
            }
            PipelineKind::Script { paths, script, selects } => {
                let result = |bucket: &Bucket| {
                    script.evaluate(&|variable| {
                        let (_, path) = paths.iter().find(|(name, _)| name == variable)?;
                        value(bucket, path, self.gap)
                    })
                };
                if *selects {
                    buckets.retain(|bucket| result(bucket).is_some_and(|r| r != 0.0));
                    return;
                }
                for bucket in buckets {
                    // All variables must be there, also those that the formula does not come to.
                    if paths.iter().all(|(_, path)| value(bucket, path, self.gap).is_some()) {
                        let figure = Figure::value(result(bucket));
                        put(bucket, figure);
                    }
                }
            }
            PipelineKind::Sort { by, from, size } => {
                if !by.is_empty() {
                    // Those without a figure are left out.
                    let mut rows: Vec<(Vec<f64>, Bucket)> = Vec::new();
                    for bucket in buckets.drain(..) {
                        let keys: Vec<Option<f64>> =
                            by.iter().map(|(path, _)| value(&bucket, path, self.gap)).collect();
                        if keys.iter().any(Option::is_some) {
                            rows.push((keys.into_iter().map(|k| k.unwrap_or(f64::NAN)).collect(), bucket));
                        }
                    }
                    rows.sort_by(|(a, _), (b, _)| {
                        let each = by
                            .iter()
                            .zip(a.iter().zip(b))
                            .map(|((_, descending), (a, b))| if *descending { b.total_cmp(a) } else { a.total_cmp(b) });
                        each.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                    });
                    buckets.extend(rows.into_iter().map(|(_, bucket)| bucket));
                }
                buckets.drain(..(*from).min(buckets.len()));
                buckets.truncate(size.unwrap_or(usize::MAX));
            }
            PipelineKind::Beside { .. } => {}
        }
    }
}
