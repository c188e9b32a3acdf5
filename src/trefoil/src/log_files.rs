//! Log files and pipelines, wired: configuration to sources, pushes through pipelines, records as ingest makes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tracing::warn;
use trefoil_config::trefoil::{LogFileEncoding, LogFileFormat, LogFileStart, LogFilesConfig, LogsConfig};
use trefoil_config::{ConfigError, Diagnostic, Pos, Warning};
use trefoil_ingest::{Ingest, counters};
use trefoil_model::{
    EventWriter, Labels, LogBatch, LogGroup, LogReader, LogRecord, TraceBatch, WriteError, WriteReport,
};
use trefoil_pipeline::{Entry, Fault, Moment, Pipeline, Plan, Use};
use trefoil_runtime::{OnError, Phase, RealVfs, SharedClock, Tasks};
use trefoil_tail::globs::Glob;
use trefoil_tail::{Encoding, Format, Intake, Source, Start, Tail, TailSetup};

/// What a configuration says of logs, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckedLogs {
    /// Files to follow.
    pub(crate) sources: Vec<Source>,
    /// Pipelines of pushes, in their order.
    pub(crate) pipelines: Vec<Plan>,
    /// What is accepted and not run.
    pub(crate) warnings: Vec<Warning>,
}

/// Compiles patterns and stages. Errors: all faults, with their places in the file.
pub(crate) fn check(logs: &LogsConfig, file: Option<&Path>) -> Result<CheckedLogs, ConfigError> {
    let mut out = CheckedLogs::default();
    let mut faults: Vec<(Option<PathBuf>, Pos, String)> = Vec::new();
    for set in &logs.files {
        if let Some(source) = source(set, &mut faults) {
            out.warnings.extend(warnings("trefoil.logs.files", source.plan.warnings()));
            out.sources.push(source);
        }
    }
    for pipeline in &logs.pipelines {
        match Plan::new(&pipeline.as_stage(), Use::Pushes) {
            Ok(plan) => {
                out.warnings.extend(warnings("trefoil.logs.pipelines", plan.warnings()));
                out.pipelines.push(plan);
            }
            Err(found) => faults.extend(found.into_iter().map(|fault| (None, fault.pos, fault.message))),
        }
    }
    if faults.is_empty() {
        return Ok(out);
    }
    faults.sort();
    let diagnostics = faults.into_iter().map(|(of, pos, message)| Diagnostic {
        file: of.or_else(|| file.map(Path::to_path_buf)),
        pos,
        message,
    });
    Err(ConfigError::Invalid(diagnostics.collect()))
}

fn warnings<'a>(key: &'a str, faults: &'a [Fault]) -> impl Iterator<Item = Warning> + 'a {
    faults.iter().map(move |f| Warning { key: key.to_owned(), line: f.pos.line, message: f.message.clone() })
}

fn source(set: &LogFilesConfig, faults: &mut Vec<(Option<PathBuf>, Pos, String)>) -> Option<Source> {
    let before = faults.len();
    let of = set.pipeline_stages.file.as_ref().or(set.multiline.file.as_ref()).cloned();
    let mut globs = |paths: &[PathBuf]| -> Vec<Glob> {
        paths
            .iter()
            .filter_map(|path| {
                let absolute = std::path::absolute(path).map_err(|error| error.to_string());
                let glob = absolute.and_then(|path| Glob::new(&path.to_string_lossy()));
                glob.map_err(|message| faults.push((of.clone(), set.pipeline_stages.node.pos, message))).ok()
            })
            .collect()
    };
    let (paths, exclude) = (globs(&set.paths), globs(&set.exclude));
    let mut add =
        |found: Vec<Fault>| faults.extend(found.into_iter().map(|fault| (of.clone(), fault.pos, fault.message)));
    let mut plan =
        Plan::new(&set.pipeline_stages.node, Use::Files).map_err(&mut add).unwrap_or_else(|()| Plan::empty());
    if !set.multiline.node.is_null() {
        plan = plan.with_multiline(&set.multiline.node).map_err(&mut add).unwrap_or_else(|()| Plan::empty());
    }
    let source = Source {
        paths,
        exclude,
        labels: Labels::from_pairs(set.labels.iter()),
        format: match set.format {
            LogFileFormat::Auto => Format::Auto,
            LogFileFormat::Raw => Format::Raw,
            LogFileFormat::Docker => Format::Docker,
            LogFileFormat::Cri => Format::Cri,
            LogFileFormat::Json => Format::Json,
        },
        encoding: match set.encoding {
            LogFileEncoding::Utf8 => Encoding::Utf8,
            LogFileEncoding::Utf16Le => Encoding::Utf16Le,
            LogFileEncoding::Utf16Be => Encoding::Utf16Be,
            LogFileEncoding::Latin1 | LogFileEncoding::Windows1252 => Encoding::Latin1,
        },
        start: match set.start {
            LogFileStart::Beginning => Start::Beginning,
            LogFileStart::End => Start::End,
        },
        plan,
    };
    (faults.len() == before).then_some(source)
}

