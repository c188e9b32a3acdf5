//! What a query looks at in spans, and what every span of its result satisfies: for the store.

use trefoil_model::{
    AttributeValue, ConditionScope, Resource, Scope, Span, SpanAttributeWants, SpanCondition, SpanId, SpanKind,
    SpanWants, StatusCode, TraceFacts, TraceId,
};

use crate::ast::{
    Attribute, BinaryField, FieldExpr, FieldKind, FieldOp, Intrinsic, Keep, Pipeline, Scope as Place, SetExpr, SetOp,
    Stage, Value,
};
use crate::field::{Field, compare, evaluate};
use crate::trace_view::{SpanView, TraceView};

/// Whole numbers up to this are told apart as floats too.
const EXACT: u64 = 1 << 53;

/// What a query looks at in spans.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// Attributes of spans.
    names: Vec<String>,
    all_names: bool,
    resources: bool,
    events: bool,
    links: bool,
    messages: bool,
    /// Something that other spans of the trace decide.
    pub(crate) trace: bool,
    /// Ids of traces, spans or parents.
    pub(crate) ids: bool,
    /// Lengths.
    pub(crate) duration: bool,
}

impl Needs {
    /// Everything but events and links.
    pub(crate) fn attributes() -> Self {
        Self { all_names: true, resources: true, messages: true, ..Self::default() }
    }

    /// Everything.
    pub(crate) fn everything() -> Self {
        Self { events: true, links: true, ..Self::attributes() }
    }

    /// Messages of the status too.
    pub(crate) fn messages(&mut self) {
        self.messages = true;
    }

    pub(crate) fn pipeline(&mut self, pipeline: &Pipeline) {
        for stage in &pipeline.stages {
            match stage {
                Stage::Spans(set) => self.set(set),
                Stage::Aggregate(a) => a.argument.iter().for_each(|e| self.field(e)),
                Stage::By(e) => self.field(e),
                Stage::Coalesce => {}
                Stage::Select(attributes) => attributes.iter().for_each(|a| self.attribute(a)),
            }
        }
    }

    fn set(&mut self, set: &SetExpr) {
        match set {
            SetExpr::Filter(filter) => filter.iter().for_each(|e| self.field(e)),
            SetExpr::Op { lhs, rhs, .. } => {
                self.set(lhs);
                self.set(rhs);
            }
            SetExpr::Pipeline(p) => self.pipeline(p),
        }
    }

    pub(crate) fn field(&mut self, expr: &FieldExpr) {
        match &expr.kind {
            FieldKind::Value(_) => {}
            FieldKind::Attribute(a) => self.attribute(a),
            FieldKind::Unary(_, e) => self.field(e),
            FieldKind::Binary(b) => {
                self.field(&b.lhs);
                self.field(&b.rhs);
            }
        }
    }

    pub(crate) fn attribute(&mut self, attribute: &Attribute) {
        match attribute {
            a if a.is_service_name() => {}
            Attribute::Named { scope, name } => match scope {
                Place::Any => {
                    (self.resources, self.events, self.links) = (true, true, true);
                    self.name(name);
                }
                Place::Span => self.name(name),
                Place::Resource | Place::Instrumentation => self.resources = true,
                Place::Event => self.events = true,
                Place::Link => self.links = true,
            },
            Attribute::Intrinsic(i) => match i {
                Intrinsic::Name | Intrinsic::Status | Intrinsic::Kind => {}
                Intrinsic::InstrumentationName | Intrinsic::InstrumentationVersion => {}
                Intrinsic::Duration => self.duration = true,
                Intrinsic::StatusMessage => self.messages = true,
                Intrinsic::RootName
                | Intrinsic::RootServiceName
                | Intrinsic::TraceDuration
                | Intrinsic::ChildCount
                | Intrinsic::NestedSetLeft
                | Intrinsic::NestedSetRight
                | Intrinsic::NestedSetParent => self.trace = true,
                Intrinsic::TraceId | Intrinsic::SpanId | Intrinsic::ParentId => self.ids = true,
                Intrinsic::EventName | Intrinsic::EventTimeSinceStart => self.events = true,
                Intrinsic::LinkTraceId | Intrinsic::LinkSpanId => self.links = true,
            },
        }
    }

    fn name(&mut self, name: &str) {
        if !self.names.iter().any(|n| n == name) {
            self.names.push(name.to_owned());
        }
    }

    /// As the store is told.
    pub(crate) fn wants(&self) -> SpanWants<'_> {
        SpanWants {
            attributes: match self.all_names {
                true => SpanAttributeWants::All,
                false => SpanAttributeWants::Names(&self.names),
            },
            without_resources: !self.resources,
            without_events: !self.events,
            without_links: !self.links,
            without_messages: !self.messages,
            ..SpanWants::default()
        }
    }
}

