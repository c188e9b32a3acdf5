//! Metric expressions and their rules.

use super::Parser;
use crate::Error;
use crate::ast::{
    Binary, BinaryOp, Expr, Group, Grouping, LabelReplace, Matching, MetricExpr, MetricKind, Position,
    RangeAggregation, RangeOp, VectorAggregation, VectorOp,
};
use crate::lexer::{Token, fail};

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Expr, Error> {
        self.binary(0)
    }

    fn operator(&self) -> Option<(BinaryOp, u8)> {
        let found = match self.peek() {
            Token::Identifier(word) => match word.to_ascii_lowercase().as_str() {
                "or" => (BinaryOp::Or, 1),
                "and" => (BinaryOp::And, 2),
                "unless" => (BinaryOp::Unless, 2),
                _ => return None,
            },
            Token::Symbol(symbol) => match *symbol {
                "==" => (BinaryOp::Equal, 3),
                "!=" => (BinaryOp::NotEqual, 3),
                "<" => (BinaryOp::Less, 3),
                "<=" => (BinaryOp::LessEqual, 3),
                ">" => (BinaryOp::Greater, 3),
                ">=" => (BinaryOp::GreaterEqual, 3),
                "+" => (BinaryOp::Add, 4),
                "-" => (BinaryOp::Sub, 4),
                "*" => (BinaryOp::Mul, 5),
                "/" => (BinaryOp::Div, 5),
                "%" => (BinaryOp::Mod, 5),
                "^" => (BinaryOp::Pow, 6),
                _ => return None,
            },
            _ => return None,
        };
        Some(found)
    }

    fn binary(&mut self, least: u8) -> Result<Expr, Error> {
        self.deeper()?;
        let mut left = self.operand()?;
        while let Some((op, strength)) = self.operator().filter(|(_, strength)| *strength >= least) {
            let position = self.position();
            self.one_more_operator()?;
            self.at += 1;
            let (return_bool, matching) = self.modifiers(op)?;
            let right_least = if op == BinaryOp::Pow { strength } else { strength + 1 };
            let right = self.binary(right_least)?;
            let side = |expr: Expr, name: &str| match expr {
                Expr::Metric(metric) => Ok(metric),
                Expr::Log(log) => fail(
                    log.position,
                    format!("unexpected type for {name} leg of binary operation: a log query gives no numbers"),
                ),
            };
            let (lhs, rhs) = (side(left, "left")?, side(right, "right")?);
            if op.is_set() {
                for (metric, name) in [(&lhs, "left"), (&rhs, "right")] {
                    if is_number(metric) {
                        return fail(
                            metric.position,
                            format!("unexpected literal for {name} leg of logical/set binary operation"),
                        );
                    }
                }
            }
            let kind = MetricKind::Binary(Box::new(Binary { op, return_bool, matching, lhs, rhs }));
            left = Expr::Metric(MetricExpr { position, kind });
        }
        self.depth -= 1;
        Ok(left)
    }

    fn modifiers(&mut self, op: BinaryOp) -> Result<(bool, Matching), Error> {
        let position = self.position();
        let return_bool = self.accept_word("bool");
        if return_bool && !op.is_comparison() {
            return fail(position, "bool modifier can only be used on comparison operators");
        }
        let mut matching = Matching::default();
        let on = self.accept_word("on");
        if on || self.accept_word("ignoring") {
            matching.on = on;
            matching.labels = self.label_list()?;
            let position = self.position();
            if self.accept_word("group_left") {
                matching.group = Group::Left;
            } else if self.accept_word("group_right") {
                matching.group = Group::Right;
            }
            if matching.group != Group::None {
                if op.is_set() {
                    return fail(position, "no grouping allowed for set operations");
                }
                if self.is_symbol("(") && self.group_list_follows() {
                    matching.include = self.label_list()?;
                }
            }
        }
        Ok((return_bool, matching))
    }

    /// Whether `(` opens the list of `group_left` rather than the right operand.
    fn group_list_follows(&self) -> bool {
        matches!(
            (self.peek_at(1), self.peek_at(2)),
            (Token::Symbol(")"), _) | (Token::Identifier(_), Token::Symbol("," | ")"))
        )
    }

    fn operand(&mut self) -> Result<Expr, Error> {
        let position = self.position();
        let number = |n: f64| Ok(Expr::Metric(MetricExpr { position, kind: MetricKind::Literal(n) }));
        match self.peek().clone() {
            Token::Symbol("{") => self.log_expression().map(Expr::Log),
            Token::Symbol("(") => {
                self.at += 1;
                let mut inner = self.expression()?;
                self.expect(")")?;
                if let Expr::Metric(metric) = &mut inner
                    && !matches!(metric.kind, MetricKind::Binary(_))
                {
                    metric.position = position;
                }
                Ok(inner)
            }
            Token::Number(n) => {
                self.at += 1;
                number(n)
            }
            Token::Symbol(sign @ ("+" | "-")) => {
                self.at += 1;
                match self.next() {
                    Token::Number(n) => number(if sign == "-" { -n } else { n }),
                    _ => {
                        self.at -= 1;
                        self.unexpected_but("NUMBER")
                    }
                }
            }
            Token::Identifier(word) => self.function(position, &word.to_ascii_lowercase()),
            _ => self.unexpected(),
        }
    }

    fn function(&mut self, position: Position, word: &str) -> Result<Expr, Error> {
        let kind = if let Some(op) = range_op(word) {
            self.at += 1;
            MetricKind::Range(Box::new(self.range_aggregation(position, word, op)?))
        } else if let Some(op) = vector_op(word) {
            self.at += 1;
            MetricKind::Aggregation(Box::new(self.vector_aggregation(position, word, op)?))
        } else {
            match word {
                "vector" => {
                    self.at += 1;
                    self.expect("(")?;
                    let negative = self.accept("-");
                    let Token::Number(n) = self.peek().clone() else {
                        return self.unexpected_but("NUMBER");
                    };
                    self.at += 1;
                    self.expect(")")?;
                    MetricKind::Vector(if negative { -n } else { n })
                }
                "label_replace" => {
                    self.at += 1;
                    MetricKind::LabelReplace(Box::new(self.label_replace()?))
                }
                _ => return self.unexpected(),
            }
        };
        Ok(Expr::Metric(MetricExpr { position, kind }))
    }

    fn number_parameter(&mut self) -> Result<Option<f64>, Error> {
        let sign = if matches!(self.peek_at(1), Token::Number(_)) && self.accept("-") { -1.0 } else { 1.0 };
        let Token::Number(n) = self.peek().clone() else {
            return Ok(None);
        };
        if !matches!(self.peek_at(1), Token::Symbol(",")) {
            return Ok(None);
        }
        self.at += 2;
        Ok(Some(sign * n))
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, Error> {
        let without = match self.word().as_deref() {
            Some("by") => false,
            Some("without") => true,
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(Grouping { without, labels: self.label_list()? }))
    }

    fn range_aggregation(&mut self, position: Position, name: &str, op: RangeOp) -> Result<RangeAggregation, Error> {
        self.expect("(")?;
        let parameter = self.number_parameter()?;
        let found = self.log_range()?;
        let Some(range_ns) = found.range_ns else {
            return self.unexpected_but("RANGE");
        };
        self.expect(")")?;
        let grouping_position = self.position();
        let grouping = self.grouping()?;

        let groups = matches!(
            op,
            RangeOp::Avg
                | RangeOp::Min
                | RangeOp::Max
                | RangeOp::Stdvar
                | RangeOp::Stddev
                | RangeOp::Quantile
                | RangeOp::First
                | RangeOp::Last
        );
        let needs_unwrap = groups || matches!(op, RangeOp::Sum | RangeOp::RateCounter);
        let takes_unwrap = needs_unwrap || matches!(op, RangeOp::Rate | RangeOp::Absent);
        if grouping.is_some() && !groups {
            return fail(grouping_position, format!("grouping not allowed for {name} aggregation"));
        }
        if needs_unwrap && found.unwrap.is_none() {
            return fail(position, format!("invalid aggregation {name} without unwrap"));
        }
        if !takes_unwrap && found.unwrap.is_some() {
            return fail(position, format!("invalid aggregation {name} with unwrap"));
        }
        match (op, parameter) {
            (RangeOp::Quantile, None) => return fail(position, format!("parameter required for operation {name}")),
            (RangeOp::Quantile, _) | (_, None) => {}
            _ => {
                return fail(
                    position,
                    format!("parameter {} not supported for operation {name}", parameter.unwrap_or(0.0)),
                );
            }
        }
        let (offset_ns, unwrap) = (found.offset_ns, found.unwrap);
        Ok(RangeAggregation { op, parameter, log: found.log, range_ns, offset_ns, unwrap, grouping })
    }

    fn vector_aggregation(&mut self, position: Position, name: &str, op: VectorOp) -> Result<VectorAggregation, Error> {
        let before = self.grouping()?;
        self.expect("(")?;
        let parameter_position = self.position();
        let parameter = self.number_parameter()?;
        let inner = match self.expression()? {
            Expr::Metric(metric) => metric,
            Expr::Log(log) => return fail(log.position, format!("{name} needs a metric query, got a log query")),
        };
        self.expect(")")?;
        let grouping = match before {
            Some(grouping) => Some(grouping),
            None => self.grouping()?,
        };
        let k = matches!(op, VectorOp::TopK | VectorOp::BottomK | VectorOp::ApproxTopK);
        let parameter = match (k, parameter) {
            (true, None) => return fail(position, format!("parameter required for operation {name}")),
            (true, Some(n)) => {
                if n < 1.0 || n.fract() != 0.0 || n > f64::from(u32::MAX) {
                    return fail(
                        parameter_position,
                        format!("invalid parameter (must be a whole number greater than 0) {name}({n}, ...)"),
                    );
                }
                Some(n as u32)
            }
            (false, Some(n)) => {
                return fail(parameter_position, format!("unsupported parameter for operation {name}({n}, ...)"));
            }
            (false, None) => None,
        };
        if grouping.is_some() && matches!(op, VectorOp::Sort | VectorOp::SortDesc | VectorOp::ApproxTopK) {
            return fail(position, format!("{name} doesn't allow grouping by "));
        }
        Ok(VectorAggregation { op, parameter, grouping, inner })
    }

    fn label_replace(&mut self) -> Result<LabelReplace, Error> {
        self.expect("(")?;
        let inner = match self.expression()? {
            Expr::Metric(metric) => metric,
            Expr::Log(log) => return fail(log.position, "label_replace needs a metric query, got a log query"),
        };
        self.expect(",")?;
        let target_position = self.position();
        let target = self.string()?;
        self.expect(",")?;
        let replacement = self.string()?;
        self.expect(",")?;
        let source = self.string()?;
        self.expect(",")?;
        let position = self.position();
        let regex = self.string()?;
        self.expect(")")?;
        if !trefoil_model::labels::is_legacy_label_name(&target) {
            return fail(target_position, format!("invalid destination label name: {target:?}"));
        }
        if let Err(error) = trefoil_model::re2::Regex::whole(&regex) {
            return fail(position, format!("invalid regex in label_replace: {error}"));
        }
        Ok(LabelReplace { inner, target, replacement, source, regex })
    }
}

