//! Expressions as text: on one line (`Display`) and laid out over lines ([`pretty`]).

use std::fmt::{self, Write as _};

use trefoil_model::labels::{METRIC_NAME, is_legacy_label_name};
use trefoil_model::{MatchOp, Matcher};

use crate::algebra::{Cardinality, Matching};
use crate::ast::{
    Aggregate, At, Binary, Duration, DurationExpr, DurationKind, Expr, ExprKind, MatrixSelector, RangeMode, Subquery,
    VectorSelector,
};
use crate::deep::with_room_for;
use crate::duration::format_duration;
use crate::format::{format_decimal, format_g, quote};

/// Lines longer than this are split.
const LINE_BYTES_MAX: usize = 100;
/// Deeper levels are indented no further.
const INDENT_MAX: usize = 200;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_room_for(self, || line_within(self, usize::MAX)).ok_or(fmt::Error)?)
    }
}

/// A text that may become so long.
struct Line {
    text: String,
    bytes_max: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.text.len() + s.len() > self.bytes_max {
            return Err(fmt::Error);
        }
        self.text.push_str(s);
        Ok(())
    }
}

/// The expression on one line, if that is no longer.
fn line_within(expr: &Expr, bytes_max: usize) -> Option<String> {
    let mut f = Line { text: String::new(), bytes_max };
    line(expr, &mut f).is_ok().then_some(f.text)
}

/// Writes an expression on one line.
fn line(expr: &Expr, f: &mut Line) -> fmt::Result {
    match &expr.kind {
        ExprKind::Number { value, duration: false } => f.write_str(&format_decimal(*value)),
        ExprKind::Number { value, duration: true } => f.write_str(&seconds(*value)),
        ExprKind::String(s) => f.write_str(&quote(s)),
        ExprKind::Paren(e) => {
            f.write_char('(')?;
            line(e, f)?;
            f.write_str(")")
        }
        ExprKind::Unary { negative, expr } => {
            f.write_char(if *negative { '-' } else { '+' })?;
            line(expr, f)
        }
        ExprKind::Binary(b) => {
            line(&b.lhs, f)?;
            write!(f, " {} ", operator(b))?;
            line(&b.rhs, f)
        }
        ExprKind::Aggregate(a) => {
            write!(f, "{}(", head(a))?;
            if let Some(param) = &a.param {
                line(param, f)?;
                f.write_str(", ")?;
            }
            line(&a.expr, f)?;
            f.write_str(")")
        }
        ExprKind::Call { function, args } => {
            write!(f, "{}(", function.name)?;
            for (i, arg) in args.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                line(arg, f)?;
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
        ExprKind::Subquery(s) => {
            line(&s.expr, f)?;
            f.write_str(&subquery_suffix(s))
        }
        ExprKind::StepInvariant(e) => line(e, f),
    }
}

/// Lays an expression out: what does not fit 100 characters is split over lines, indented by two blanks a level.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    with_room_for(expr, || layout(expr, 0, &mut out));
    out
}

fn layout(expr: &Expr, level: usize, out: &mut String) {
    // Thousands of levels would make blanks of nearly all.
    let indent = "  ".repeat(level.min(INDENT_MAX));
    if let ExprKind::Unary { negative, expr } = &expr.kind {
        let start = out.len();
        layout(expr, level, out);
        let inner = out.split_off(start);
        out.extend([indent.as_str(), if *negative { "-" } else { "+" }, inner.trim()]);
        return;
    }
    if let ExprKind::StepInvariant(e) = &expr.kind {
        return layout(e, level, out);
    }
    if let Some(line) = line_within(expr, LINE_BYTES_MAX) {
        if !matches!(expr.kind, ExprKind::Subquery(_)) {
            out.push_str(&indent);
        }
        out.push_str(&line);
        return;
    }
    match &expr.kind {
        ExprKind::Subquery(s) => {
            layout(&s.expr, level, out);
            out.push_str(&subquery_suffix(s));
        }
        ExprKind::Aggregate(a) => {
            out.extend([indent.as_str(), &head(a), "(\n"]);
            if let Some(param) = &a.param {
                layout(param, level + 1, out);
                out.push_str(",\n");
            }
            layout(&a.expr, level + 1, out);
            out.extend(["\n", &indent, ")"]);
        }
        ExprKind::Binary(b) => {
            layout(&b.lhs, level + 1, out);
            out.extend(["\n", &indent, &operator(b), "\n"]);
            layout(&b.rhs, level + 1, out);
        }
        ExprKind::Call { function, args } => {
            out.extend([indent.as_str(), function.name, "(\n"]);
            for (i, arg) in args.iter().enumerate() {
                if i > 0 {
                    out.push_str(",\n");
                }
                layout(arg, level + 1, out);
            }
            out.extend(["\n", &indent, ")"]);
        }
        ExprKind::Paren(e) => {
            out.extend([indent.as_str(), "(\n"]);
            layout(e, level + 1, out);
            out.extend(["\n", &indent, ")"]);
        }
        _ => {
            out.push_str(&indent);
            out.extend(line_within(expr, usize::MAX));
        }
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