/// Conditions that one span of each trace of the result satisfies.
#[derive(Default)]
pub(crate) struct Conditions<'q> {
    attributes: Vec<OfAttribute<'q>>,
    /// On name, kind and status alone.
    light: Vec<&'q FieldExpr>,
    /// On root and length of the trace alone.
    trace: Vec<&'q FieldExpr>,
    is_error: bool,
    is_root: bool,
}

type Test<'q> = Box<dyn Fn(&AttributeValue) -> bool + Sync + 'q>;

struct OfAttribute<'q> {
    scope: ConditionScope,
    name: &'q str,
    any_of: Vec<String>,
    test: Test<'q>,
}

impl OfAttribute<'_> {
    fn condition(&self) -> SpanCondition<'_> {
        SpanCondition { scope: self.scope, name: self.name, any_of: &self.any_of, test: &*self.test }
    }
}

impl<'q> Conditions<'q> {
    /// Those of a pipeline.
    pub(crate) fn of(pipeline: &'q Pipeline) -> Self {
        let mut conditions = Self::default();
        conditions.pipeline(pipeline);
        conditions
    }

    fn pipeline(&mut self, pipeline: &'q Pipeline) {
        for stage in &pipeline.stages {
            if let Stage::Spans(set) = stage {
                self.set(set);
            }
        }
    }

    fn set(&mut self, set: &'q SetExpr) {
        match set {
            SetExpr::Filter(Some(filter)) => self.field(filter),
            SetExpr::Pipeline(pipeline) => self.pipeline(pipeline),
            SetExpr::Op { op: SetOp::Structural(_, Keep::Right | Keep::Unrelated), rhs, .. } => self.set(rhs),
            SetExpr::Filter(None) | SetExpr::Op { .. } => {}
        }
    }

    /// Those of a filter.
    pub(crate) fn field(&mut self, expr: &'q FieldExpr) {
        if let FieldKind::Binary(b) = &expr.kind {
            if b.op == FieldOp::And {
                self.field(&b.lhs);
                self.field(&b.rhs);
                return;
            }
            self.comparison(b);
        }
        let is_light = |i: Intrinsic| matches!(i, Intrinsic::Name | Intrinsic::Kind | Intrinsic::Status);
        let is_of_trace =
            |i: Intrinsic| matches!(i, Intrinsic::RootName | Intrinsic::RootServiceName | Intrinsic::TraceDuration);
        if is_of(expr, &is_light) {
            self.light.push(expr);
        } else if is_of(expr, &is_of_trace) {
            self.trace.push(expr);
        }
        self.is_root |= asks_root(expr);
    }

    fn comparison(&mut self, b: &'q BinaryField) {
        let (FieldKind::Attribute(attribute), FieldKind::Value(value)) = (&b.lhs.kind, &b.rhs.kind) else { return };
        if !b.op.is_comparison() {
            return;
        }
        let (scope, name) = match attribute {
            Attribute::Named { scope: Place::Span, name } => (ConditionScope::Span, name),
            Attribute::Named { scope: Place::Resource, name } => (ConditionScope::Resource, name),
            Attribute::Named { scope: Place::Any, name } => (ConditionScope::Any, name),
            Attribute::Intrinsic(Intrinsic::Status) => {
                self.is_error |= b.op == FieldOp::Equal && *value == Value::Status(StatusCode::Error);
                return;
            }
            _ => return,
        };
        // Services are known of operations; no attribute of a span has to say them.
        let is_service = name == "service.name" && scope != ConditionScope::Span;
        let any_of = if b.op == FieldOp::Equal && !is_service { texts(value) } else { Vec::new() };
        let op = b.op;
        let test: Test<'q> = match value {
            Value::Nil => Box::new(move |found| matches!(found, AttributeValue::Null) == (op == FieldOp::Equal)),
            value => {
                let regex = b.regex.as_deref();
                Box::new(move |found| compare(op, &Field::of_attribute(found), &Field::of_value(value), regex))
            }
        };
        self.attributes.push(OfAttribute { scope, name, any_of, test });
    }

    /// Tells the store, by a call of `ask`.
    pub(crate) fn tell<T>(&self, wants: SpanWants<'_>, ask: impl FnOnce(&SpanWants<'_>) -> T) -> T {
        let list: Vec<SpanCondition<'_>> = self.attributes.iter().map(OfAttribute::condition).collect();
        let light = |span: &Span| self.holds_light(span);
        let trace = |facts: &TraceFacts<'_>| self.holds_trace(facts);
        ask(&SpanWants {
            conditions: &list,
            light: (!self.light.is_empty()).then_some(&light),
            is_error: self.is_error,
            is_root: self.is_root,
            trace: (!self.trace.is_empty()).then_some(&trace),
            ..wants
        })
    }

    /// Whether a trace satisfies what is asked of its root and length alone.
    fn holds_trace(&self, facts: &TraceFacts<'_>) -> bool {
        let (service, name) = facts.root.unwrap_or_default();
        let attributes = vec![("service.name".to_owned(), AttributeValue::String(service.to_owned()))];
        let (resource, scope) = (Resource { attributes, ..Resource::default() }, Scope::default());
        let span = blank(name);
        let spans = vec![SpanView { span: &span, resource: &resource, scope: &scope }];
        let root = facts.root.map(|_| 0);
        let mut trace = TraceView::of_spans(spans);
        (trace.root, trace.start_ns, trace.end_ns) = (root, facts.start_ns, facts.end_ns);
        self.trace.iter().all(|expr| evaluate(&trace, 0, expr).is_true())
    }

    /// Whether name, kind and status of a span satisfy what is asked of them alone.
    fn holds_light(&self, span: &Span) -> bool {
        let (resource, scope) = (Resource::default(), Scope::default());
        let trace = TraceView::of_spans(vec![SpanView { span, resource: &resource, scope: &scope }]);
        self.light.iter().all(|expr| evaluate(&trace, 0, expr).is_true())
    }
}

