//! Operations on single floats.

use super::BinaryOp;

/// Applies an operator to two scalars; comparisons give 1 or 0. Set and trim operators give NaN.
pub fn scalar_op(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    match op {
        BinaryOp::Add => lhs + rhs,
        BinaryOp::Sub => lhs - rhs,
        BinaryOp::Mul => lhs * rhs,
        BinaryOp::Div => lhs / rhs,
        BinaryOp::Mod => lhs % rhs,
        BinaryOp::Pow => power(lhs, rhs),
        BinaryOp::Atan2 => lhs.atan2(rhs),
        BinaryOp::Eq => truth(lhs == rhs),
        BinaryOp::NotEq => truth(lhs != rhs),
        BinaryOp::Less => truth(lhs < rhs),
        BinaryOp::LessEq => truth(lhs <= rhs),
        BinaryOp::Greater => truth(lhs > rhs),
        BinaryOp::GreaterEq => truth(lhs >= rhs),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => f64::NAN,
    }
}

fn power(base: f64, exponent: f64) -> f64 {
    if exponent == 2.0 { base * base } else { base.powf(exponent) }
}

/// The q-quantile with linear interpolation between ranks, as PromQL has it. Sorts `values`, NaN first.
///
/// Empty input or a NaN `q` give NaN; `q` below 0 gives -Inf, above 1 +Inf.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| nan_first(*a, *b));
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Ascending, NaN before everything.
pub fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(&b).expect("neither is NaN"),
    }
}
