//! Metrics functions, what may follow them, and math between metrics queries.

use super::field::{Type, attribute_type};
use super::{Node, Parser, comparison};
use crate::Error;
use crate::ast::{
    Attribute, FieldOp, MetricsExpr, MetricsFunction, MetricsLeaf, Pipeline, Position, SetExpr, Stage, Value,
};
use crate::error::{Phase, refuse};
use crate::lexer::{Token, fail};

/// Attributes that a metrics query may group by.
const BY_MAX: usize = 5;
/// Quantiles of one query.
const QUANTILES_MAX: usize = 20;
/// Values of an attribute that `compare` tells unless it is asked for another number.
const COMPARE_TOP: usize = 10;
/// Most values that it may be asked for.
const COMPARE_TOP_MAX: i64 = 10_000;

const FUNCTIONS: [&str; 9] = [
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "quantile_over_time",
    "histogram_over_time",
    "compare",
];

fn is_compare(metrics: &MetricsExpr) -> bool {
    matches!(metrics, MetricsExpr::Leaf(leaf) if matches!(leaf.function, MetricsFunction::Compare { .. }))
}

fn math(symbol: &str) -> Option<FieldOp> {
    Some(match symbol {
        "+" => FieldOp::Add,
        "-" => FieldOp::Sub,
        "*" => FieldOp::Mul,
        "/" => FieldOp::Div,
        _ => return None,
    })
}

impl Parser {
    /// A query, or what stands in parentheses.
    pub(super) fn whole(&mut self) -> Result<Node, Error> {
        let position = self.position();
        let node = self.math_at(3)?;
        match node {
            Node::Metrics(metrics) => self.second_stages(metrics, position).map(Node::Metrics),
            other => Ok(other),
        }
    }

    fn math_at(&mut self, level: u8) -> Result<Node, Error> {
        let wrapped = self.symbol() == "(";
        let position = self.position();
        let mut lhs = match self.peek() {
            Token::Int(_) | Token::Float(_) | Token::Duration(_) | Token::Symbol("-") => {
                Node::Number(self.number("a number")?.seconds().unwrap_or(0.0))
            }
            _ => self.pipeline()?,
        };
        let may_combine = wrapped || matches!(lhs, Node::Number(_));
        while let Some(op) = math(self.symbol()).filter(|op| may_combine && op.level() >= level) {
            if matches!(lhs, Node::Set(_) | Node::Pipeline(_)) {
                return Ok(lhs);
            }
            self.grow()?;
            self.next();
            let right = self.position();
            if !matches!(self.peek(), Token::Symbol("(" | "-") | Token::Int(_) | Token::Float(_) | Token::Duration(_)) {
                return fail(right, "both sides of metrics math need parentheses");
            }
            let rhs = self.math_at(op.level() + 1)?;
            lhs = combine(op, lhs, rhs, position, right)?;
        }
        Ok(lhs)
    }

    /// `topk`, `bottomk` and comparisons.
    fn second_stages(&mut self, mut metrics: MetricsExpr, start: Position) -> Result<MetricsExpr, Error> {
        loop {
            let position = self.position();
            if let Some(op) = comparison(self.symbol()) {
                self.grow()?;
                self.next();
                let value = self.number("a number or a duration")?;
                metrics = MetricsExpr::Filter(op, value, Box::new(metrics_checked(metrics, start)?));
                continue;
            }
            if self.symbol() != "|" {
                return Ok(metrics);
            }
            self.next();
            let top = match self.peek() {
                Token::Identifier(word) if word == "topk" => true,
                Token::Identifier(word) if word == "bottomk" => false,
                _ => return self.unexpected("topk, bottomk or a comparison"),
            };
            self.grow()?;
            self.next();
            self.expect("(")?;
            let Token::Int(k) = *self.peek() else { return self.unexpected("a positive integer") };
            self.next();
            self.expect(")")?;
            if k < 1 {
                return refuse(Phase::Validate, position, "the number of series must be at least 1");
            }
            let inner = metrics_checked(metrics, start)?;
            metrics = MetricsExpr::Rank(top, k.unsigned_abs(), Box::new(inner));
        }
    }

