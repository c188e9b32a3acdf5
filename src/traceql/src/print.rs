//! Queries back to text, in one canonical form. Spaces stand around operators, so that no name swallows one.

use std::fmt::{self, Display, Formatter};

use crate::ast::{
    AggregateFilter, Attribute, FieldExpr, FieldKind, Keep, MetricsExpr, MetricsFunction, MetricsLeaf, Pipeline, Query,
    QueryKind, SetExpr, SetOp, Stage, UnaryOp, Value,
};
use crate::value::quoted;

fn list<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl Display for Attribute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intrinsic(i) => f.write_str(i.as_str()),
            Self::Named { scope, name } => {
                write!(f, "{}.", scope.as_str())?;
                // A number would be read behind the bare dot of an unscoped name.
                let is_plain = !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.chars().all(|c| c.is_alphanumeric() || "._-/:@$".contains(c));
                if is_plain { f.write_str(name) } else { quoted(f, name) }
            }
        }
    }
}

impl Display for FieldExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let operand = |f: &mut Formatter<'_>, e: &FieldExpr| match e.kind {
            FieldKind::Binary(_) => write!(f, "({e})"),
            _ => e.fmt(f),
        };
        match &self.kind {
            FieldKind::Value(Value::Int(i64::MIN)) => f.write_str("minInt"),
            FieldKind::Value(value) => value.fmt(f),
            FieldKind::Attribute(attribute) => attribute.fmt(f),
            FieldKind::Unary(op, e) => {
                f.write_str(if *op == UnaryOp::Not { "!" } else { "-" })?;
                operand(f, e)
            }
            FieldKind::Binary(b) => {
                // `!a` binds looser than products, so it stands in parentheses there.
                operand_of_binary(f, &b.lhs)?;
                write!(f, " {} ", b.op.as_str())?;
                operand_of_binary(f, &b.rhs)
            }
        }
    }
}

fn operand_of_binary(f: &mut Formatter<'_>, e: &FieldExpr) -> fmt::Result {
    match e.kind {
        FieldKind::Binary(_) | FieldKind::Unary(..) => write!(f, "({e})"),
        _ => e.fmt(f),
    }
}

impl Display for SetExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let operand = |f: &mut Formatter<'_>, e: &SetExpr| match e {
            Self::Op { .. } => write!(f, "({e})"),
            _ => e.fmt(f),
        };
        match self {
            Self::Filter(None) => f.write_str("{ }"),
            Self::Filter(Some(e)) => write!(f, "{{ {e} }}"),
            Self::Pipeline(p) => write!(f, "({p})"),
            Self::Op { op, lhs, rhs } => {
                operand(f, lhs)?;
                match op {
                    SetOp::And => f.write_str(" && ")?,
                    SetOp::Or => f.write_str(" || ")?,
                    SetOp::Structural(relation, keep) => {
                        let prefix = match keep {
                            Keep::Right => "",
                            Keep::Unrelated => "!",
                            Keep::Both => "&",
                        };
                        write!(f, " {prefix}{} ", relation.as_str())?;
                    }
                }
                operand(f, rhs)
            }
        }
    }
}

impl AggregateFilter {
    /// `max(duration)`, the name of the attribute that a set gets.
    pub fn name(&self) -> String {
        let argument = self.argument.as_ref().map_or_else(String::new, ToString::to_string);
        format!("{}({argument})", self.aggregate.as_str())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spans(set) => set.fmt(f),
            Self::Aggregate(a) => write!(f, "{} {} {}", a.name(), a.op.as_str(), a.value),
            Self::By(e) => write!(f, "by({e})"),
            Self::Coalesce => f.write_str("coalesce()"),
            Self::Select(attributes) => {
                f.write_str("select(")?;
                list(f, attributes)?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Pipeline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.stages.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            stage.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for MetricsLeaf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}(", self.pipeline, self.function.as_str())?;
        match &self.function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => {}
            MetricsFunction::MinOverTime(a)
            | MetricsFunction::MaxOverTime(a)
            | MetricsFunction::AvgOverTime(a)
            | MetricsFunction::SumOverTime(a)
            | MetricsFunction::HistogramOverTime(a) => a.fmt(f)?,
            MetricsFunction::QuantileOverTime(a, quantiles) => {
                write!(f, "{a}, ")?;
                list(f, quantiles)?;
            }
            MetricsFunction::Compare { selection, top, window } => {
                SetExpr::Filter(selection.clone()).fmt(f)?;
                write!(f, ", {top}")?;
                if let Some((start, end)) = window {
                    write!(f, ", {start}, {end}")?;
                }
            }
        }
        f.write_str(")")?;
        if !self.by.is_empty() {
            f.write_str(" by (")?;
            list(f, &self.by)?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl Display for MetricsExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let operand = |f: &mut Formatter<'_>, e: &MetricsExpr| match e {
            Self::Number(n) => Value::Float(*n).fmt(f),
            _ => write!(f, "({e})"),
        };
        match self {
            Self::Leaf(leaf) => leaf.fmt(f),
            Self::Rank(top, k, inner) => write!(f, "{inner} | {}({k})", if *top { "topk" } else { "bottomk" }),
            Self::Filter(op, value, inner) => write!(f, "{inner} {} {value}", op.as_str()),
            Self::Math(op, lhs, rhs) => {
                operand(f, lhs)?;
                write!(f, " {} ", op.as_str())?;
                operand(f, rhs)
            }
            Self::Number(n) => Value::Float(*n).fmt(f),
        }
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            QueryKind::Search(pipeline) => pipeline.fmt(f)?,
            QueryKind::Metrics(metrics) => metrics.fmt(f)?,
        }
        if self.hints.is_empty() {
            return Ok(());
        }
        f.write_str(" with (")?;
        for (i, (name, value)) in self.hints.iter().enumerate() {
            write!(f, "{}{name}={value}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}
