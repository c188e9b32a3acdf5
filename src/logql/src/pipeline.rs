//! A compiled pipeline and the scan that feeds it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{Direction, LogEntry, LogQuery, LogReader, LogWants, NanoRange, QueryBudget, TenantId};

use crate::Error;
use crate::ast::{LineNeedle, LineOp, LogExpr, StageKind};
use crate::labels::{LineLabels, StreamLabels};
use crate::output::Stats;
use crate::stages::{CompiledStage, Line, LineTest, required_terms};

/// How often the budget is asked, in lines.
const CHECK_EVERY: u64 = 1024;

/// Names that a reader may serve as attribute although the record holds them otherwise.
const DERIVED_LABELS: [&str; 3] = ["detected_level", "severity_text", "severity_number"];

/// Stages in the order in which they run, and what the store may use to skip blocks.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Line filters on the line as stored. They look at nothing else, so they run before everything.
    leading: Vec<LineTest>,
    stages: Vec<CompiledStage>,
    needles: Vec<String>,
    /// For each item: every line that passes holds one of its texts.
    any_of: Vec<Vec<String>>,
    terms: Vec<(String, String)>,
}

impl Pipeline {
    /// Compiles all stages; errors have the place of the stage.
    pub(crate) fn new(log: &LogExpr) -> Result<Self, Error> {
        let mut pipeline = Self {
            leading: Vec::new(),
            stages: Vec::new(),
            needles: Vec::new(),
            any_of: Vec::new(),
            terms: Vec::new(),
        };
        let (mut original_line, mut original_labels) = (true, true);
        for stage in &log.stages {
            match &stage.kind {
                StageKind::LineFilter(filter) => {
                    if original_line
                        && filter.op == LineOp::Contains
                        && let [LineNeedle::Text(text)] = filter.alternatives.as_slice()
                        && !text.is_empty()
                    {
                        pipeline.needles.push(text.clone());
                    } else if original_line {
                        crate::counts::required_texts(filter, &mut pipeline.any_of);
                    }
                }
                StageKind::LabelFilter(filter) => {
                    if original_labels {
                        required_terms(filter, &mut pipeline.terms);
                    }
                }
                StageKind::LineFormat(_) | StageKind::Decolorize => original_line = false,
                StageKind::Unpack => (original_line, original_labels) = (false, false),
                _ => original_labels = false,
            }
            match CompiledStage::new(stage)? {
                CompiledStage::Line(test) if original_line => pipeline.leading.push(test),
                compiled => pipeline.stages.push(compiled),
            }
        }
        pipeline.terms.retain(|(name, _)| {
            !DERIVED_LABELS.contains(&name.as_str()) && !name.ends_with("_extracted") && !name.starts_with("__")
        });
        Ok(pipeline)
    }

    /// Drops the parsers when nothing but line filters stands beside them: for results that need no label, as Loki
    /// does, so that their errors do not appear. True when no label is needed at all then.
    pub(crate) fn without_labels(&mut self) -> bool {
        let only_parsers = self
            .stages
            .iter()
            .all(|s| matches!(s, CompiledStage::Extract(e) if !matches!(e, crate::stages::Extractor::Unpack)));
        if only_parsers {
            self.stages.clear();
        }
        only_parsers
    }

    /// Adds the labels that the stages look at; false when that cannot be told.
    pub(crate) fn add_used_labels(&self, out: &mut FxHashSet<String>) -> bool {
        self.stages.iter().all(|stage| stage.add_used_labels(out))
    }

    /// True when there are no stages.
    pub(crate) fn is_empty(&self) -> bool {
        self.leading.is_empty() && self.stages.is_empty()
    }

    /// Whether it begins with line filters.
    pub(crate) fn has_leading(&self) -> bool {
        !self.leading.is_empty()
    }

    /// Whether it looks at lines.
    pub(crate) fn looks_at_text(&self) -> bool {
        self.has_leading() || self.stages_look_at_text()
    }

    /// Whether stages behind the leading line filters look at lines or times: else lines with equal labels fare alike.
    pub(crate) fn stages_look_at_text(&self) -> bool {
        let no_text = |stage: &CompiledStage| {
            matches!(stage, CompiledStage::Filter(_) | CompiledStage::Drop(_) | CompiledStage::Keep(_))
        };
        !self.stages.iter().all(no_text)
    }

    pub(crate) fn passes_leading(&self, line: &str) -> bool {
        self.leading.iter().all(|test| test.passes(line))
    }

    pub(crate) fn run<'a>(&self, time_ns: i64, text: &'a str, labels: &mut LineLabels) -> Option<Cow<'a, str>> {
        let mut line = Line { time_ns, text: Cow::Borrowed(text), labels };
        for stage in &self.stages {
            if !stage.run(&mut line) {
                return None;
            }
        }
        Some(line.text)
    }
}

/// Where a query reads.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) reader: &'a dyn LogReader,
    pub(crate) tenant: TenantId,
    pub(crate) budget: &'a dyn QueryBudget,
    /// Most bytes of lines that the query may read.
    pub(crate) scan_bytes_max: u64,
}

