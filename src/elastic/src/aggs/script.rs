//! Formulas of `bucket_script` and `bucket_selector`: the expressions of Painless over numbers.
//!
//! Numbers, `params.name`, `+ - * / %`, comparisons, `&& || !`, `c ? a : b`, parentheses and the functions of `Math`
//! over numbers. Truth is 1 and 0. An integer division is one of numbers with fractions, as all variables are.

use crate::Error;

/// Longest formula in bytes.
const BYTES_MAX: usize = 16_384;
const DEPTH_MAX: usize = 50;

/// A compiled formula.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Script {
    Number(f64),
    Variable(String),
    Unary(char, Box<Script>),
    Binary(&'static str, Box<Script>, Box<Script>),
    If(Box<(Script, Script, Script)>),
    Call(&'static str, Vec<Script>),
}

const OPERATORS: &[&[&str]] =
    &[&["||"], &["&&"], &["==", "!="], &["<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];
const FUNCTIONS: &[(&str, usize)] = &[
    ("abs", 1),
    ("ceil", 1),
    ("floor", 1),
    ("round", 1),
    ("rint", 1),
    ("sqrt", 1),
    ("cbrt", 1),
    ("exp", 1),
    ("log", 1),
    ("log10", 1),
    ("signum", 1),
    ("sin", 1),
    ("cos", 1),
    ("tan", 1),
    ("min", 2),
    ("max", 2),
    ("pow", 2),
    ("hypot", 2),
];

impl Script {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |rest: &str| {
            let at = text.len() - rest.len();
            Error::Request {
                kind: "script_exception",
                reason: format!(
                    "compile error at character {at}: only expressions of numbers and params are supported"
                ),
                status: 400,
                in_phase: false,
            }
        };
        if text.len() > BYTES_MAX {
            return Err(bad(text));
        }
        let body = text.trim().trim_end_matches(';');
        let body = body.strip_prefix("return ").unwrap_or(body);
        let mut parser = Parser { rest: body };
        match parser.ternary(0) {
            Some(script) if parser.rest.trim().is_empty() => Ok(script),
            _ => Err(bad(parser.rest)),
        }
    }

    /// The names of its variables.
    pub(super) fn evaluate(&self, variables: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
        Some(match self {
            Self::Number(n) => *n,
            Self::Variable(name) => variables(name)?,
            Self::Unary('!', inner) => truth(inner.evaluate(variables)? == 0.0),
            Self::Unary(_, inner) => -inner.evaluate(variables)?,
            Self::If(parts) => {
                let (condition, yes, no) = &**parts;
                if condition.evaluate(variables)? != 0.0 { yes.evaluate(variables)? } else { no.evaluate(variables)? }
            }
            Self::Binary("&&", a, b) => truth(a.evaluate(variables)? != 0.0 && b.evaluate(variables)? != 0.0),
            Self::Binary("||", a, b) => truth(a.evaluate(variables)? != 0.0 || b.evaluate(variables)? != 0.0),
            Self::Binary(operator, a, b) => {
                let (a, b) = (a.evaluate(variables)?, b.evaluate(variables)?);
                match *operator {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => a * b,
                    "/" => a / b,
                    "%" => a % b,
                    "<" => truth(a < b),
                    "<=" => truth(a <= b),
                    ">" => truth(a > b),
                    ">=" => truth(a >= b),
                    "==" => truth(a == b),
                    _ => truth(a != b),
                }
            }
            Self::Call(name, arguments) => {
                let a = arguments.first()?.evaluate(variables)?;
                let b = match arguments.get(1) {
                    Some(b) => b.evaluate(variables)?,
                    None => 0.0,
                };
                match *name {
                    "abs" => a.abs(),
                    "ceil" => a.ceil(),
                    "floor" => a.floor(),
                    "round" => (a + 0.5).floor(),
                    "rint" => a.round_ties_even(),
                    "sqrt" => a.sqrt(),
                    "cbrt" => a.cbrt(),
                    "exp" => a.exp(),
                    "log" => a.ln(),
                    "log10" => a.log10(),
                    "signum" => {
                        if a == 0.0 {
                            0.0
                        } else {
                            a.signum()
                        }
                    }
                    "sin" => a.sin(),
                    "cos" => a.cos(),
                    "tan" => a.tan(),
                    "min" => a.min(b),
                    "max" => a.max(b),
                    "pow" => a.powf(b),
                    _ => a.hypot(b),
                }
            }
        })
    }
}

fn truth(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn ternary(&mut self, depth: usize) -> Option<Script> {
        if depth > DEPTH_MAX {
            return None;
        }
        let condition = self.binary(0, depth)?;
        if !self.take("?") {
            return Some(condition);
        }
        let yes = self.ternary(depth + 1)?;
        if !self.take(":") {
            return None;
        }
        let no = self.ternary(depth + 1)?;
        Some(Script::If(Box::new((condition, yes, no))))
    }

    fn binary(&mut self, level: usize, depth: usize) -> Option<Script> {
        let Some(operators) = OPERATORS.get(level) else { return self.unary(depth) };
        let mut left = self.binary(level + 1, depth)?;
        // A long chain makes a tree as deep as it is long.
        let mut links = 0;
        while let Some(operator) = operators.iter().find(|o| self.take(o)) {
            links += 1;
            if links > 500 {
                return None;
            }
            let right = self.binary(level + 1, depth)?;
            left = Script::Binary(operator, Box::new(left), Box::new(right));
        }
        Some(left)
    }

    fn unary(&mut self, depth: usize) -> Option<Script> {
        if depth > DEPTH_MAX {
            return None;
        }
        for sign in ['-', '!'] {
            if self.take(sign.encode_utf8(&mut [0; 4])) {
                return Some(Script::Unary(sign, Box::new(self.unary(depth + 1)?)));
            }
        }
        self.take("+");
        if self.take("(") {
            let inner = self.ternary(depth + 1)?;
            return self.take(")").then_some(inner);
        }
        self.rest = self.rest.trim_start();
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
            let mut end = end;
            // An exponent.
            if let Some(after) = self.rest[end..].strip_prefix(['e', 'E']) {
                let sign = usize::from(after.starts_with(['+', '-']));
                let digits = after[sign..].bytes().take_while(u8::is_ascii_digit).count();
                if digits > 0 {
                    end += 1 + sign + digits;
                }
            }
            let number = self.rest[..end].parse().ok()?;
            self.rest = self.rest[end..].trim_start_matches(['d', 'D', 'f', 'F', 'L', 'l']);
            return Some(Script::Number(number));
        }
        let name = self.name()?;
        if name == "true" || name == "false" {
            return Some(Script::Number(truth(name == "true")));
        }
        match name.split_once('.') {
            Some(("params", variable)) => Some(Script::Variable(variable.to_owned())),
            Some(("Math", "PI")) => Some(Script::Number(std::f64::consts::PI)),
            Some(("Math", "E")) => Some(Script::Number(std::f64::consts::E)),
            Some(("Math", function)) => {
                let (name, count) = FUNCTIONS.iter().find(|(name, _)| *name == function)?;
                let mut arguments = Vec::new();
                if !self.take("(") {
                    return None;
                }
                for at in 0..*count {
                    if at > 0 && !self.take(",") {
                        return None;
                    }
                    arguments.push(self.ternary(depth + 1)?);
                }
                self.take(")").then_some(Script::Call(name, arguments))
            }
            None if name == "params" && self.take("[") => {
                let quote = if self.take("'") { "'" } else { "\"" };
                if quote == "\"" && !self.take("\"") {
                    return None;
                }
                let (variable, rest) = self.rest.split_once(quote)?;
                self.rest = rest;
                let variable = Script::Variable(variable.to_owned());
                self.take("]").then_some(variable)
            }
            // Expressions of old name variables by themselves.
            None => Some(Script::Variable(name)),
            Some(_) => None,
        }
    }

    fn name(&mut self) -> Option<String> {
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<f64>) {
        let script = Script::parse(text);
        let got = script.ok().and_then(|s| {
            s.evaluate(&|name| match name {
                "a" => Some(6.0),
                "b" => Some(4.0),
                _ => None,
            })
        });
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn formulas_are_evaluated() {
        check("params.a / params.b", Some(1.5));
        check("params.a + params.b * 2 - 1", Some(13.0));
        check("(params.a + params['b']) * -1", Some(-10.0));
        check("params.a > params.b ? params.a : params.b", Some(6.0));
        check("return Math.max(params.a, 10) + Math.abs(-1.5e1);", Some(25.0));
        check("a % b == 2 && !(a < b)", Some(1.0));
        check("params.c + 1", None);
        for bad in [
            "",
            "params.a +",
            "System.exit(0)",
            "params.a; params.b",
            "Math.max(1)",
            &"(".repeat(1000),
            &"-".repeat(1000),
        ] {
            assert!(Script::parse(bad).is_err(), "{bad}");
        }
    }
}
