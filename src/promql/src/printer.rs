//! Expressions as text: on one line (`Display`) and laid out over lines ([`pretty`]).

use std::fmt;

use trefoil_model::labels::{METRIC_NAME, is_legacy_label_name};
use trefoil_model::{MatchOp, Matcher};

use crate::algebra::{Cardinality, Matching};
use crate::ast::{
    Aggregate, At, Binary, Duration, DurationExpr, DurationKind, Expr, ExprKind, MatrixSelector, RangeMode, Subquery,
    VectorSelector,
};
use crate::duration::format_duration;
use crate::format::{format_decimal, format_g, quote};

/// Lines longer than this are split.
const LINE_BYTES_MAX: usize = 100;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number { value, duration: false } => f.write_str(&format_decimal(*value)),
            ExprKind::Number { value, duration: true } => f.write_str(&seconds(*value)),
            ExprKind::String(s) => f.write_str(&quote(s)),
            ExprKind::Paren(e) => write!(f, "({e})"),
            ExprKind::Unary { negative, expr } => write!(f, "{}{expr}", if *negative { "-" } else { "+" }),
            ExprKind::Binary(b) => write!(f, "{} {} {}", b.lhs, operator(b), b.rhs),
            ExprKind::Aggregate(a) => {
                write!(f, "{}(", head(a))?;
                if let Some(param) = &a.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", a.expr)
            }
            ExprKind::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                for (i, arg) in args.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{arg}")?;
                }
                f.write_str(")")
            }
            ExprKind::Vector(v) => {
                f.write_str(&selector(v))?;
                f.write_str(&at(v.at))?;
                f.write_str(mode(v.mode))?;
                f.write_str(&offset(&v.offset))
            }
            ExprKind::Matrix(m) => f.write_str(&matrix(m)),
            ExprKind::Subquery(s) => write!(f, "{}{}", s.expr, subquery_suffix(s)),
            ExprKind::StepInvariant(e) => fmt::Display::fmt(e, f),
        }
    }
}

/// Lays an expression out: what does not fit 100 characters is split over lines, indented by two blanks a level.
pub fn pretty(expr: &Expr) -> String {
    layout(expr, 0)
}

fn layout(expr: &Expr, level: usize) -> String {
    let indent = "  ".repeat(level);
    let line = expr.to_string();
    let fits = line.len() <= LINE_BYTES_MAX;
    match &expr.kind {
        ExprKind::Subquery(_) if fits => line,
        ExprKind::Subquery(s) => format!("{}{}", layout(&s.expr, level), subquery_suffix(s)),
        ExprKind::Unary { negative, expr } => {
            let sign = if *negative { "-" } else { "+" };
            format!("{indent}{sign}{}", layout(expr, level).trim())
        }
        ExprKind::StepInvariant(e) => layout(e, level),
        _ if fits => format!("{indent}{line}"),
        ExprKind::Aggregate(a) => {
            let mut out = format!("{indent}{}(\n", head(a));
            if let Some(param) = &a.param {
                out.push_str(&layout(param, level + 1));
                out.push_str(",\n");
            }
            out.push_str(&layout(&a.expr, level + 1));
            out + "\n" + &indent + ")"
        }
        ExprKind::Binary(b) => {
            format!("{}\n{indent}{}\n{}", layout(&b.lhs, level + 1), operator(b), layout(&b.rhs, level + 1))
        }
        ExprKind::Call { function, args } => {
            let args: Vec<String> = args.iter().map(|a| layout(a, level + 1)).collect();
            format!("{indent}{}(\n{}\n{indent})", function.name, args.join(",\n"))
        }
        ExprKind::Paren(e) => format!("{indent}(\n{}\n{indent})", layout(e, level + 1)),
        _ => format!("{indent}{line}"),
    }
}

fn seconds(value: f64) -> String {
    if value < 0.0 {
        format!("-{}", format_duration((-value * 1000.0).round() as i64))
    } else {
        format_duration((value * 1000.0).round() as i64)
    }
}

