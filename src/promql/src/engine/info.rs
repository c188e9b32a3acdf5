//! `info()`: adds the labels of info series to the series that they identify.

use rustc_hash::FxHashMap;
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{Labels, LabelsBuilder, MatchOp, Matcher};

use super::EngineError;
use super::eval::Evaluator;
use crate::algebra::{Points, Room, Series};
use crate::ast::{At, Duration, Expr, ExprKind, RangeMode, VectorSelector};

/// The labels by which an info series belongs to others.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// When the info series are looked at: the innermost `@` over the first selector, and the offsets below it.
struct Reference {
    at: Option<At>,
    offset_ms: i64,
}

/// The reference time of the first selector in `expr`; `outer` are the subqueries around, the innermost last.
fn reference(expr: &Expr, outer: &mut Vec<(Option<At>, i64)>) -> Option<Reference> {
    let selector = match &expr.kind {
        ExprKind::Vector(v) => v,
        ExprKind::Matrix(m) => &m.selector,
        ExprKind::Subquery(s) => {
            outer.push((s.at, s.offset.ms()));
            let found = reference(&s.expr, outer);
            outer.pop();
            return found;
        }
        _ => return expr.children().into_iter().find_map(|e| reference(e, outer)),
    };
    let mut out = Reference { at: selector.at, offset_ms: selector.offset.ms() };
    for (at, offset) in outer.iter().rev() {
        if out.at.is_some() {
            break;
        }
        out.offset_ms += offset;
        out.at = *at;
    }
    Some(out)
}

/// The matchers of the info metric's name: `target_info` by default; `.+_info` beside nothing but exclusions.
fn name_matchers(given: &[&Matcher]) -> Result<Vec<Matcher>, EngineError> {
    if given.iter().any(|m| !m.op.is_negative()) {
        return Ok(given.iter().map(|m| (*m).clone()).collect());
    }
    if given.is_empty() {
        return Ok(vec![Matcher::equal(METRIC_NAME, "target_info")]);
    }
    let any =
        Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info").map_err(|e| EngineError::Execution(e.to_string()))?;
    Ok(std::iter::once(any).chain(given.iter().map(|m| (*m).clone())).collect())
}

/// The info series of one metric for one value of the identifying labels.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    name: String,
    identity: [String; 2],
}

fn identity(labels: &Labels) -> [String; 2] {
    IDENTIFYING.map(|n| labels.get(n).unwrap_or("").to_owned())
}

impl Evaluator<'_> {
    pub(super) fn info(&self, args: &[Expr]) -> Result<Vec<Series>, EngineError> {
        let when = reference(&args[0], &mut Vec::new()).unwrap_or(Reference { at: None, offset_ms: 0 });
        let base = self.series(&args[0])?;
        let given: &[Matcher] = match args.get(1).map(|a| &a.unwrapped().kind) {
            Some(ExprKind::Vector(v)) => &v.matchers,
            _ => &[],
        };
        let (names, data): (Vec<&Matcher>, Vec<&Matcher>) = given.iter().partition(|m| m.name == METRIC_NAME);
        let names = name_matchers(&names)?;
        let is_info = |s: &Series| names.iter().all(|m| m.matches(s.labels.metric_name()));
        let infos = self.info_series(base.iter().filter(|s| !is_info(s)), &names, &data, &when)?;

        let mut by_key: FxHashMap<Key, Vec<usize>> = FxHashMap::default();
        let mut info_names: Vec<&str> = Vec::new();
        for (i, s) in infos.iter().enumerate() {
            let name = s.labels.metric_name();
            if !info_names.contains(&name) {
                info_names.push(name);
            }
            by_key.entry(Key { name: name.to_owned(), identity: identity(&s.labels) }).or_default().push(i);
        }
        let needs_info = !data.iter().all(|m| m.matches_empty());
        let room = self.context.room();
        room.take((base.len() + infos.len()) * INFO_BYTES)?;
        let mut out = Output { series: Vec::new(), index: FxHashMap::default(), steps: self.grid.count, room };
        for s in &base {
            if is_info(s) {
                for (step, point) in s.points.iter() {
                    out.set(s, s.labels.clone(), step, point)?;
                }
                continue;
            }
            let candidates: Vec<&[usize]> = info_names
                .iter()
                .filter_map(|name| by_key.get(&Key { name: (*name).to_owned(), identity: identity(&s.labels) }))
                .map(Vec::as_slice)
                .collect();
            // The info series seldom change: keep the labels made of them.
            let mut last: Option<(Vec<usize>, Labels)> = None;
            for (step, point) in s.points.iter() {
                let chosen = choose(&candidates, &infos, step)?;
                if chosen.is_empty() && needs_info {
                    continue;
                }
                if last.as_ref().is_none_or(|(known, _)| *known != chosen) {
                    let labels = enriched(&s.labels, &chosen, &infos, &data)?;
                    last = Some((chosen, labels));
                }
                if let Some((_, labels)) = &last {
                    out.set(s, labels.clone(), step, point)?;
                }
            }
        }
        Ok(out.series)
    }

    /// The info series that may belong to `base`; their values are the times of their samples.
    fn info_series<'s>(
        &self,
        base: impl Iterator<Item = &'s Series>,
        names: &[Matcher],
        data: &[&Matcher],
        when: &Reference,
    ) -> Result<Vec<Series>, EngineError> {
        let mut values: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        for s in base {
            for (name, values) in IDENTIFYING.iter().zip(&mut values) {
                values.extend(s.labels.get(name).map(str::to_owned));
            }
        }
        if values.iter().all(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let mut matchers: Vec<Matcher> = names.to_vec();
        matchers.extend(data.iter().map(|m| (*m).clone()));
        for (name, values) in IDENTIFYING.iter().zip(&mut values) {
            values.sort_unstable();
            values.dedup();
            if values.is_empty() {
                continue;
            }
            let pattern: Vec<String> = values.iter().map(|v| trefoil_model::re2::escape(v)).collect();
            // Too many values for a pattern: then all are read, and those that do not belong are left out later.
            matchers.extend(Matcher::new(MatchOp::Regex, *name, pattern.join("|")));
        }
        let selector = VectorSelector {
            name: None,
            matchers,
            offset: Duration::Fixed(when.offset_ms),
            at: when.at,
            mode: RangeMode::Plain,
            may_be_empty: true,
            stats_only: false,
            presence_only: false,
        };
        self.sample_times(&selector, false)
    }
}

