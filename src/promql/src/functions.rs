//! The functions of the language: names and types.

use crate::ast::ValueType;
use ValueType::{Matrix, Scalar, String, Vector};

/// A function's signature.
#[derive(Debug, PartialEq)]
pub struct Function {
    /// Name.
    pub name: &'static str,
    /// Types of its arguments. With `variadic` the last may be left out or repeated.
    pub args: &'static [ValueType],
    /// 0: all arguments are due; n > 0: the last may come 0 to n times; -1: any number of times.
    pub variadic: i8,
    /// Type of its value.
    pub returns: ValueType,
    /// True when behind the flag for experimental functions.
    pub experimental: bool,
}

impl Function {
    const fn new(
        name: &'static str,
        args: &'static [ValueType],
        variadic: i8,
        returns: ValueType,
        experimental: bool,
    ) -> Self {
        Self { name, args, variadic, returns, experimental }
    }

    /// The function of that name (names are case-sensitive).
    pub fn find(name: &str) -> Option<&'static Self> {
        FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
    }
}

/// All functions, by name.
pub static FUNCTIONS: &[Function] = &[
    Function::new("abs", &[Vector], 0, Vector, false),
    Function::new("absent", &[Vector], 0, Vector, false),
    Function::new("absent_over_time", &[Matrix], 0, Vector, false),
    Function::new("acos", &[Vector], 0, Vector, false),
    Function::new("acosh", &[Vector], 0, Vector, false),
    Function::new("asin", &[Vector], 0, Vector, false),
    Function::new("asinh", &[Vector], 0, Vector, false),
    Function::new("atan", &[Vector], 0, Vector, false),
    Function::new("atanh", &[Vector], 0, Vector, false),
    Function::new("avg_over_time", &[Matrix], 0, Vector, false),
    Function::new("ceil", &[Vector], 0, Vector, false),
    Function::new("changes", &[Matrix], 0, Vector, false),
    Function::new("clamp", &[Vector, Scalar, Scalar], 0, Vector, false),
    Function::new("clamp_max", &[Vector, Scalar], 0, Vector, false),
    Function::new("clamp_min", &[Vector, Scalar], 0, Vector, false),
    Function::new("cos", &[Vector], 0, Vector, false),
    Function::new("cosh", &[Vector], 0, Vector, false),
    Function::new("count_over_time", &[Matrix], 0, Vector, false),
    Function::new("day_of_month", &[Vector], 1, Vector, false),
    Function::new("day_of_week", &[Vector], 1, Vector, false),
    Function::new("day_of_year", &[Vector], 1, Vector, false),
    Function::new("days_in_month", &[Vector], 1, Vector, false),
    Function::new("deg", &[Vector], 0, Vector, false),
    Function::new("delta", &[Matrix], 0, Vector, false),
    Function::new("deriv", &[Matrix], 0, Vector, false),
    Function::new("double_exponential_smoothing", &[Matrix, Scalar, Scalar], 0, Vector, true),
    Function::new("end", &[], 0, Scalar, true),
    Function::new("exp", &[Vector], 0, Vector, false),
    Function::new("first_over_time", &[Matrix], 0, Vector, false),
    Function::new("floor", &[Vector], 0, Vector, false),
    Function::new("histogram_avg", &[Vector], 0, Vector, false),
    Function::new("histogram_count", &[Vector], 0, Vector, false),
    Function::new("histogram_fraction", &[Scalar, Scalar, Vector], 0, Vector, false),
    Function::new("histogram_quantile", &[Scalar, Vector], 0, Vector, false),
    Function::new("histogram_quantiles", &[Vector, String, Scalar, Scalar], 9, Vector, true),
    Function::new("histogram_stddev", &[Vector], 0, Vector, false),
    Function::new("histogram_stdvar", &[Vector], 0, Vector, false),
    Function::new("histogram_sum", &[Vector], 0, Vector, false),
    Function::new("hour", &[Vector], 1, Vector, false),
    Function::new("idelta", &[Matrix], 0, Vector, false),
    Function::new("increase", &[Matrix], 0, Vector, false),
    Function::new("info", &[Vector, Vector], 1, Vector, true),
    Function::new("irate", &[Matrix], 0, Vector, false),
    Function::new("label_join", &[Vector, String, String, String], -1, Vector, false),
    Function::new("label_replace", &[Vector, String, String, String, String], 0, Vector, false),
    Function::new("last_over_time", &[Matrix], 0, Vector, false),
    Function::new("ln", &[Vector], 0, Vector, false),
    Function::new("log10", &[Vector], 0, Vector, false),
    Function::new("log2", &[Vector], 0, Vector, false),
    Function::new("mad_over_time", &[Matrix], 0, Vector, true),
    Function::new("max_of", &[Scalar, Scalar], 0, Scalar, true),
    Function::new("max_over_time", &[Matrix], 0, Vector, false),
    Function::new("min_of", &[Scalar, Scalar], 0, Scalar, true),
    Function::new("min_over_time", &[Matrix], 0, Vector, false),
    Function::new("minute", &[Vector], 1, Vector, false),
    Function::new("month", &[Vector], 1, Vector, false),
    Function::new("pi", &[], 0, Scalar, false),
    Function::new("predict_linear", &[Matrix, Scalar], 0, Vector, false),
    Function::new("present_over_time", &[Matrix], 0, Vector, false),
    Function::new("quantile_over_time", &[Scalar, Matrix], 0, Vector, false),
    Function::new("rad", &[Vector], 0, Vector, false),
    Function::new("range", &[], 0, Scalar, true),
    Function::new("rate", &[Matrix], 0, Vector, false),
    Function::new("resets", &[Matrix], 0, Vector, false),
    Function::new("round", &[Vector, Scalar], 1, Vector, false),
    Function::new("scalar", &[Vector], 0, Scalar, false),
    Function::new("sgn", &[Vector], 0, Vector, false),
    Function::new("sin", &[Vector], 0, Vector, false),
    Function::new("sinh", &[Vector], 0, Vector, false),
    Function::new("sort", &[Vector], 0, Vector, false),
    Function::new("sort_by_label", &[Vector, String], -1, Vector, true),
    Function::new("sort_by_label_desc", &[Vector, String], -1, Vector, true),
    Function::new("sort_desc", &[Vector], 0, Vector, false),
    Function::new("sqrt", &[Vector], 0, Vector, false),
    Function::new("start", &[], 0, Scalar, true),
    Function::new("start_timestamp", &[Vector], 0, Vector, true),
    Function::new("stddev_over_time", &[Matrix], 0, Vector, false),
    Function::new("stdvar_over_time", &[Matrix], 0, Vector, false),
    Function::new("step", &[], 0, Scalar, true),
    Function::new("sum_over_time", &[Matrix], 0, Vector, false),
    Function::new("tan", &[Vector], 0, Vector, false),
    Function::new("tanh", &[Vector], 0, Vector, false),
    Function::new("time", &[], 0, Scalar, false),
    Function::new("timestamp", &[Vector], 0, Vector, false),
    Function::new("ts_of_first_over_time", &[Matrix], 0, Vector, true),
    Function::new("ts_of_last_over_time", &[Matrix], 0, Vector, true),
    Function::new("ts_of_max_over_time", &[Matrix], 0, Vector, true),
    Function::new("ts_of_min_over_time", &[Matrix], 0, Vector, true),
    Function::new("vector", &[Scalar], 0, Vector, false),
    Function::new("year", &[Vector], 1, Vector, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ascend() {
        assert!(FUNCTIONS.windows(2).all(|w| w[0].name < w[1].name));
        assert!(Function::find("rate").is_some() && Function::find("rat").is_none());
    }
}