/// A span of which only the name is known.
fn blank(name: &str) -> Span {
    Span {
        trace_id: TraceId([0; 16]),
        span_id: SpanId([0; 8]),
        parent_span_id: None,
        trace_state: String::new(),
        flags: 0,
        name: name.to_owned(),
        kind: SpanKind::Unspecified,
        start_ns: 0,
        end_ns: 0,
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        status_code: StatusCode::Unset,
        status_message: String::new(),
        dropped: [0; 3],
    }
}

/// Whether an expression looks only at such intrinsics.
fn is_of(expr: &FieldExpr, such: &dyn Fn(Intrinsic) -> bool) -> bool {
    match &expr.kind {
        FieldKind::Value(_) => true,
        FieldKind::Attribute(a) => matches!(a, Attribute::Intrinsic(i) if such(*i)),
        FieldKind::Unary(_, e) => is_of(e, such),
        FieldKind::Binary(b) => is_of(&b.lhs, such) && is_of(&b.rhs, such),
    }
}

/// Whether a comparison says that a span has no parent, and nothing else: `nestedSetParent < 0`.
pub(crate) fn asks_root(expr: &FieldExpr) -> bool {
    let FieldKind::Binary(b) = &expr.kind else { return false };
    let is_parent = matches!(b.lhs.kind, FieldKind::Attribute(Attribute::Intrinsic(Intrinsic::NestedSetParent)));
    is_parent
        && match b.rhs.kind {
            // Of others it is the number of the parent, above 0, or 0 where no root leads to.
            FieldKind::Value(Value::Int(0)) => b.op == FieldOp::Less,
            FieldKind::Value(Value::Int(-1)) => matches!(b.op, FieldOp::Equal | FieldOp::LessEqual),
            _ => false,
        }
}

/// The texts of the attributes that equal a value; none when they cannot be listed.
fn texts(value: &Value) -> Vec<String> {
    let float = |x: f64| match x {
        0.0 => vec!["0".to_owned(), "-0".to_owned()],
        x if x.is_finite() && x.abs() < EXACT as f64 => vec![x.to_string()],
        _ => Vec::new(),
    };
    match value {
        Value::String(text) if !text.is_empty() => vec![text.clone()],
        Value::Bool(b) => vec![b.to_string()],
        Value::Int(n) | Value::Duration(n) if n.unsigned_abs() < EXACT => float(*n as f64),
        Value::Float(x) => float(*x),
        _ => Vec::new(),
    }
}

/// The filters of a pipeline that looks at each span by itself; `None` for other pipelines.
pub(crate) fn local_filters(pipeline: &Pipeline) -> Option<Vec<&FieldExpr>> {
    let mut filters = Vec::new();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(SetExpr::Filter(filter)) => filters.extend(filter),
            Stage::Spans(SetExpr::Pipeline(inner)) => filters.extend(local_filters(inner)?),
            Stage::By(_) | Stage::Coalesce | Stage::Select(_) => {}
            Stage::Spans(SetExpr::Op { .. }) | Stage::Aggregate(_) => return None,
        }
    }
    let mut parts = Vec::new();
    filters.into_iter().for_each(|filter| split(filter, &mut parts));
    Some(parts)
}

/// What must all hold.
pub(crate) fn split<'q>(expr: &'q FieldExpr, out: &mut Vec<&'q FieldExpr>) {
    match &expr.kind {
        FieldKind::Binary(b) if b.op == FieldOp::And => {
            split(&b.lhs, out);
            split(&b.rhs, out);
        }
        _ => out.push(expr),
    }
}
