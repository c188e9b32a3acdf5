//! Runs the commands of a script and reports what did not come as expected.

use regex::Regex;
use trefoil_model::{Labels, TenantId, Unlimited};

use super::compare::{floats_equal, series_equal, show};
use super::script::{Command, Eval, ScriptError, Text, When, parse_script};
use super::store::MemoryReader;
use crate::ast::{At, Expr, ExprKind};
use crate::engine::{Engine, EngineError, EngineOptions, QueryOptions};
use crate::parser::ParserOptions;
use crate::value::{QueryResult, SampleValue, Value};

/// An `eval` that did not go as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line of the command, from 1.
    pub line: usize,
    /// What went wrong first.
    pub message: String,
}

/// The outcome of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// `eval` commands run.
    pub evals: usize,
    /// At most one a command.
    pub failures: Vec<Failure>,
}

/// Functions that read the evaluation time whatever their arguments: queries with them are not tried at other times.
const TIME_FUNCTIONS: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
    "start",
    "end",
    "range",
    "step",
];

/// Runs a script with the engine's settings that such scripts assume. Errors when the script cannot be read.
pub fn run(text: &str) -> Result<Report, ScriptError> {
    let commands = parse_script(text)?;
    let options = EngineOptions { delayed_name_removal: true, start_timestamps: true, ..EngineOptions::default() };
    let mut runner = Runner {
        engine: Engine::new(options, ParserOptions::ALL),
        store: MemoryReader::new(),
        report: Report::default(),
    };
    for command in &commands {
        match command {
            Command::Clear => runner.store = MemoryReader::new(),
            Command::Load(load) => runner.store.load(load),
            Command::Eval(eval) => {
                runner.report.evals += 1;
                if let Err(message) = runner.eval(eval) {
                    runner.report.failures.push(Failure { line: eval.line, message });
                }
            }
        }
    }
    Ok(runner.report)
}

struct Runner {
    engine: Engine,
    store: MemoryReader,
    report: Report,
}

impl Runner {
    fn execute(&self, expr: &Expr, when: When) -> Result<QueryResult, EngineError> {
        let options = QueryOptions::default();
        match when {
            When::Instant(t) => self.engine.instant(expr, t, &options, &self.store, TenantId::default(), &Unlimited),
            When::Range(start, end, step) => {
                self.engine.range(expr, start, end, step, &options, &self.store, TenantId::default(), &Unlimited)
            }
        }
    }

    fn eval(&self, eval: &Eval) -> Result<(), String> {
        let parsed = self.engine.parse(&eval.query).map_err(EngineError::from);
        let result = parsed.and_then(|expr| self.execute(&expr, eval.when).map(|r| (expr, r)));
        let (expr, result) = match (result, &eval.fail) {
            (Err(e), Some(want)) => {
                return if matches(want, &e.to_string())? { Ok(()) } else { Err(format!("fails with: {e}")) };
            }
            (Err(e), None) => return Err(format!("fails: {e}")),
            (Ok(_), Some(_)) => return Err("should fail".to_owned()),
            (Ok(pair), None) => pair,
        };
        check_annotations(eval, &result)?;
        check_value(eval, &result.value)?;
        if let When::Instant(t) = eval.when {
            self.check_pinned(eval, &expr, t).map_err(|m| format!("with @: {m}"))?;
            self.check_as_range(eval, &expr, t).map_err(|m| format!("as a range query: {m}"))?;
        }
        Ok(())
    }

    /// The same result at other times when every selector is pinned to this one.
    fn check_pinned(&self, eval: &Eval, expr: &Expr, t: i64) -> Result<(), String> {
        if calls(expr, TIME_FUNCTIONS) {
            return Ok(());
        }
        let mut pinned = expr.clone();
        pin(&mut pinned, t);
        let times = if t == 0 { vec![-1000, 0, 1000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] };
        for at in times {
            let result = self.execute(&pinned, When::Instant(at)).map_err(|e| format!("at {at} ms fails: {e}"))?;
            check_value(eval, &result.value).map_err(|m| format!("at {at} ms: {m}"))?;
        }
        Ok(())
    }

