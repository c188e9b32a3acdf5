//! The tree of a TraceQL query. [`std::fmt::Display`] writes it in canonical form.

use std::sync::Arc;

use trefoil_model::re2::Regex;

pub use crate::value::Value;

/// A place in the text of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub col: u32,
}

/// Where an attribute is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `.a`: span, then resource, event, link, instrumentation.
    Any,
    /// `span.a`
    Span,
    /// `resource.a`
    Resource,
    /// `event.a`: of any event.
    Event,
    /// `link.a`: of any link.
    Link,
    /// `instrumentation.a`
    Instrumentation,
}

impl Scope {
    /// The word before the dot, "" for [`Scope::Any`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Span => "span",
            Self::Resource => "resource",
            Self::Event => "event",
            Self::Link => "link",
            Self::Instrumentation => "instrumentation",
        }
    }
}

/// A value that every span has by itself, not by an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Intrinsic {
    /// Length of the span.
    Duration,
    /// Its name.
    Name,
    /// Its outcome.
    Status,
    /// What was said of the outcome.
    StatusMessage,
    /// Its role.
    Kind,
    /// Name of the root span, "" without one.
    RootName,
    /// Service of the root span, "" without one.
    RootServiceName,
    /// From the first start to the last end in the trace.
    TraceDuration,
    /// Hexadecimal, 32 digits.
    TraceId,
    /// Hexadecimal, 16 digits.
    SpanId,
    /// Hexadecimal, "" for a root.
    ParentId,
    /// Number of spans that have this one as parent.
    ChildCount,
    /// Number in a walk through the tree: on entering the span; 0 when no root leads to it.
    NestedSetLeft,
    /// On leaving it.
    NestedSetRight,
    /// [`Self::NestedSetLeft`] of the parent, -1 for a root.
    NestedSetParent,
    /// Names of the events.
    EventName,
    /// Times of the events since the start of the span.
    EventTimeSinceStart,
    /// Traces that the links name.
    LinkTraceId,
    /// Spans that the links name.
    LinkSpanId,
    /// Name of the library.
    InstrumentationName,
    /// Version of the library.
    InstrumentationVersion,
}

impl Intrinsic {
    /// Every intrinsic.
    pub const ALL: [Self; 21] = [
        Self::Duration,
        Self::Name,
        Self::Status,
        Self::StatusMessage,
        Self::Kind,
        Self::RootName,
        Self::RootServiceName,
        Self::TraceDuration,
        Self::TraceId,
        Self::SpanId,
        Self::ParentId,
        Self::ChildCount,
        Self::NestedSetLeft,
        Self::NestedSetRight,
        Self::NestedSetParent,
        Self::EventName,
        Self::EventTimeSinceStart,
        Self::LinkTraceId,
        Self::LinkSpanId,
        Self::InstrumentationName,
        Self::InstrumentationVersion,
    ];

    /// The canonical name, which result labels carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Name => "name",
            Self::Status => "status",
            Self::StatusMessage => "statusMessage",
            Self::Kind => "kind",
            Self::RootName => "rootName",
            Self::RootServiceName => "rootServiceName",
            Self::TraceDuration => "traceDuration",
            Self::TraceId => "trace:id",
            Self::SpanId => "span:id",
            Self::ParentId => "span:parentID",
            Self::ChildCount => "span:childCount",
            Self::NestedSetLeft => "nestedSetLeft",
            Self::NestedSetRight => "nestedSetRight",
            Self::NestedSetParent => "nestedSetParent",
            Self::EventName => "event:name",
            Self::EventTimeSinceStart => "event:timeSinceStart",
            Self::LinkTraceId => "link:traceID",
            Self::LinkSpanId => "link:spanID",
            Self::InstrumentationName => "instrumentation:name",
            Self::InstrumentationVersion => "instrumentation:version",
        }
    }

    /// The second name of some: `span:duration`, `trace:rootName`.
    pub fn scoped(self) -> &'static str {
        match self {
            Self::Duration => "span:duration",
            Self::Name => "span:name",
            Self::Status => "span:status",
            Self::StatusMessage => "span:statusMessage",
            Self::Kind => "span:kind",
            Self::RootName => "trace:rootName",
            Self::RootServiceName => "trace:rootService",
            Self::TraceDuration => "trace:duration",
            other => other.as_str(),
        }
    }

    /// By either name, or `childCount`.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "childCount" {
            return Some(Self::ChildCount);
        }
        Self::ALL.into_iter().find(|i| i.as_str() == name || i.scoped() == name)
    }
}