/// Of each info metric the series with the newest sample.
fn choose(candidates: &[&[usize]], infos: &[Series], step: usize) -> Result<Vec<usize>, EngineError> {
    let mut out = Vec::with_capacity(candidates.len());
    for group in candidates {
        let mut best: Option<(usize, f64)> = None;
        for &i in *group {
            let Some(t) = infos[i].points.float(step) else { continue };
            match best {
                Some((other, known)) if known == t => {
                    let ms = (t * 1000.0) as i64;
                    return Err(EngineError::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {ms}, new {} @ {ms}",
                        infos[other].labels, infos[i].labels
                    )));
                }
                Some((_, known)) if known > t => {}
                _ => best = Some((i, t)),
            }
        }
        out.extend(best.map(|(i, _)| i));
    }
    Ok(out)
}

fn enriched(base: &Labels, chosen: &[usize], infos: &[Series], data: &[&Matcher]) -> Result<Labels, EngineError> {
    let mut added = LabelsBuilder::new();
    for &i in chosen {
        for (name, value) in &infos[i].labels {
            if name == METRIC_NAME || (!data.is_empty() && !data.iter().any(|m| m.name == name)) {
                continue;
            }
            if added.get(name).is_some_and(|known| known != value) {
                return Err(EngineError::Execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    let mut out = base.to_builder();
    for (name, value) in added.pairs() {
        out.set(name.as_str(), value.as_str());
    }
    Ok(out.build())
}

/// What a series takes in the tables.
const INFO_BYTES: usize = 320;

struct Output<'a> {
    series: Vec<Series>,
    index: FxHashMap<Labels, usize>,
    steps: usize,
    room: Room<'a>,
}

impl Output<'_> {
    fn set(
        &mut self,
        from: &Series,
        labels: Labels,
        step: usize,
        point: crate::algebra::Point,
    ) -> Result<(), EngineError> {
        let (series, steps) = (&mut self.series, self.steps);
        if !self.index.contains_key(&labels) {
            self.room.take(Series::bytes_of(&labels, steps))?;
        }
        let i = *self.index.entry(labels).or_insert_with_key(|labels| {
            series.push(Series { labels: labels.clone(), points: Points::absent(steps), drop_name: from.drop_name });
            series.len() - 1
        });
        let points = &mut self.series[i].points;
        if points.is_present(step) {
            let text = "vector cannot contain metrics with the same labelset";
            return Err(EngineError::Execution(text.to_owned()));
        }
        points.set(step, Some(point));
        Ok(())
    }
}
