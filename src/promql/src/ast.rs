//! The syntax tree of a query. Every node knows its place in the text.

use trefoil_model::Matcher;

use crate::algebra::{AggregateOp, BinaryOp, Grouping, Matching};
use crate::functions::Function;

/// Bytes of the query: `start <= i < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PositionRange {
    /// First byte.
    pub start: usize,
    /// First byte after.
    pub end: usize,
}

impl PositionRange {
    /// Makes a range.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// From the start of `self` to the end of `other`.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// Line and column (bytes) of a byte of the query, both from 1.
pub fn line_column(query: &str, at: usize) -> (usize, usize) {
    let before = &query.as_bytes()[..at.min(query.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    (line, before.len() - start + 1)
}

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A number a step.
    Scalar,
    /// A text.
    String,
    /// A value a series and step.
    Vector,
    /// A range of samples a series and step.
    Matrix,
}

impl ValueType {
    /// The name in messages.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }

    /// The name in API answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// Where it stands.
    pub position: PositionRange,
    /// What it is.
    pub kind: ExprKind,
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A number, or a duration in seconds.
    Number {
        /// Value.
        value: f64,
        /// True when written as a duration.
        duration: bool,
    },
    /// A text.
    String(String),
    /// `( … )`
    Paren(Box<Expr>),
    /// `+` or `-` before an expression.
    Unary {
        /// True for `-`.
        negative: bool,
        /// Operand.
        expr: Box<Expr>,
    },
    /// An operator between two expressions.
    Binary(Box<Binary>),
    /// An aggregation.
    Aggregate(Box<Aggregate>),
    /// A function call.
    Call {
        /// Function.
        function: &'static Function,
        /// Arguments.
        args: Vec<Expr>,
    },
    /// An instant selector.
    Vector(Box<VectorSelector>),
    /// A range selector.
    Matrix(Box<MatrixSelector>),
    /// A subquery.
    Subquery(Box<Subquery>),
    /// An expression whose value is the same at every step; made by the engine, never by the parser.
    StepInvariant(Box<Expr>),
}

/// An operator between two expressions.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Expr,
    /// Right operand.
    pub rhs: Expr,
    /// True with `bool`.
    pub return_bool: bool,
    /// Matching modifiers; not looked at unless both operands are vectors.
    pub matching: Matching,
}

impl Drop for Binary {
    /// Long chains nest to the left: they are taken apart one by one, not by recursion.
    fn drop(&mut self) {
        let nothing = || Expr::new(PositionRange::default(), ExprKind::Number { value: 0.0, duration: false });
        let mut lhs = std::mem::replace(&mut self.lhs, nothing());
        while let ExprKind::Binary(b) = &mut lhs.kind {
            lhs = std::mem::replace(&mut b.lhs, nothing());
        }
    }
}

/// An aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Operator.
    pub op: AggregateOp,
    /// Grouping.
    pub grouping: Grouping,
    /// Parameter of `topk` and others.
    pub param: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
}

/// The time to which `@` pins a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Unix milliseconds.
    Time(i64),
    /// Start of the query's range.
    Start,
    /// End of the query's range.
    End,
}

/// How samples at the edges of a range are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RangeMode {
    /// They are not.
    #[default]
    Plain,
    /// The last sample before the edge stands at the edge.
    Anchored,
    /// Edges are interpolated.
    Smoothed,
}

/// An instant selector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name before the braces, if one stands there. `matchers` then holds its matcher last.
    pub name: Option<String>,
    /// Matchers.
    pub matchers: Vec<Matcher>,
    /// `offset`
    pub offset: Duration,
    /// `@`
    pub at: Option<At>,
    /// `anchored` or `smoothed`.
    pub mode: RangeMode,
    /// The second argument of `info()` may match everything.
    pub may_be_empty: bool,
    /// Only count and sum of histograms are looked at; set by the engine, never by the parser.
    pub stats_only: bool,
    /// Only which samples there are is looked at, not their values; set by the engine, never by the parser.
    pub presence_only: bool,
}