/// True for literals and arithmetic of literals.
pub(crate) fn is_number(metric: &MetricExpr) -> bool {
    match &metric.kind {
        MetricKind::Literal(_) => true,
        MetricKind::Binary(binary) => is_number(&binary.lhs) && is_number(&binary.rhs),
        _ => false,
    }
}

fn range_op(word: &str) -> Option<RangeOp> {
    Some(match word {
        "rate" => RangeOp::Rate,
        "rate_counter" => RangeOp::RateCounter,
        "count_over_time" => RangeOp::Count,
        "bytes_rate" => RangeOp::BytesRate,
        "bytes_over_time" => RangeOp::Bytes,
        "absent_over_time" => RangeOp::Absent,
        "sum_over_time" => RangeOp::Sum,
        "avg_over_time" => RangeOp::Avg,
        "min_over_time" => RangeOp::Min,
        "max_over_time" => RangeOp::Max,
        "stdvar_over_time" => RangeOp::Stdvar,
        "stddev_over_time" => RangeOp::Stddev,
        "quantile_over_time" => RangeOp::Quantile,
        "first_over_time" => RangeOp::First,
        "last_over_time" => RangeOp::Last,
        _ => return None,
    })
}

fn vector_op(word: &str) -> Option<VectorOp> {
    Some(match word {
        "sum" => VectorOp::Sum,
        "avg" => VectorOp::Avg,
        "min" => VectorOp::Min,
        "max" => VectorOp::Max,
        "count" => VectorOp::Count,
        "stddev" => VectorOp::Stddev,
        "stdvar" => VectorOp::Stdvar,
        "topk" => VectorOp::TopK,
        "bottomk" => VectorOp::BottomK,
        "approx_topk" => VectorOp::ApproxTopK,
        "sort" => VectorOp::Sort,
        "sort_desc" => VectorOp::SortDesc,
        _ => return None,
    })
}