/// What a span is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// A named attribute.
    Named {
        /// Where.
        scope: Scope,
        /// Its name.
        name: String,
    },
    /// A value that every span has.
    Intrinsic(Intrinsic),
}

impl Attribute {
    /// True for `resource.service.name`, which every span has ("" when nobody said).
    pub fn is_service_name(&self) -> bool {
        matches!(self, Self::Named { scope: Scope::Resource, name } if name == "service.name")
    }

    /// The name without its scope, as search results show it.
    pub fn bare_name(&self) -> &str {
        match self {
            Self::Named { name, .. } => name,
            Self::Intrinsic(i) => i.as_str(),
        }
    }
}

/// An operator on values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldOp {
    /// `&&`
    And,
    /// `||`
    Or,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
}

impl FieldOp {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::And => "&&",
            Self::Or => "||",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Match => "=~",
            Self::NotMatch => "!~",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }

    /// True for operators that compare.
    pub fn is_comparison(self) -> bool {
        self.is_order() || matches!(self, Self::Equal | Self::NotEqual | Self::Match | Self::NotMatch)
    }

    /// True for `< <= > >=`.
    pub fn is_order(self) -> bool {
        matches!(self, Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }

    /// How tightly it binds; greater is tighter. `!` stands at 4.
    pub(crate) fn level(self) -> u8 {
        match self {
            Self::And | Self::Or => 1,
            Self::Add | Self::Sub => 3,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
            _ => 2,
        }
    }
}

/// The level of `!` among [`FieldOp::level`].
pub(crate) const NOT_LEVEL: u8 = 4;

/// An operator on one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `!`
    Not,
    /// `-`
    Negate,
}

/// An expression over one span.
#[derive(Debug, Clone)]
pub struct FieldExpr {
    /// What it is.
    pub kind: FieldKind,
    /// Where it starts; of a binary operation where its operator stands.
    pub position: Position,
}

/// What an expression over one span is.
#[derive(Debug, Clone)]
pub enum FieldKind {
    /// A constant.
    Value(Value),
    /// Something of the span.
    Attribute(Attribute),
    /// `!a`, `-a`
    Unary(UnaryOp, Box<FieldExpr>),
    /// `a + b`
    Binary(Box<BinaryField>),
}

/// An operation on two values.
#[derive(Debug, Clone)]
pub struct BinaryField {
    /// Operator.
    pub op: FieldOp,
    /// Left side.
    pub lhs: FieldExpr,
    /// Right side.
    pub rhs: FieldExpr,
    /// The compiled right side of `=~` and `!~`.
    pub regex: Option<Arc<Regex>>,
}

/// How two spans relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `>`: the right span is a child of the left.
    Child,
    /// `>>`: it is below.
    Descendant,
    /// `<`: it is the parent.
    Parent,
    /// `<<`: it is above.
    Ancestor,
    /// `~`: they have the same parent.
    Sibling,
}

impl Relation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Child, Self::Descendant, Self::Parent, Self::Ancestor, Self::Sibling];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Child => ">",
            Self::Descendant => ">>",
            Self::Parent => "<",
            Self::Ancestor => "<<",
            Self::Sibling => "~",
        }
    }
}

/// Which spans of related pairs are the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keep {
    /// Right spans that relate to a left one.
    Right,
    /// `!`: right spans that relate to none.
    Unrelated,
    /// `&`: both sides of each pair.
    Both,
}

/// An operator on span sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetOp {
    /// `&&`: the spans of both when both have some.
    And,
    /// `||`
    Or,
    /// A structural operator.
    Structural(Relation, Keep),
}