fn label_list(labels: &[String]) -> String {
    let names: Vec<String> =
        labels.iter().map(|l| if is_legacy_label_name(l) { l.clone() } else { quote(l) }).collect();
    names.join(", ")
}

/// The aggregation before its parentheses.
fn head(a: &Aggregate) -> String {
    let op = a.op.as_str();
    if a.grouping.without {
        format!("{op} without ({}) ", label_list(&a.grouping.labels))
    } else if a.grouping.labels.is_empty() {
        op.to_owned()
    } else {
        format!("{op} by ({}) ", label_list(&a.grouping.labels))
    }
}

/// The operator with its modifiers.
fn operator(b: &Binary) -> String {
    let bool_modifier = if b.return_bool { " bool" } else { "" };
    format!("{}{bool_modifier}{}", b.op.as_str(), matching(&b.matching))
}

fn matching(m: &Matching) -> String {
    let mut out = String::new();
    let grouped = matches!(m.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
    if !m.labels.is_empty() || m.on || grouped {
        let word = if m.on { "on" } else { "ignoring" };
        out.push_str(&format!(" {word} ({})", label_list(&m.labels)));
    }
    if grouped {
        let side = if m.cardinality == Cardinality::ManyToOne { "left" } else { "right" };
        out.push_str(&format!(" group_{side} ({})", label_list(&m.include)));
    }
    match (m.fill_left, m.fill_right) {
        (Some(l), Some(r)) if l == r => out.push_str(&format!(" fill ({})", format_g(l))),
        (l, r) => {
            if let Some(l) = l {
                out.push_str(&format!(" fill_left ({})", format_g(l)));
            }
            if let Some(r) = r {
                out.push_str(&format!(" fill_right ({})", format_g(r)));
            }
        }
    }
    out
}

fn matcher(m: &Matcher) -> String {
    let name = if is_legacy_label_name(&m.name) { m.name.clone() } else { quote(&m.name) };
    format!("{name}{}{}", m.op.as_str(), quote(&m.value))
}

fn selector(v: &VectorSelector) -> String {
    let name = v.name.as_deref().unwrap_or("");
    let mut matchers: Vec<String> = v
        .matchers
        .iter()
        .filter(|m| !(m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == name && !m.value.is_empty()))
        .map(matcher)
        .collect();
    matchers.sort();
    if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", matchers.join(",")) }
}

fn at(at: Option<At>) -> String {
    match at {
        None => String::new(),
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
        Some(At::Time(ms)) => format!(" @ {:.3}", ms as f64 / 1000.0),
    }
}

fn mode(mode: RangeMode) -> &'static str {
    match mode {
        RangeMode::Plain => "",
        RangeMode::Anchored => " anchored",
        RangeMode::Smoothed => " smoothed",
    }
}

fn offset(offset: &Duration) -> String {
    match offset {
        Duration::Fixed(0) => String::new(),
        Duration::Fixed(ms) => format!(" offset {}", format_duration(*ms)),
        Duration::Expr(e) => format!(" offset {e}"),
    }
}

fn duration(d: &Duration) -> String {
    match d {
        Duration::Fixed(ms) => format_duration(*ms),
        Duration::Expr(e) => e.to_string(),
    }
}

fn matrix(m: &MatrixSelector) -> String {
    let s = &m.selector;
    format!("{}[{}]{}{}{}", selector(s), duration(&m.range), mode(s.mode), at(s.at), offset(&s.offset))
}

fn subquery_suffix(s: &Subquery) -> String {
    let step = s.step.as_ref().map(duration).unwrap_or_default();
    format!("[{}:{step}]{}{}", duration(&s.range), at(s.at), offset(&s.offset))
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Number(v, true) => f.write_str(&seconds(*v)),
            DurationKind::Number(v, false) => f.write_str(&format_decimal(*v)),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            DurationKind::Unary(negative, e) => write!(f, "{}{e}", if *negative { "-" } else { "" }),
            DurationKind::Binary(op, l, r) => write!(f, "{l} {} {r}", op.as_str()),
            DurationKind::Paren(e) => write!(f, "({e})"),
        }
    }
}
