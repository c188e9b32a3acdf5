//! The tree of a parsed query. Every node knows its place.

use trefoil_model::Matcher;

/// Line and column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub col: u32,
}

/// A query.
#[derive(Debug, Clone)]
pub enum Expr {
    /// Gives log lines.
    Log(LogExpr),
    /// Gives numbers.
    Metric(MetricExpr),
}

/// A selector with its pipeline.
#[derive(Debug, Clone)]
pub struct LogExpr {
    /// Place of the selector.
    pub position: Position,
    /// Matchers on stream labels.
    pub matchers: Vec<Matcher>,
    /// The pipeline in order.
    pub stages: Vec<Stage>,
}

/// One step of a pipeline.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Where it starts.
    pub position: Position,
    /// What it does.
    pub kind: StageKind,
}

/// What a stage does.
#[derive(Debug, Clone)]
pub enum StageKind {
    /// `|= != |~ !~ |> !>`
    LineFilter(LineFilter),
    /// `json`, with expressions only these.
    Json(Vec<Extraction>),
    /// `logfmt`
    Logfmt {
        /// `--strict`
        strict: bool,
        /// `--keep-empty`
        keep_empty: bool,
        /// Without any: all keys.
        extractions: Vec<Extraction>,
    },
    /// `regexp "…"`
    Regexp(String),
    /// `pattern "…"`
    Pattern(String),
    /// `unpack`
    Unpack,
    /// `decolorize`
    Decolorize,
    /// A label filter.
    LabelFilter(LabelFilter),
    /// `line_format "…"`
    LineFormat(String),
    /// `label_format …`
    LabelFormat(Vec<LabelFormat>),
    /// `drop …`
    Drop(Vec<LabelPick>),
    /// `keep …`
    Keep(Vec<LabelPick>),
}

/// `label="expression"` of `json` and `logfmt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// Label to set.
    pub label: String,
    /// Path (json) or key (logfmt).
    pub expression: String,
}

/// Operators of line filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Regex,
    /// `!~`
    NotRegex,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineOp {
    /// True for the operators that drop matching lines.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotContains | Self::NotRegex | Self::NotPattern)
    }
}

/// One line filter with its alternatives.
#[derive(Debug, Clone)]
pub struct LineFilter {
    /// Operator.
    pub op: LineOp,
    /// At least one; joined by `or`.
    pub alternatives: Vec<LineNeedle>,
}

/// What a line filter looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineNeedle {
    /// Text, regular expression or pattern.
    Text(String),
    /// `ip("…")`
    Ip(String),
}

/// Comparison operators on numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// `=` or `==`
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
}

/// A condition on labels.
#[derive(Debug, Clone)]
pub enum LabelFilter {
    /// On text.
    Matcher(Matcher),
    /// On a number.
    Number(String, Compare, f64),
    /// On a Go duration, in nanoseconds.
    Duration(String, Compare, i64),
    /// On a size in bytes.
    Bytes(String, Compare, u64),
    /// On an address; the flag is true for `!=`.
    Ip(String, bool, String),
    /// Both.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// Either.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// One assignment of `label_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFormat {
    /// Label to set.
    pub target: String,
    /// From where.
    pub source: LabelSource,
}

/// The right side in `label_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelSource {
    /// Another label, which is removed.
    Label(String),
    /// A template.
    Template(String),
}

/// What `drop` and `keep` name.
#[derive(Debug, Clone)]
pub enum LabelPick {
    /// A label.
    Name(String),
    /// A label where its value matches.
    Matcher(Matcher),
}

/// A metric expression.
#[derive(Debug, Clone)]
pub struct MetricExpr {
    /// Where it starts; of binary operators the operator.
    pub position: Position,
    /// What it is.
    pub kind: MetricKind,
}

/// Kinds of metric expressions.
#[derive(Debug, Clone)]
pub enum MetricKind {
    /// `rate({…}[5m])` and the like.
    Range(Box<RangeAggregation>),
    /// `sum by (a) (…)` and the like.
    Aggregation(Box<VectorAggregation>),
    /// Two operands.
    Binary(Box<Binary>),
    /// `label_replace(…)`
    LabelReplace(Box<LabelReplace>),
    /// `vector(n)`
    Vector(f64),
    /// A number.
    Literal(f64),
}

/// Functions over a range of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the function names")]
pub enum RangeOp {
    Rate,
    RateCounter,
    Count,
    BytesRate,
    Bytes,
    Absent,
    Sum,
    Avg,
    Min,
    Max,
    Stdvar,
    Stddev,
    Quantile,
    First,
    Last,
}

/// `by (…)` or `without (…)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    /// `without`
    pub without: bool,
    /// Label names.
    pub labels: Vec<String>,
}

/// A range aggregation.
#[derive(Debug, Clone)]
pub struct RangeAggregation {
    /// Function.
    pub op: RangeOp,
    /// The quantile.
    pub parameter: Option<f64>,
    /// The lines.
    pub log: LogExpr,
    /// Length of the window in nanoseconds, above 0.
    pub range_ns: i64,
    /// How far the window is moved into the past.
    pub offset_ns: i64,
    /// Which label gives the values.
    pub unwrap: Option<Unwrap>,
    /// Grouping behind the function.
    pub grouping: Option<Grouping>,
}

/// `unwrap label`
#[derive(Debug, Clone)]
pub struct Unwrap {
    /// Label.
    pub label: String,
    /// How its text becomes a number.
    pub conversion: Conversion,
    /// Label filters behind it.
    pub filters: Vec<LabelFilter>,
}

/// How `unwrap` reads a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// As a number.
    Number,
    /// As a Go duration, in seconds.
    Duration,
    /// As a size, in bytes.
    Bytes,
}

/// Functions over series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the function names")]
pub enum VectorOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    ApproxTopK,
    Sort,
    SortDesc,
}

/// A vector aggregation.
#[derive(Debug, Clone)]
pub struct VectorAggregation {
    /// Function.
    pub op: VectorOp,
    /// k of topk, bottomk and approx_topk; at least 1.
    pub parameter: Option<u32>,
    /// Default: all series in one group.
    pub grouping: Option<Grouping>,
    /// The series.
    pub inner: MetricExpr,
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the operators")]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl BinaryOp {
    /// True for `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// True for comparisons.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }
}

/// `group_left` and `group_right`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Group {
    /// Neither.
    #[default]
    None,
    /// Many on the left.
    Left,
    /// Many on the right.
    Right,
}

/// How two sides pair.
#[derive(Debug, Clone, Default)]
pub struct Matching {
    /// `on` rather than `ignoring`.
    pub on: bool,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Which side may have several.
    pub group: Group,
    /// Labels taken over from the one side.
    pub include: Vec<String>,
}

/// A binary expression.
#[derive(Debug, Clone)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// `bool`
    pub return_bool: bool,
    /// Pairing.
    pub matching: Matching,
    /// Left side.
    pub lhs: MetricExpr,
    /// Right side.
    pub rhs: MetricExpr,
}

/// `label_replace(v, dst, replacement, src, regex)`
#[derive(Debug, Clone)]
pub struct LabelReplace {
    /// The series.
    pub inner: MetricExpr,
    /// Label to set.
    pub target: String,
    /// With `$1`.
    pub replacement: String,
    /// Label to read.
    pub source: String,
    /// Anchored.
    pub regex: String,
}
