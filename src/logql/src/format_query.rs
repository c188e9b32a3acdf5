//! Queries back to text: one line, or indented when that is too long.

use std::fmt;

use trefoil_model::Matcher;
use trefoil_template::format::quote;
use trefoil_template::go_time::format_duration;

use crate::Error;
use crate::ast::{
    Binary, BinaryOp, Compare, Conversion, Expr, Extraction, Group, Grouping, LabelFilter, LabelPick, LabelSource,
    LineFilter, LineNeedle, LineOp, LogExpr, MetricExpr, MetricKind, RangeAggregation, RangeOp, StageKind, VectorOp,
};
use crate::parser::parse;

const LINE_CHARS_MAX: usize = 80;

/// A query in its canonical form. Parsing the result gives the same query.
pub fn format_query(query: &str) -> Result<String, Error> {
    let expr = parse(query)?;
    let mut out = String::new();
    match &expr {
        Expr::Log(log) => pretty_log(log, 0, &mut out),
        Expr::Metric(metric) => pretty_metric(metric, 0, &mut out),
    }
    Ok(out)
}

fn indent(level: usize, out: &mut String) {
    out.push_str(&"  ".repeat(level));
}

fn fits(text: &str, level: usize) -> bool {
    text.chars().count() + 2 * level <= LINE_CHARS_MAX
}

fn pretty_log(log: &LogExpr, level: usize, out: &mut String) {
    let line = log.to_string();
    indent(level, out);
    if fits(&line, level) {
        out.push_str(&line);
        return;
    }
    out.push_str(&selector(&log.matchers));
    for stage in &log.stages {
        out.push('\n');
        indent(level + 1, out);
        out.push_str(&stage.kind.to_string());
    }
}

fn pretty_metric(metric: &MetricExpr, level: usize, out: &mut String) {
    let line = metric.to_string();
    if fits(&line, level) {
        indent(level, out);
        out.push_str(&line);
        return;
    }
    match &metric.kind {
        MetricKind::Aggregation(aggregation) => {
            indent(level, out);
            out.push_str(vector_name(aggregation.op));
            if let Some(grouping) = &aggregation.grouping {
                out.push_str(&format!(" {grouping} "));
            }
            out.push_str("(\n");
            if let Some(k) = aggregation.parameter {
                indent(level + 1, out);
                out.push_str(&format!("{k},\n"));
            }
            pretty_metric(&aggregation.inner, level + 1, out);
            out.push('\n');
            indent(level, out);
            out.push(')');
        }
        MetricKind::Range(range) => {
            indent(level, out);
            out.push_str(range_name(range.op));
            out.push_str("(\n");
            if let Some(parameter) = range.parameter {
                indent(level + 1, out);
                out.push_str(&format!("{parameter},\n"));
            }
            pretty_log(&range.log, level + 1, out);
            let tail = range_tail(range);
            let unwraps = range.unwrap.is_some();
            out.push_str(if unwraps { "\n" } else { " " });
            if unwraps {
                indent(level + 2, out);
            }
            out.push_str(&tail);
            out.push('\n');
            indent(level, out);
            out.push(')');
            if let Some(grouping) = &range.grouping {
                out.push_str(&format!(" {grouping}"));
            }
        }
        MetricKind::Binary(binary) => {
            pretty_operand(&binary.lhs, level + 1, out);
            out.push('\n');
            indent(level, out);
            out.push_str(&operator(binary));
            out.push('\n');
            pretty_operand(&binary.rhs, level + 1, out);
        }
        MetricKind::LabelReplace(replace) => {
            indent(level, out);
            out.push_str("label_replace(\n");
            pretty_metric(&replace.inner, level + 1, out);
            for text in [&replace.target, &replace.replacement, &replace.source, &replace.regex] {
                out.push_str(",\n");
                indent(level + 1, out);
                out.push_str(&quote(text));
            }
            out.push('\n');
            indent(level, out);
            out.push(')');
        }
        MetricKind::Vector(_) | MetricKind::Literal(_) => {
            indent(level, out);
            out.push_str(&line);
        }
    }
}

fn pretty_operand(metric: &MetricExpr, level: usize, out: &mut String) {
    if !matches!(metric.kind, MetricKind::Binary(_)) {
        pretty_metric(metric, level, out);
        return;
    }
    indent(level, out);
    out.push_str("(\n");
    pretty_metric(metric, level + 1, out);
    out.push('\n');
    indent(level, out);
    out.push(')');
}

fn selector(matchers: &[Matcher]) -> String {
    let inside: Vec<String> = matchers.iter().map(matcher).collect();
    format!("{{{}}}", inside.join(", "))
}

