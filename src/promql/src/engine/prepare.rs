//! Makes a tree ready for evaluation: durations become milliseconds, `@ start()` a time, `step()` a number, and
//! subtrees whose value is the same at every step are marked.

use super::EngineError;
use crate::algebra::{AggregateOp, BinaryOp, scalar_op};
use crate::ast::{At, Duration, DurationExpr, DurationKind, Expr, ExprKind, VectorSelector};

/// Functions that look at the evaluation time whatever their arguments.
const TIME_DEPENDENT: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

struct Preparation {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

/// The prepared tree. Errors when a duration expression has no valid value.
pub(super) fn prepare(expr: &Expr, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Expr, EngineError> {
    let p = Preparation { start_ms, end_ms, step_ms };
    let mut out = expr.clone();
    mark_stats(&mut out, Some(false));
    mark_presence(&mut out);
    let invariant = p.expr(&mut out)?;
    if invariant {
        wrap(&mut out);
    }
    Ok(out)
}

/// Marks the selectors of which only counts and sums of histograms matter. `under`: whether a function that looks at
/// nothing else stands above; `None` when something above needs the buckets.
fn mark_stats(expr: &mut Expr, under: Option<bool>) {
    let inner = match &expr.kind {
        ExprKind::Subquery(_) => None,
        ExprKind::Binary(b) if matches!(b.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) => None,
        ExprKind::Call { function, .. } => match function.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => under.map(|_| true),
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => None,
            _ => under,
        },
        _ => under,
    };
    let stats_only = inner == Some(true);
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) => {}
        ExprKind::Paren(e) | ExprKind::StepInvariant(e) | ExprKind::Unary { expr: e, .. } => mark_stats(e, inner),
        ExprKind::Binary(b) => {
            mark_stats(&mut b.lhs, inner);
            mark_stats(&mut b.rhs, inner);
        }
        ExprKind::Aggregate(a) => {
            mark_stats(&mut a.expr, inner);
            if let Some(param) = &mut a.param {
                mark_stats(param, inner);
            }
        }
        ExprKind::Call { args, .. } => args.iter_mut().for_each(|a| mark_stats(a, inner)),
        ExprKind::Vector(v) => v.stats_only = stats_only,
        ExprKind::Matrix(m) => m.selector.stats_only = stats_only,
        ExprKind::Subquery(s) => mark_stats(&mut s.expr, inner),
    }
}

/// Marks the selectors of which only matters which samples there are.
fn mark_presence(expr: &mut Expr) {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => {}
        ExprKind::Paren(e) | ExprKind::StepInvariant(e) | ExprKind::Unary { expr: e, .. } => mark_presence(e),
        ExprKind::Binary(b) => {
            mark_presence(&mut b.lhs);
            mark_presence(&mut b.rhs);
        }
        ExprKind::Aggregate(a) => {
            if matches!(a.op, AggregateOp::Count | AggregateOp::Group) {
                mark_selector(&mut a.expr);
            }
            mark_presence(&mut a.expr);
            if let Some(param) = &mut a.param {
                mark_presence(param);
            }
        }
        ExprKind::Call { function, args } => {
            let counts =
                matches!(function.name, "absent" | "absent_over_time" | "count_over_time" | "present_over_time");
            for arg in args {
                if counts {
                    mark_selector(arg);
                }
                mark_presence(arg);
            }
        }
        ExprKind::Subquery(s) => mark_presence(&mut s.expr),
    }
}

fn mark_selector(expr: &mut Expr) {
    match &mut expr.kind {
        ExprKind::Paren(e) => mark_selector(e),
        ExprKind::Vector(v) => v.presence_only = true,
        ExprKind::Matrix(m) => m.selector.presence_only = true,
        _ => {}
    }
}

/// Marks a subtree, unless there is nothing to save or its parent has to see what it is.
fn wrap(expr: &mut Expr) {
    let plain = matches!(
        expr.unwrapped().kind,
        ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Matrix(_) | ExprKind::Subquery(_)
    );
    if plain {
        return;
    }
    let position = expr.position;
    let inner = std::mem::replace(expr, Expr::new(position, ExprKind::String(String::new())));
    *expr = Expr::new(position, ExprKind::StepInvariant(Box::new(inner)));
}

/// Wraps those that are invariant when not all are.
fn wrap_some(parts: &mut [(&mut Expr, bool)]) -> bool {
    let all = parts.iter().all(|(_, invariant)| *invariant);
    if !all {
        for (expr, invariant) in parts {
            if *invariant {
                wrap(expr);
            }
        }
    }
    all
}