    /// A metrics function behind `|`, when there is one; the stages before it become its pipeline.
    pub(super) fn metrics_stage(&mut self, stages: &mut Vec<Stage>) -> Result<Option<MetricsExpr>, Error> {
        let position = self.position();
        let Token::Identifier(word) = self.peek().clone() else { return Ok(None) };
        if !FUNCTIONS.contains(&word.as_str()) {
            return Ok(None);
        }
        self.next();
        self.expect("(")?;
        let function = match word.as_str() {
            "rate" => self.no_argument(MetricsFunction::Rate)?,
            "count_over_time" => self.no_argument(MetricsFunction::CountOverTime)?,
            "compare" => self.compare()?,
            "quantile_over_time" => {
                let attribute = self.numeric_attribute(&word)?;
                let mut quantiles = Vec::new();
                while self.accept(",") {
                    let at = self.position();
                    let q = match self.number("a quantile")? {
                        Value::Int(i) => i as f64,
                        Value::Float(f) => f,
                        _ => return fail(at, "a quantile is a number"),
                    };
                    if !(0.0..=1.0).contains(&q) {
                        return refuse(Phase::Validate, at, "a quantile lies between 0 and 1");
                    }
                    if !quantiles.contains(&q) {
                        quantiles.push(q);
                    }
                    if quantiles.len() > QUANTILES_MAX {
                        return refuse(Phase::Unsupported, at, format!("more than {QUANTILES_MAX} quantiles"));
                    }
                }
                if quantiles.is_empty() {
                    return self.unexpected("\",\" and a quantile");
                }
                self.expect(")")?;
                MetricsFunction::QuantileOverTime(attribute, quantiles)
            }
            _ => {
                let attribute = self.numeric_attribute(&word)?;
                self.expect(")")?;
                match word.as_str() {
                    "min_over_time" => MetricsFunction::MinOverTime(attribute),
                    "max_over_time" => MetricsFunction::MaxOverTime(attribute),
                    "avg_over_time" => MetricsFunction::AvgOverTime(attribute),
                    "sum_over_time" => MetricsFunction::SumOverTime(attribute),
                    _ => MetricsFunction::HistogramOverTime(attribute),
                }
            }
        };
        let mut by = Vec::new();
        if self.is_word("by") && !matches!(function, MetricsFunction::Compare { .. }) {
            self.next();
            self.expect("(")?;
            by = self.attributes()?;
            let most = match function {
                MetricsFunction::QuantileOverTime(..) | MetricsFunction::HistogramOverTime(_) => BY_MAX - 1,
                _ => BY_MAX,
            };
            if by.len() > most {
                return refuse(Phase::Unsupported, position, format!("{word} groups by at most {most} attributes"));
            }
        }
        let pipeline = Pipeline { stages: std::mem::take(stages) };
        Ok(Some(MetricsExpr::Leaf(Box::new(MetricsLeaf { pipeline, function, by }))))
    }

    fn no_argument(&mut self, function: MetricsFunction) -> Result<MetricsFunction, Error> {
        self.expect(")")?;
        Ok(function)
    }

    fn numeric_attribute(&mut self, function: &str) -> Result<Attribute, Error> {
        let position = self.position();
        let attribute = self.attribute()?;
        match attribute_type(&attribute) {
            Type::Any | Type::Number => Ok(attribute),
            _ => refuse(Phase::Validate, position, format!("{function} takes a number, {attribute} is none")),
        }
    }

    /// `{..}[, top[, start, end]])`
    fn compare(&mut self) -> Result<MetricsFunction, Error> {
        let position = self.position();
        let Node::Set(SetExpr::Filter(selection)) = self.set_primary()? else {
            return fail(position, "compare takes a filter in braces");
        };
        let mut numbers = Vec::new();
        while self.accept(",") {
            let at = self.position();
            match self.number("a whole number")? {
                Value::Int(n) => numbers.push(n),
                _ => return fail(at, "expected a whole number"),
            }
        }
        self.expect(")")?;
        let top = numbers.first().copied().unwrap_or(COMPARE_TOP as i64);
        if !(1..=COMPARE_TOP_MAX).contains(&top) {
            return refuse(Phase::Validate, position, format!("compare tells 1 to {COMPARE_TOP_MAX} values"));
        }
        let window = match numbers[..] {
            [] | [_] => None,
            [_, start, end] if start < end => Some((start, end)),
            [_, _, _] => return refuse(Phase::Validate, position, "compare's start must be before its end"),
            _ => return fail(position, "compare takes a filter, a number, a start and an end"),
        };
        Ok(MetricsFunction::Compare { selection, top: usize::try_from(top).unwrap_or(COMPARE_TOP), window })
    }
}

fn metrics_checked(metrics: MetricsExpr, at: Position) -> Result<MetricsExpr, Error> {
    if is_compare(&metrics) {
        return refuse(Phase::Validate, at, "compare takes no second stage");
    }
    Ok(metrics)
}

fn combine(op: FieldOp, lhs: Node, rhs: Node, left: Position, right: Position) -> Result<Node, Error> {
    let both_numbers = matches!((&lhs, &rhs), (Node::Number(_), Node::Number(_)));
    if both_numbers {
        return fail(left, "one side of metrics math must be a metrics query");
    }
    let side = |node: Node, at: Position| match node {
        Node::Metrics(metrics) => metrics_checked(metrics, at),
        Node::Number(n) => Ok(MetricsExpr::Number(n)),
        Node::Set(_) | Node::Pipeline(_) => fail(at, "both sides of metrics math must be metrics queries"),
    };
    let (lhs, rhs) = (side(lhs, left)?, side(rhs, right)?);
    Ok(Node::Metrics(MetricsExpr::Math(op, Box::new(lhs), Box::new(rhs))))
}
