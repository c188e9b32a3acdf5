//! Pipelines over one trace: span sets, structure, aggregates, groups.

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::QueryBudget;

use crate::Error;
use crate::ast::{Aggregate, AggregateFilter, FieldExpr, Keep, Pipeline, Relation, SetExpr, SetOp, Stage, Value};
use crate::field::{compare_values, evaluate};
use crate::trace_view::{Family, TraceView};

/// Spans of a trace, with what the pipeline found out about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SpanSet {
    /// Numbers within the trace, ascending. Never empty in a result.
    pub(crate) spans: Vec<u32>,
    pub(crate) attributes: Vec<(String, Value)>,
}

/// Spans between two looks at the budget.
const CHECK_EVERY: usize = 4096;

pub(crate) struct Sets<'q, 't> {
    pub(crate) trace: &'q TraceView<'t>,
    pub(crate) budget: &'q dyn QueryBudget,
}

impl<'t> Sets<'_, 't> {
    /// All span sets that a pipeline gives for the trace.
    pub(crate) fn run(&self, pipeline: &'t Pipeline) -> Result<Vec<SpanSet>, Error> {
        let all = SpanSet { spans: (0..self.trace.spans.len() as u32).collect(), attributes: Vec::new() };
        self.pipeline(pipeline, vec![all])
    }

    fn pipeline(&self, pipeline: &'t Pipeline, mut sets: Vec<SpanSet>) -> Result<Vec<SpanSet>, Error> {
        for stage in &pipeline.stages {
            if sets.is_empty() {
                break;
            }
            sets = match stage {
                Stage::Spans(expr) => self.set_expr(expr, sets)?,
                Stage::Aggregate(a) => self.aggregate(a, sets)?,
                Stage::By(expr) => self.by(expr, sets)?,
                Stage::Coalesce => vec![SpanSet { spans: union(sets), attributes: Vec::new() }],
                Stage::Select(_) => sets,
            };
        }
        Ok(sets)
    }

    fn set_expr(&self, expr: &'t SetExpr, input: Vec<SpanSet>) -> Result<Vec<SpanSet>, Error> {
        match expr {
            SetExpr::Filter(None) => Ok(input),
            SetExpr::Filter(Some(filter)) => self.filter(filter, input),
            SetExpr::Pipeline(pipeline) => self.pipeline(pipeline, input),
            SetExpr::Op { op, lhs, rhs } => {
                let mut out = Vec::new();
                for set in input {
                    let left = self.set_expr(lhs, vec![set.clone()])?;
                    let right = self.set_expr(rhs, vec![set])?;
                    let spans = match op {
                        SetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                        SetOp::And | SetOp::Or => union(left.into_iter().chain(right).collect()),
                        SetOp::Structural(relation, keep) => {
                            self.structural(*relation, *keep, &one(left)?, &one(right)?)
                        }
                    };
                    if !spans.is_empty() {
                        out.push(SpanSet { spans, attributes: Vec::new() });
                    }
                }
                Ok(out)
            }
        }
    }

    fn filter(&self, filter: &'t FieldExpr, mut sets: Vec<SpanSet>) -> Result<Vec<SpanSet>, Error> {
        for set in &mut sets {
            let mut kept = Vec::new();
            for chunk in set.spans.chunks(CHECK_EVERY) {
                self.budget.check()?;
                kept.extend(chunk.iter().filter(|s| evaluate(self.trace, **s as usize, filter).is_true()));
            }
            set.spans = kept;
        }
        sets.retain(|set| !set.spans.is_empty());
        Ok(sets)
    }

    fn by(&self, expr: &'t FieldExpr, sets: Vec<SpanSet>) -> Result<Vec<SpanSet>, Error> {
        let name = format!("by({expr})");
        let mut out: Vec<SpanSet> = Vec::new();
        for set in sets {
            let mut groups: FxHashMap<String, usize> = FxHashMap::default();
            for (i, span) in set.spans.iter().enumerate() {
                if i % CHECK_EVERY == 0 {
                    self.budget.check()?;
                }
                let value = evaluate(self.trace, *span as usize, expr).to_value();
                let group = *groups.entry(value.encode()).or_insert_with(|| {
                    let mut attributes = set.attributes.clone();
                    attributes.push((name.clone(), value));
                    out.push(SpanSet { spans: Vec::new(), attributes });
                    out.len() - 1
                });
                out[group].spans.push(*span);
            }
        }
        Ok(out)
    }

    fn aggregate(&self, filter: &'t AggregateFilter, sets: Vec<SpanSet>) -> Result<Vec<SpanSet>, Error> {
        let name = filter.name();
        let mut out = Vec::new();
        for mut set in sets {
            let value = match &filter.argument {
                None => Some(Value::Int(set.spans.len() as i64)),
                Some(argument) => {
                    let mut fold = Fold::default();
                    for (i, span) in set.spans.iter().enumerate() {
                        if i % CHECK_EVERY == 0 {
                            self.budget.check()?;
                        }
                        fold.push(filter.aggregate, &evaluate(self.trace, *span as usize, argument).to_value());
                    }
                    fold.finish(filter.aggregate)
                }
            };
            if let Some(value) = value
                && compare_values(filter.op, &value, &filter.value)
            {
                set.attributes.push((name.clone(), value));
                out.push(set);
            }
        }
        Ok(out)
    }

    /// The spans that a structural operator gives.
    fn structural(&self, relation: Relation, keep: Keep, lhs: &[u32], rhs: &[u32]) -> Vec<u32> {
        let related = self.related(relation, lhs, rhs);
        match keep {
            Keep::Right => pick(rhs, |i| related[i]),
            Keep::Unrelated => pick(rhs, |i| !related[i]),
            Keep::Both => {
                let inverse = match relation {
                    Relation::Child => Relation::Parent,
                    Relation::Parent => Relation::Child,
                    Relation::Descendant => Relation::Ancestor,
                    Relation::Ancestor => Relation::Descendant,
                    Relation::Sibling => Relation::Sibling,
                };
                let back = self.related(inverse, rhs, lhs);
                let mut both = pick(rhs, |i| related[i]);
                both.extend(pick(lhs, |i| back[i]));
                both.sort_unstable();
                both.dedup();
                both
            }
        }
    }

    /// For each span of the trace whether it has the relation to a span of `lhs`; right for those of `rhs` only.
    fn related(&self, relation: Relation, lhs: &[u32], rhs: &[u32]) -> Vec<bool> {
        let parents = self.trace.parents();
        let mut out = vec![false; parents.len()];
        let mut left = vec![false; parents.len()];
        for l in lhs {
            left[*l as usize] = true;
        }
        match relation {
            Relation::Child => {
                for r in rhs {
                    out[*r as usize] = parents[*r as usize].is_some_and(|p| left[p as usize]);
                }
            }
            Relation::Parent => {
                for parent in lhs.iter().filter_map(|l| parents[*l as usize]) {
                    out[parent as usize] = true;
                }
            }
            Relation::Ancestor => {
                for l in lhs {
                    let mut at = parents[*l as usize];
                    while let Some(up) = at.filter(|up| !out[*up as usize]) {
                        out[up as usize] = true;
                        at = parents[up as usize];
                    }
                }
            }
            Relation::Descendant => below(parents, &left, rhs, &mut out),
            Relation::Sibling => {
                let mut families: FxHashMap<Family, usize> = FxHashMap::default();
                for family in lhs.iter().filter_map(|l| self.trace.family(*l as usize)) {
                    *families.entry(family).or_default() += 1;
                }
                for r in rhs {
                    let own = usize::from(left[*r as usize]);
                    let family = self.trace.family(*r as usize);
                    out[*r as usize] = family.and_then(|f| families.get(&f)).is_some_and(|n| *n > own);
                }
            }
        }
        out
    }
}