/// Everything about logs that a reload changes.
#[derive(Clone)]
pub(crate) struct Logs {
    tail: Tail,
    pipelines: Pipelines,
}

impl Logs {
    /// Puts checked settings in force.
    pub(crate) fn apply(&self, checked: &CheckedLogs) {
        self.pipelines.set(checked.pipelines.clone());
        self.tail.apply(checked.sources.clone());
        for warning in &checked.warnings {
            warn!(key = %warning.key, line = warning.line, reason = %warning.message, "setting is accepted and not run");
        }
    }
}

/// What log files need of the server.
pub(crate) struct Parts {
    pub(crate) data: PathBuf,
    pub(crate) clock: SharedClock,
    pub(crate) writer: Arc<dyn EventWriter>,
    pub(crate) reader: Arc<dyn LogReader>,
    pub(crate) ingest: Ingest,
    pub(crate) pipelines: Pipelines,
}

/// Starts the task that follows log files.
pub(crate) fn start(parts: Parts, tasks: &Tasks) -> Logs {
    let limits = parts.ingest.limits().clone();
    let tail = Tail::new(TailSetup {
        positions: parts.data.join("tail/positions"),
        vfs: RealVfs::shared(),
        clock: parts.clock,
        writer: parts.writer,
        reader: parts.reader,
        tenant: trefoil_model::TenantId::default(),
        intake: Arc::new(Prepare(parts.ingest)),
        limits,
    });
    let task = tail.clone();
    tasks.spawn("tail log files", Phase::Ingest, OnError::Restart, move |stop| {
        let task = task.clone();
        async move { task.run(stop).await }
    });
    Logs { tail, pipelines: parts.pipelines }
}

struct Prepare(Ingest);

impl Intake for Prepare {
    fn prepare(&self, groups: Vec<LogGroup>) -> LogBatch {
        let (batch, report) = self.0.prepare_logs(counters::FILES, groups);
        if report.rejected > 0 {
            let reason = report.reasons.first().map_or("", String::as_str);
            warn!(rejected = report.rejected, reason, "lines of log files were refused");
        }
        batch
    }
}

/// The pipelines that pushed entries go through. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Pipelines(Arc<RwLock<Arc<[Plan]>>>);

impl Pipelines {
    fn set(&self, plans: Vec<Plan>) {
        *self.0.write() = plans.into();
    }
}

/// Sends pushed entries through the pipelines before they are written.
pub(crate) struct Piped {
    pub(crate) pipelines: Pipelines,
    pub(crate) clock: SharedClock,
    pub(crate) inner: Arc<dyn EventWriter>,
}

impl Piped {
    /// What is left of a batch.
    fn pass(&self, plans: &[Plan], batch: LogBatch) -> LogBatch {
        let now = Moment { wall_ns: self.clock.now_ns(), monotonic: self.clock.monotonic() };
        let mut out = LogBatch { tenant: batch.tenant, groups: Vec::with_capacity(batch.groups.len()) };
        for group in batch.groups {
            let shared = group.shared;
            let mut entries: Vec<Entry> =
                group.records.into_iter().map(|record| Entry::of_record(group.stream.clone(), record, 0)).collect();
            for plan in plans {
                let mut pipeline = Pipeline::new(plan);
                let mut through = Vec::with_capacity(entries.len());
                for entry in entries {
                    // What an earlier pipeline made of the labels is what this one begins with.
                    let entry = Entry::of_record(entry.labels, entry.record, 0);
                    pipeline.push(entry, now, &mut through);
                }
                pipeline.flush_all(now, &mut through);
                entries = through;
            }
            let first = out.groups.len();
            for entry in entries {
                put(&mut out.groups, first, entry.labels, &shared, entry.record);
            }
        }
        out
    }
}

fn put(
    groups: &mut Vec<LogGroup>,
    first: usize,
    stream: Labels,
    shared: &Arc<trefoil_model::Attributes>,
    record: LogRecord,
) {
    match groups[first..].iter_mut().rev().find(|group| group.stream == stream) {
        Some(group) => group.records.push(record),
        None => groups.push(LogGroup { stream, shared: Arc::clone(shared), records: vec![record] }),
    }
}

#[async_trait::async_trait]
impl EventWriter for Piped {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        let plans = Arc::clone(&self.pipelines.0.read());
        if plans.is_empty() {
            return self.inner.write_logs(batch).await;
        }
        let batch = tokio::task::block_in_place(|| self.pass(&plans, batch));
        if batch.groups.is_empty() {
            return Ok(WriteReport::default());
        }
        self.inner.write_logs(batch).await
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        self.inner.write_spans(batch).await
    }
}