/// What gives spans of a trace.
#[derive(Debug, Clone)]
pub enum SetExpr {
    /// `{ ... }`; `None` takes all.
    Filter(Option<FieldExpr>),
    /// `A op B`
    Op {
        /// Operator.
        op: SetOp,
        /// Left side.
        lhs: Box<SetExpr>,
        /// Right side.
        rhs: Box<SetExpr>,
    },
    /// A pipeline in parentheses.
    Pipeline(Pipeline),
}

/// Stages, each on what the one before gave; the first on all spans of a trace. Never empty.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The stages.
    pub stages: Vec<Stage>,
}

/// One stage.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Selects spans.
    Spans(SetExpr),
    /// Keeps the sets whose aggregate compares.
    Aggregate(AggregateFilter),
    /// Splits each set by a value.
    By(FieldExpr),
    /// Joins the sets of a trace.
    Coalesce,
    /// Adds attributes to the result.
    Select(Vec<Attribute>),
}

/// An aggregate of a span set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// Number of spans.
    Count,
    /// Mean.
    Avg,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// Sum.
    Sum,
}

impl Aggregate {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
        }
    }
}

/// `max(duration) > 1s`
#[derive(Debug, Clone)]
pub struct AggregateFilter {
    /// The aggregate.
    pub aggregate: Aggregate,
    /// What it is taken of; `None` for `count()`.
    pub argument: Option<FieldExpr>,
    /// A comparison.
    pub op: FieldOp,
    /// A number or a duration.
    pub value: Value,
}

/// A function that makes series.
#[derive(Debug, Clone)]
pub enum MetricsFunction {
    /// Spans a second.
    Rate,
    /// Spans.
    CountOverTime,
    /// Least value.
    MinOverTime(Attribute),
    /// Greatest value.
    MaxOverTime(Attribute),
    /// Mean.
    AvgOverTime(Attribute),
    /// Sum.
    SumOverTime(Attribute),
    /// Quantiles, from buckets that are powers of two.
    QuantileOverTime(Attribute, Vec<f64>),
    /// Counts by bucket.
    HistogramOverTime(Attribute),
    /// How often the attributes have their values among selected spans and among the others.
    Compare {
        /// What selects.
        selection: Option<FieldExpr>,
        /// So many values of an attribute.
        top: usize,
        /// Spans outside of these Unix nanoseconds are never selected.
        window: Option<(i64, i64)>,
    },
}

impl MetricsFunction {
    /// As written.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::CountOverTime => "count_over_time",
            Self::MinOverTime(_) => "min_over_time",
            Self::MaxOverTime(_) => "max_over_time",
            Self::AvgOverTime(_) => "avg_over_time",
            Self::SumOverTime(_) => "sum_over_time",
            Self::QuantileOverTime(..) => "quantile_over_time",
            Self::HistogramOverTime(_) => "histogram_over_time",
            Self::Compare { .. } => "compare",
        }
    }
}

/// `{ ... } | rate() by (name)`
#[derive(Debug, Clone)]
pub struct MetricsLeaf {
    /// Which spans.
    pub pipeline: Pipeline,
    /// What is computed.
    pub function: MetricsFunction,
    /// One series for each combination of these.
    pub by: Vec<Attribute>,
}

/// What gives series.
#[derive(Debug, Clone)]
pub enum MetricsExpr {
    /// Spans to series.
    Leaf(Box<MetricsLeaf>),
    /// `topk` (true), `bottomk` of so many series at each step.
    Rank(bool, u64, Box<MetricsExpr>),
    /// `A > 5`: keeps points.
    Filter(FieldOp, Value, Box<MetricsExpr>),
    /// `(A) / (B)`; one side may be a number.
    Math(FieldOp, Box<MetricsExpr>, Box<MetricsExpr>),
    /// A side of [`MetricsExpr::Math`].
    Number(f64),
}

/// What a query gives.
#[derive(Debug, Clone)]
pub enum QueryKind {
    /// Span sets of traces.
    Search(Pipeline),
    /// Series.
    Metrics(MetricsExpr),
}

/// A whole query.
#[derive(Debug, Clone)]
pub struct Query {
    /// What it gives.
    pub kind: QueryKind,
    /// `with (name=value, ...)`
    pub hints: Vec<(String, Value)>,
}

impl Query {
    /// The value of a hint.
    pub fn hint(&self, name: &str) -> Option<&Value> {
        self.hints.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}