/// Takes time, line and labels of what passed.
pub(crate) type Each<'a> = dyn FnMut(i64, Cow<'_, str>, &mut LineLabels) -> Result<ControlFlow<()>, Error> + 'a;

/// One scan.
pub(crate) struct Scan<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) log: &'a LogExpr,
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) range: NanoRange,
    pub(crate) direction: Direction,
    /// Whether labels other than those of the stream are looked at.
    pub(crate) needs_labels: bool,
    /// The only labels that matter, when they are known.
    pub(crate) wanted: Option<FxHashSet<String>>,
}

impl Scan<'_> {
    /// Delivers what passes the pipeline. `wanted` sees the time first, so that nothing is done for lines between
    /// windows.
    pub(crate) fn run(
        &self,
        stats: &mut Stats,
        wanted: &dyn Fn(i64) -> bool,
        each: &mut Each<'_>,
    ) -> Result<(), Error> {
        let Source { reader, budget, scan_bytes_max, .. } = self.source;
        if self.range.start_ns >= self.range.end_ns {
            return Ok(());
        }
        let query = self.query()?;
        let attributes = self.attributes();
        let line = |text: &str| self.pipeline.passes_leading(text);
        let wants = LogWants {
            text: true,
            attributes: attributes.as_wants(),
            line: if self.pipeline.leading.is_empty() { None } else { Some(&line) },
            any_of: &self.pipeline.any_of,
        };
        let mut streams: FxHashMap<u64, Arc<StreamLabels>> = FxHashMap::default();
        let mut labels = LineLabels::wanting(self.wanted.clone());
        let mut failure = None;
        let mut delivered = (0u64, 0u64);
        let scanned = reader.scan_wanted(&query, &wants, budget, &mut |entry: LogEntry<'_>| {
            let record = entry.record;
            if !wanted(record.time_ns) {
                return ControlFlow::Continue(());
            }
            stats.lines_processed += 1;
            stats.bytes_processed += record.text.len() as u64;
            delivered = (delivered.0 + 1, delivered.1 + record.text.len() as u64);
            if stats.bytes_processed > scan_bytes_max {
                failure = Some(Error::Scan(scan_bytes_max));
                return ControlFlow::Break(());
            }
            if stats.lines_processed.is_multiple_of(CHECK_EVERY)
                && let Err(error) = budget.check()
            {
                failure = Some(error.into());
                return ControlFlow::Break(());
            }
            if !self.pipeline.passes_leading(&record.text) {
                return ControlFlow::Continue(());
            }
            let base = streams.entry(entry.stream_ref).or_insert_with(|| Arc::new(StreamLabels::new(entry.stream)));
            labels.start(base);
            if self.needs_labels {
                stats.metadata_bytes += labels.add_metadata(&entry);
            }
            let Some(text) = self.pipeline.run(record.time_ns, &record.text, &mut labels) else {
                return ControlFlow::Continue(());
            };
            stats.lines_passed += 1;
            each(record.time_ns, text, &mut labels).unwrap_or_else(|error| {
                failure = Some(error);
                ControlFlow::Break(())
            })
        });
        // What the callback found explains more than what the store made of the break.
        if let Some(error) = failure {
            return Err(error);
        }
        let scanned = scanned?;
        stats.blocks += scanned.blocks;
        stats.records += scanned.records;
        // Lines that the store left out were looked at too.
        stats.lines_processed += scanned.records.saturating_sub(delivered.0);
        stats.bytes_processed += scanned.bytes.saturating_sub(delivered.1);
        if stats.bytes_processed > scan_bytes_max {
            return Err(Error::Scan(scan_bytes_max));
        }
        Ok(())
    }

    /// What the store is asked for.
    pub(crate) fn query(&self) -> Result<LogQuery, Error> {
        Ok(LogQuery {
            needles: self.pipeline.needles.clone(),
            attribute_terms: self.attribute_terms()?,
            direction: self.direction,
            ..LogQuery::new(self.source.tenant, self.range, self.log.matchers.clone())
        })
    }

    /// Which attributes are looked at.
    pub(crate) fn attributes(&self) -> crate::counts::Attributes {
        match &self.wanted {
            _ if !self.needs_labels => crate::counts::Attributes::none(),
            Some(wanted) => crate::counts::Attributes::named(wanted),
            None => crate::counts::Attributes::all(),
        }
    }

    /// For each item: every line that passes holds one of its texts.
    pub(crate) fn any_of(&self) -> &[Vec<String>] {
        &self.pipeline.any_of
    }

    /// Terms whose label no stream has: only these can be told to be attributes.
    fn attribute_terms(&self) -> Result<Vec<(String, String)>, Error> {
        let Source { reader, tenant, budget, .. } = self.source;
        let mut terms = self.pipeline.terms.clone();
        if !terms.is_empty() {
            for stream in reader.streams(tenant, self.range, &self.log.matchers, budget)? {
                terms.retain(|(name, _)| {
                    !stream.iter().any(|(n, _)| trefoil_model::labels::underscored(n) == name.as_str())
                });
            }
        }
        Ok(terms)
    }
}