    /// The same result as the middle step of a range query.
    fn check_as_range(&self, eval: &Eval, expr: &Expr, t: i64) -> Result<(), String> {
        let special = ["start()", "end()", "range()", "step()"];
        if eval.string.is_some()
            || eval.range_vector.is_some()
            || !matches!(expr.value_type(), crate::ast::ValueType::Scalar | crate::ast::ValueType::Vector)
            || special.iter().any(|s| eval.query.contains(s))
            || calls(expr, &["start", "end", "range", "step"])
        {
            return Ok(());
        }
        let result =
            self.execute(expr, When::Range(t - 60_000, t + 60_000, 60_000)).map_err(|e| format!("fails: {e}"))?;
        let Value::Matrix(matrix) = result.value else { return Err("result is no matrix".to_owned()) };
        let middle: Vec<(Labels, Vec<(i64, SampleValue)>)> = matrix
            .into_iter()
            .filter_map(|s| {
                let samples: Vec<_> = s.samples.into_iter().filter(|(at, _)| *at == t).collect();
                (!samples.is_empty()).then_some((s.labels, samples))
            })
            .collect();
        match eval.scalar {
            Some(want) => match middle.first().and_then(|(_, s)| s.first()) {
                Some((_, SampleValue::Float(got))) if floats_equal(want, *got) => Ok(()),
                other => Err(format!("expected {want}, got {}", show(other.map(|(_, v)| v)))),
            },
            None => series_equal(&eval.series, &middle, &[t]),
        }
    }
}

fn calls(expr: &Expr, names: &[&str]) -> bool {
    let mut found = false;
    expr.walk(&mut |e| {
        if let ExprKind::Call { function, .. } = &e.kind {
            found |= names.contains(&function.name);
        }
    });
    found
}

/// Puts `@ t` on every selector and outermost subquery that has none.
fn pin(expr: &mut Expr, t: i64) {
    let set = |at: &mut Option<At>| {
        if at.is_none() {
            *at = Some(At::Time(t));
        }
    };
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) => {}
        ExprKind::Paren(e) | ExprKind::StepInvariant(e) | ExprKind::Unary { expr: e, .. } => pin(e, t),
        ExprKind::Binary(b) => {
            pin(&mut b.lhs, t);
            pin(&mut b.rhs, t);
        }
        ExprKind::Aggregate(a) => {
            pin(&mut a.expr, t);
            if let Some(param) = &mut a.param {
                pin(param, t);
            }
        }
        ExprKind::Call { args, .. } => args.iter_mut().for_each(|a| pin(a, t)),
        ExprKind::Vector(v) => set(&mut v.at),
        ExprKind::Matrix(m) => set(&mut m.selector.at),
        ExprKind::Subquery(s) => set(&mut s.at),
    }
}

fn matches(want: &Text, text: &str) -> Result<bool, String> {
    match want {
        Text::Any => Ok(true),
        Text::Exact(t) => Ok(t == text),
        Text::Pattern(p) => Regex::new(p).map(|r| r.is_match(text)).map_err(|e| format!("bad pattern {p:?}: {e}")),
    }
}

fn check_annotations(eval: &Eval, result: &QueryResult) -> Result<(), String> {
    let (warnings, infos) = result.annotations.texts(&eval.query, 0);
    for (wanted, none, texts, word) in
        [(&eval.warn, eval.no_warn, &warnings, "warning"), (&eval.info, eval.no_info, &infos, "info")]
    {
        if none && !texts.is_empty() {
            return Err(format!("unexpected {word}: {}", texts[0]));
        }
        if wanted.is_empty() {
            continue;
        }
        for want in wanted {
            let mut found = false;
            for text in texts {
                found |= matches(want, text)?;
            }
            if !found {
                let got = if texts.is_empty() { "none".to_owned() } else { texts.join("; ") };
                return Err(format!("missing {word} {want}, got {got}"));
            }
        }
        for text in texts {
            let mut found = false;
            for want in wanted {
                found |= matches(want, text)?;
            }
            if !found {
                return Err(format!("unexpected {word}: {text}"));
            }
        }
    }
    Ok(())
}