/// Marks those of `rhs` that are below a span of `left`. Every pointer is followed once.
fn below(parents: &[Option<u32>], left: &[bool], rhs: &[u32], out: &mut [bool]) {
    let mut known = vec![false; parents.len()];
    let mut path = Vec::new();
    for r in rhs {
        let mut at = *r as usize;
        let mut found = loop {
            if known[at] {
                break out[at];
            }
            path.push(at);
            match parents[at] {
                None => break false,
                Some(parent) if left[parent as usize] => break true,
                Some(parent) => at = parent as usize,
            }
        };
        for span in path.drain(..).rev() {
            // A span below one that is below: nothing changes upwards of the first.
            found = found || parents[span].is_some_and(|p| left[p as usize]);
            known[span] = true;
            out[span] = found;
        }
    }
}

fn pick(spans: &[u32], keep: impl Fn(usize) -> bool) -> Vec<u32> {
    spans.iter().copied().filter(|s| keep(*s as usize)).collect()
}

fn union(sets: Vec<SpanSet>) -> Vec<u32> {
    let mut all: Vec<u32> = sets.into_iter().flat_map(|s| s.spans).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The spans of the only set.
fn one(mut sets: Vec<SpanSet>) -> Result<Vec<u32>, Error> {
    match sets.len() {
        0 => Ok(Vec::new()),
        1 => Ok(sets.remove(0).spans),
        _ => Err(Error::Query("a structural operator takes one span set a trace, not the groups of by()".to_owned())),
    }
}

/// Folds the values of a set. Spans without a number are skipped.
#[derive(Debug, Default)]
struct Fold {
    count: i64,
    /// Sum, or the extreme so far.
    whole: i64,
    float: f64,
    is_float: bool,
    is_duration: bool,
    extreme: Option<Value>,
}

impl Fold {
    fn push(&mut self, aggregate: Aggregate, value: &Value) {
        let (whole, float) = match value {
            Value::Int(i) => (*i, *i as f64),
            Value::Duration(d) => {
                self.is_duration = true;
                (*d, *d as f64)
            }
            Value::Float(x) => {
                self.is_float = true;
                (0, *x)
            }
            _ => return,
        };
        self.count += 1;
        self.whole = self.whole.wrapping_add(whole);
        self.float += float;
        let better = match aggregate {
            Aggregate::Min => crate::ast::FieldOp::Less,
            _ => crate::ast::FieldOp::Greater,
        };
        if self.extreme.as_ref().is_none_or(|e| compare_values(better, value, e)) {
            self.extreme = Some(value.clone());
        }
    }

    fn finish(self, aggregate: Aggregate) -> Option<Value> {
        if self.count == 0 {
            return None;
        }
        Some(match aggregate {
            Aggregate::Count => Value::Int(self.count),
            Aggregate::Min | Aggregate::Max => return self.extreme,
            Aggregate::Sum if self.is_float => Value::Float(self.float),
            Aggregate::Sum if self.is_duration => Value::Duration(self.whole),
            Aggregate::Sum => Value::Int(self.whole),
            Aggregate::Avg if self.is_duration && !self.is_float => {
                Value::Duration((self.float / self.count as f64) as i64)
            }
            Aggregate::Avg => Value::Float(self.float / self.count as f64),
        })
    }
}

/// The spans of all sets, once each.
pub(crate) fn distinct_spans(sets: &[SpanSet]) -> Vec<u32> {
    if let [only] = sets {
        return only.spans.clone();
    }
    let mut seen = FxHashSet::default();
    sets.iter().flat_map(|s| s.spans.iter().copied()).filter(|s| seen.insert(*s)).collect()
}