fn matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", matcher.name, matcher.op.as_str(), quote(&matcher.value))
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl fmt::Display for LogExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&selector(&self.matchers))?;
        self.stages.iter().try_for_each(|stage| write!(f, " {}", stage.kind))
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineFilter(filter) => filter.fmt(f),
            Self::Json(extractions) => write!(f, "| json{}", extraction_list(extractions)),
            Self::Logfmt { strict, keep_empty, extractions } => {
                let strict = if *strict { " --strict" } else { "" };
                let keep = if *keep_empty { " --keep-empty" } else { "" };
                write!(f, "| logfmt{strict}{keep}{}", extraction_list(extractions))
            }
            Self::Regexp(pattern) => write!(f, "| regexp {}", quote(pattern)),
            Self::Pattern(pattern) => write!(f, "| pattern {}", quote(pattern)),
            Self::Unpack => f.write_str("| unpack"),
            Self::Decolorize => f.write_str("| decolorize"),
            Self::LabelFilter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", quote(template)),
            Self::LabelFormat(formats) => {
                let each = formats.iter().map(|format| match &format.source {
                    LabelSource::Label(label) => format!("{}={label}", format.target),
                    LabelSource::Template(template) => format!("{}={}", format.target, quote(template)),
                });
                write!(f, "| label_format {}", each.collect::<Vec<_>>().join(", "))
            }
            Self::Drop(picks) => write!(f, "| drop {}", pick_list(picks)),
            Self::Keep(picks) => write!(f, "| keep {}", pick_list(picks)),
        }
    }
}

fn extraction_list(extractions: &[Extraction]) -> String {
    let each = extractions.iter().map(|e| format!("{}={}", e.label, quote(&e.expression)));
    let list = each.collect::<Vec<_>>().join(", ");
    if list.is_empty() { list } else { format!(" {list}") }
}

fn pick_list(picks: &[LabelPick]) -> String {
    let each = picks.iter().map(|pick| match pick {
        LabelPick::Name(name) => name.clone(),
        LabelPick::Matcher(m) => matcher(m),
    });
    each.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for LineFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.op {
            LineOp::Contains => "|=",
            LineOp::NotContains => "!=",
            LineOp::Regex => "|~",
            LineOp::NotRegex => "!~",
            LineOp::Pattern => "|>",
            LineOp::NotPattern => "!>",
        })?;
        for (i, needle) in self.alternatives.iter().enumerate() {
            f.write_str(if i > 0 { " or " } else { " " })?;
            match needle {
                LineNeedle::Text(text) => f.write_str(&quote(text))?,
                LineNeedle::Ip(pattern) => write!(f, "ip({})", quote(pattern))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for LabelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matcher(m) => f.write_str(&matcher(m)),
            Self::Number(name, compare, n) => write!(f, "{name}{}{n}", comparison(*compare)),
            Self::Duration(name, compare, ns) => write!(f, "{name}{}{}", comparison(*compare), duration(*ns)),
            Self::Bytes(name, compare, bytes) => write!(f, "{name}{}{bytes}B", comparison(*compare)),
            Self::Ip(name, negative, pattern) => {
                write!(f, "{name}{}ip({})", if *negative { "!=" } else { "=" }, quote(pattern))
            }
            Self::And(a, b) => write!(f, "({a} and {b})"),
            Self::Or(a, b) => write!(f, "({a} or {b})"),
        }
    }
}

fn comparison(compare: Compare) -> &'static str {
    match compare {
        Compare::Equal => "==",
        Compare::NotEqual => "!=",
        Compare::Less => "<",
        Compare::LessEqual => "<=",
        Compare::Greater => ">",
        Compare::GreaterEqual => ">=",
    }
}

/// Without the zero parts that Go writes: `5m` for `5m0s`.
fn duration(ns: i64) -> String {
    let text = format_duration(ns);
    let text = text.strip_suffix("m0s").map(|t| format!("{t}m")).unwrap_or(text);
    text.strip_suffix("h0m").map(|t| format!("{t}h")).unwrap_or(text)
}