fn check_value(eval: &Eval, value: &Value) -> Result<(), String> {
    match (value, eval.when) {
        (Value::Scalar(_, got), _) => match eval.scalar {
            Some(want) if floats_equal(want, *got) => Ok(()),
            Some(want) => Err(format!("expected scalar {want}, got scalar {got}")),
            None => Err(format!("expected no scalar, got {got}")),
        },
        (Value::String(_, got), _) => match &eval.string {
            Some(want) if want == got => Ok(()),
            Some(want) => Err(format!("expected string {want:?}, got {got:?}")),
            None => Err(format!("expected no string, got {got:?}")),
        },
        (Value::Vector(samples), _) => {
            if let Some(want) = eval.scalar {
                return Err(format!("expected scalar {want}, got a vector"));
            }
            if let (Some(want), None) = (&eval.string, eval.series.first()) {
                return Err(format!("expected string {want:?}, got a vector"));
            }
            let got: Vec<_> = samples.iter().map(|s| (s.labels.clone(), vec![(s.t_ms, s.value.clone())])).collect();
            let t = samples.first().map_or(0, |s| s.t_ms);
            if eval.ordered {
                let wanted: Vec<&Labels> = eval.series.iter().map(|(l, _)| l).collect();
                let order: Vec<&Labels> = got.iter().map(|(l, _)| l).collect();
                if wanted != order {
                    let listed =
                        |labels: &[&Labels]| labels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    return Err(format!("expected order {}, got {}", listed(&wanted), listed(&order)));
                }
            }
            series_equal(&eval.series, &got, &[t])
        }
        (Value::Matrix(matrix), when) => {
            let (start, end, step) = match (when, eval.range_vector) {
                (When::Range(start, end, step), _) | (_, Some((start, end, step))) => (start, end, step),
                (When::Instant(_), None) => return Err("unexpected range vector".to_owned()),
            };
            let times: Vec<i64> = if step <= 0 {
                vec![start]
            } else {
                (0..).map(|i| start + i * step).take_while(|t| *t <= end).collect()
            };
            if !matrix.windows(2).all(|w| w[0].labels < w[1].labels) {
                return Err("series are not sorted".to_owned());
            }
            let got: Vec<_> = matrix.iter().map(|s| (s.labels.clone(), s.samples.clone())).collect();
            match eval.scalar {
                Some(_) => Err("expected a scalar, got a matrix".to_owned()),
                None => series_equal(&eval.series, &got, &times),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::run;

    fn failures(script: &str) -> usize {
        run(script).unwrap().failures.len()
    }

    #[test]
    fn wrong_expectations_are_found() {
        let load = "load 1m\n  a{x=\"1\"} 1+1x5\n  b {{count:2 buckets:[2]}}x5\n\n";
        for (expectation, wrong) in [
            ("eval instant at 1m a\n  a{x=\"1\"} 2", 0),
            ("eval instant at 1m a\n  a{x=\"1\"} 3", 1),
            ("eval instant at 1m a\n  a{x=\"2\"} 2", 1),
            ("eval instant at 1m a", 1),
            ("eval instant at 1m b\n  b {{count:2 buckets:[2]}}", 0),
            ("eval instant at 1m b\n  b {{count:2 buckets:[1]}}", 1),
            ("eval instant at 1m b\n  b 2", 1),
            ("eval range from 0 to 2m step 1m a\n  a{x=\"1\"} 1 2 3", 0),
            ("eval range from 0 to 2m step 1m a\n  a{x=\"1\"} 1 2", 1),
            ("eval instant at 1m rate(a[5m])\n  expect no_info\n  {x=\"1\"} 0.00555555", 1),
            ("eval instant at 1m a +\n  expect fail", 0),
            ("eval instant at 1m a\n  expect fail", 1),
            ("eval instant at 1m 1 + 1\n  2", 0),
            ("eval instant at 1m 1 + 1\n  3", 1),
            ("eval instant at 1m \"x\"\n  expect string \"y\"", 1),
        ] {
            assert_eq!(failures(&format!("{load}{expectation}\n")), wrong, "{expectation}");
        }
    }

    /// The reference (3.14, `VectorBinop`) exchanges the sides of `group_right`, but not their fills.
    #[test]
    fn fills_of_group_right_are_the_references() {
        let script = "load 1m\n  m{i=\"0\"} 1\n  m{i=\"1\"} 2\n\n\
            eval instant at 0m nope + on(i) group_right fill_left(1) m\n  expect no_warn\n\n\
            eval instant at 0m nope + on(i) group_right fill_right(10) m\n  {i=\"0\"} 11\n  {i=\"1\"} 12\n\n\
            eval instant at 0m vector(1) + on(i) group_right fill_left(5) m\n  {} 6\n";
        assert_eq!(run(script).unwrap().failures, []);
    }
}