impl Preparation {
    /// Prepares in place; true when the value is the same at every step.
    fn expr(&self, expr: &mut Expr) -> Result<bool, EngineError> {
        if let ExprKind::Call { function, .. } = &expr.kind {
            let seconds = |ms: i64| ms as f64 / 1000.0;
            let value = match function.name {
                "start" => Some(seconds(self.start_ms)),
                "end" => Some(seconds(self.end_ms)),
                "step" => Some(seconds(self.step_ms)),
                "range" => Some(seconds(self.end_ms - self.start_ms)),
                _ => None,
            };
            if let Some(value) = value {
                expr.kind = ExprKind::Number { value, duration: false };
            }
        }
        match &mut expr.kind {
            ExprKind::Number { .. } | ExprKind::String(_) => Ok(true),
            ExprKind::Paren(e) | ExprKind::StepInvariant(e) | ExprKind::Unary { expr: e, .. } => self.expr(e),
            ExprKind::Binary(b) => {
                let (l, r) = (self.expr(&mut b.lhs)?, self.expr(&mut b.rhs)?);
                Ok(wrap_some(&mut [(&mut b.lhs, l), (&mut b.rhs, r)]))
            }
            ExprKind::Aggregate(a) => {
                let e = self.expr(&mut a.expr)?;
                match &mut a.param {
                    None => Ok(e),
                    Some(param) => {
                        let p = self.expr(param)?;
                        Ok(wrap_some(&mut [(&mut a.expr, e), (param, p)]))
                    }
                }
            }
            ExprKind::Call { function, args } => {
                let dependent = TIME_DEPENDENT.contains(&function.name);
                let mut parts = Vec::with_capacity(args.len());
                for arg in args.iter_mut() {
                    let invariant = self.expr(arg)?;
                    parts.push((arg, invariant));
                }
                if dependent {
                    // `timestamp` sees the selector itself.
                    let sees = |arg: &Expr| matches!(arg.unwrapped().kind, ExprKind::Vector(_));
                    if function.name == "timestamp" && parts.iter().all(|(arg, _)| sees(arg)) {
                        return Ok(parts.iter().all(|(_, invariant)| *invariant));
                    }
                    for (arg, invariant) in &mut parts {
                        if *invariant {
                            wrap(arg);
                        }
                    }
                    return Ok(false);
                }
                if matches!(function.name, "info" | "start_timestamp") {
                    return Ok(parts.iter().all(|(_, invariant)| *invariant));
                }
                Ok(wrap_some(&mut parts))
            }
            ExprKind::Vector(v) => self.selector(v),
            ExprKind::Matrix(m) => {
                self.duration(&mut m.range, false)?;
                self.selector(&mut m.selector)
            }
            ExprKind::Subquery(s) => {
                self.duration(&mut s.range, false)?;
                if let Some(step) = &mut s.step {
                    self.duration(step, false)?;
                }
                self.duration(&mut s.offset, true)?;
                self.at(&mut s.at);
                if self.expr(&mut s.expr)? {
                    wrap(&mut s.expr);
                }
                Ok(s.at.is_some())
            }
        }
    }

    fn selector(&self, v: &mut VectorSelector) -> Result<bool, EngineError> {
        self.duration(&mut v.offset, true)?;
        self.at(&mut v.at);
        Ok(v.at.is_some())
    }

    fn at(&self, at: &mut Option<At>) {
        *at = at.map(|at| {
            At::Time(match at {
                At::Start => self.start_ms,
                At::End => self.end_ms,
                At::Time(t) => t.clamp(-super::TIME_MS_MAX, super::TIME_MS_MAX),
            })
        });
    }

    fn duration(&self, duration: &mut Duration, may_be_negative: bool) -> Result<(), EngineError> {
        let Duration::Expr(expr) = duration else { return Ok(()) };
        let fail = |what: &str| EngineError::Query(format!("{}:{}: {what}", expr.position.start, expr.position.end));
        let seconds = self.evaluate(expr)?;
        if !seconds.is_finite() {
            return Err(fail("duration is NaN or infinite"));
        }
        if seconds <= 0.0 && !may_be_negative {
            return Err(fail("duration must be greater than 0"));
        }
        if seconds.abs() > 9_223_372_036.854_775 {
            return Err(fail("duration is out of range"));
        }
        *duration = Duration::Fixed((seconds * 1000.0) as i64);
        Ok(())
    }

    fn evaluate(&self, expr: &DurationExpr) -> Result<f64, EngineError> {
        let fail = |what: &str| EngineError::Query(format!("{}:{}: {what}", expr.position.start, expr.position.end));
        Ok(match &expr.kind {
            DurationKind::Number(v, _) => *v,
            DurationKind::Step => self.step_ms as f64 / 1000.0,
            DurationKind::Range => (self.end_ms - self.start_ms) as f64 / 1000.0,
            DurationKind::MinOf(a, b) => self.evaluate(a)?.min(self.evaluate(b)?),
            DurationKind::MaxOf(a, b) => self.evaluate(a)?.max(self.evaluate(b)?),
            DurationKind::Unary(negative, e) => {
                let v = self.evaluate(e)?;
                if *negative { -v } else { v }
            }
            DurationKind::Paren(e) => self.evaluate(e)?,
            DurationKind::Binary(op, l, r) => {
                let (l, r) = (self.evaluate(l)?, self.evaluate(r)?);
                match op {
                    BinaryOp::Div if r == 0.0 => return Err(fail("division by zero")),
                    BinaryOp::Mod if r == 0.0 => return Err(fail("modulo by zero")),
                    op => scalar_op(*op, l, r),
                }
            }
        })
    }
}