impl fmt::Display for MetricExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            MetricKind::Literal(n) => write!(f, "{n}"),
            MetricKind::Vector(n) => write!(f, "vector({n})"),
            MetricKind::Range(range) => {
                write!(f, "{}(", range_name(range.op))?;
                if let Some(parameter) = range.parameter {
                    write!(f, "{parameter}, ")?;
                }
                let joint = if range.unwrap.is_none() && range.log.stages.is_empty() { "" } else { " " };
                write!(f, "{}{joint}{})", range.log, range_tail(range))?;
                range.grouping.iter().try_for_each(|grouping| write!(f, " {grouping}"))
            }
            MetricKind::Aggregation(aggregation) => {
                f.write_str(vector_name(aggregation.op))?;
                if let Some(grouping) = &aggregation.grouping {
                    write!(f, " {grouping} ")?;
                }
                f.write_str("(")?;
                if let Some(k) = aggregation.parameter {
                    write!(f, "{k}, ")?;
                }
                write!(f, "{})", aggregation.inner)
            }
            MetricKind::Binary(binary) => {
                let side = |metric: &MetricExpr| match metric.kind {
                    MetricKind::Binary(_) => format!("({metric})"),
                    _ => metric.to_string(),
                };
                write!(f, "{} {} {}", side(&binary.lhs), operator(binary), side(&binary.rhs))
            }
            MetricKind::LabelReplace(replace) => {
                let texts = [&replace.target, &replace.replacement, &replace.source, &replace.regex];
                let texts: Vec<String> = texts.iter().map(|t| quote(t)).collect();
                write!(f, "label_replace({}, {})", replace.inner, texts.join(", "))
            }
        }
    }
}

/// Unwrap, range and offset.
fn range_tail(range: &RangeAggregation) -> String {
    let mut out = String::new();
    if let Some(unwrap) = &range.unwrap {
        out.push_str(&match unwrap.conversion {
            Conversion::Number => format!("| unwrap {} ", unwrap.label),
            Conversion::Duration => format!("| unwrap duration({}) ", unwrap.label),
            Conversion::Bytes => format!("| unwrap bytes({}) ", unwrap.label),
        });
        for filter in &unwrap.filters {
            out.push_str(&format!("| {filter} "));
        }
    }
    out.push_str(&format!("[{}]", duration(range.range_ns)));
    if range.offset_ns != 0 {
        out.push_str(&format!(" offset {}", duration(range.offset_ns)));
    }
    out
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", if self.without { "without" } else { "by" }, self.labels.join(", "))
    }
}

/// Operator with its modifiers.
fn operator(binary: &Binary) -> String {
    let mut out = match binary.op {
        BinaryOp::Or => "or",
        BinaryOp::And => "and",
        BinaryOp::Unless => "unless",
        BinaryOp::Equal => "==",
        BinaryOp::NotEqual => "!=",
        BinaryOp::Less => "<",
        BinaryOp::LessEqual => "<=",
        BinaryOp::Greater => ">",
        BinaryOp::GreaterEqual => ">=",
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "^",
    }
    .to_owned();
    if binary.return_bool {
        out.push_str(" bool");
    }
    let matching = &binary.matching;
    if matching.on || !matching.labels.is_empty() || matching.group != Group::None {
        let word = if matching.on { "on" } else { "ignoring" };
        out.push_str(&format!(" {word} ({})", matching.labels.join(", ")));
    }
    let include = matching.include.join(", ");
    match matching.group {
        Group::None => {}
        Group::Left => out.push_str(&format!(" group_left ({include})")),
        Group::Right => out.push_str(&format!(" group_right ({include})")),
    }
    out
}

fn range_name(op: RangeOp) -> &'static str {
    match op {
        RangeOp::Rate => "rate",
        RangeOp::RateCounter => "rate_counter",
        RangeOp::Count => "count_over_time",
        RangeOp::BytesRate => "bytes_rate",
        RangeOp::Bytes => "bytes_over_time",
        RangeOp::Absent => "absent_over_time",
        RangeOp::Sum => "sum_over_time",
        RangeOp::Avg => "avg_over_time",
        RangeOp::Min => "min_over_time",
        RangeOp::Max => "max_over_time",
        RangeOp::Stdvar => "stdvar_over_time",
        RangeOp::Stddev => "stddev_over_time",
        RangeOp::Quantile => "quantile_over_time",
        RangeOp::First => "first_over_time",
        RangeOp::Last => "last_over_time",
    }
}

fn vector_name(op: VectorOp) -> &'static str {
    match op {
        VectorOp::Sum => "sum",
        VectorOp::Avg => "avg",
        VectorOp::Min => "min",
        VectorOp::Max => "max",
        VectorOp::Count => "count",
        VectorOp::Stddev => "stddev",
        VectorOp::Stdvar => "stdvar",
        VectorOp::TopK => "topk",
        VectorOp::BottomK => "bottomk",
        VectorOp::ApproxTopK => "approx_topk",
        VectorOp::Sort => "sort",
        VectorOp::SortDesc => "sort_desc",
    }
}