/// A range selector.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The selector before the brackets; it holds offset, `@` and mode.
    pub selector: VectorSelector,
    /// Where that selector stands.
    pub selector_position: PositionRange,
    /// Length of the range.
    pub range: Duration,
}

/// A subquery.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// Evaluated at each inner step.
    pub expr: Expr,
    /// Length of the range.
    pub range: Duration,
    /// Inner step; `None` for the default.
    pub step: Option<Duration>,
    /// `offset`
    pub offset: Duration,
    /// `@`
    pub at: Option<At>,
}

/// A length of time.
#[derive(Debug, Clone, PartialEq)]
pub enum Duration {
    /// Milliseconds.
    Fixed(i64),
    /// To be computed when the step and range of the query are known.
    Expr(Box<DurationExpr>),
}

impl Duration {
    /// No time.
    pub const ZERO: Self = Self::Fixed(0);

    /// Milliseconds; 0 when not yet computed.
    pub fn ms(&self) -> i64 {
        match self {
            Self::Fixed(ms) => *ms,
            Self::Expr(_) => 0,
        }
    }

    /// True unless it is no offset at all.
    pub fn is_set(&self) -> bool {
        *self != Self::ZERO
    }
}

/// A duration expression.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationExpr {
    /// Where it stands.
    pub position: PositionRange,
    /// What it is.
    pub kind: DurationKind,
}

/// What a duration expression is.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationKind {
    /// Seconds; true when written as a duration.
    Number(f64, bool),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `+` or `-` (true) before an expression.
    Unary(bool, Box<DurationExpr>),
    /// `+ - * / % ^` between expressions.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
    /// `( … )`
    Paren(Box<DurationExpr>),
}

impl Expr {
    /// Makes an expression.
    pub fn new(position: PositionRange, kind: ExprKind) -> Self {
        Self { position, kind }
    }

    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        // Chains nest to the left: no recursion there.
        let mut e = self;
        loop {
            e = match &e.kind {
                ExprKind::Number { .. } => return ValueType::Scalar,
                ExprKind::String(_) => return ValueType::String,
                ExprKind::Paren(e) | ExprKind::StepInvariant(e) => e,
                ExprKind::Unary { expr, .. } => expr,
                ExprKind::Binary(b) if b.rhs.value_type() != ValueType::Scalar => return ValueType::Vector,
                ExprKind::Binary(b) => &b.lhs,
                ExprKind::Aggregate(_) | ExprKind::Vector(_) => return ValueType::Vector,
                ExprKind::Call { function, .. } => return function.returns,
                ExprKind::Matrix(_) | ExprKind::Subquery(_) => return ValueType::Matrix,
            };
        }
    }

    /// The expression inside parentheses and step-invariant wrappers.
    pub fn unwrapped(&self) -> &Self {
        let mut e = self;
        while let ExprKind::Paren(inner) | ExprKind::StepInvariant(inner) = &e.kind {
            e = inner;
        }
        e
    }

    /// The direct children, in order of appearance.
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => Vec::new(),
            ExprKind::Paren(e) | ExprKind::StepInvariant(e) | ExprKind::Unary { expr: e, .. } => vec![e],
            ExprKind::Binary(b) => vec![&b.lhs, &b.rhs],
            ExprKind::Aggregate(a) => a.param.iter().chain(std::iter::once(&a.expr)).collect(),
            ExprKind::Call { args, .. } => args.iter().collect(),
            ExprKind::Subquery(s) => vec![&s.expr],
        }
    }

    /// Calls `f` for this node and all below.
    pub fn walk<'a>(&'a self, f: &mut impl FnMut(&'a Self)) {
        let mut open = vec![self];
        while let Some(e) = open.pop() {
            f(e);
            open.extend(e.children().into_iter().rev());
        }
    }

    /// The matchers of every selector, in order of appearance.
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        let mut out = Vec::new();
        self.walk(&mut |e| match &e.kind {
            ExprKind::Vector(v) => out.push(v.matchers.as_slice()),
            ExprKind::Matrix(m) => out.push(m.selector.matchers.as_slice()),
            _ => {}
        });
        out
    }
}
