//! `trefoil.logs`: log files that are read, pipelines for log entries, and rules over logs.

use std::path::PathBuf;

use crate::decode::{Decode, Encode, Sink, choice, section};
use crate::error::Pos;
use crate::values::LabelMap;
use crate::yaml::{Kind, Node, Value};

/// Pipeline stages as they stand in the file, as in promtail's `pipeline_stages`; `$` in them is not expanded. What they
/// mean is checked by who runs them.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineStages {
    /// The sequence of stages, or the options of one.
    pub node: Node,
    /// The file they stand in, when the text came from one.
    pub file: Option<PathBuf>,
}

impl Default for PipelineStages {
    fn default() -> Self {
        Self { node: Node::null(Pos::NOWHERE), file: None }
    }
}

impl Decode for PipelineStages {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        Some(Self { node: node.clone(), file: sink.file.clone() })
    }
}

impl Encode for PipelineStages {
    fn encode(&self) -> Value {
        value(&self.node)
    }

    fn is_empty(&self) -> bool {
        self.node.is_null()
    }
}

fn value(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Scalar(scalar) => Value::Str(scalar.text.clone()),
        Kind::Seq(items) => Value::Seq(items.iter().map(value).collect()),
        Kind::Map(entries) => Value::Map(entries.iter().map(|e| (e.key.clone(), value(&e.value))).collect()),
    }
}

choice! {
    /// What the lines of a log file look like.
    pub enum LogFileFormat: "log file format" {
        /// As the first line shows: `docker`, `cri`, else `raw`.
        Auto = "auto",
        /// Plain text.
        Raw = "raw",
        /// Docker's json-file.
        Docker = "docker",
        /// Of Kubernetes' container runtimes.
        Cri = "cri",
        /// A JSON object a line.
        Json = "json",
    }
}

choice! {
    /// What the bytes of a log file mean.
    pub enum LogFileEncoding: "log file encoding" in any case {
        /// UTF-8.
        Utf8 = "utf-8",
        /// UTF-16, little end first.
        Utf16Le = "utf-16le",
        /// UTF-16, big end first.
        Utf16Be = "utf-16be",
        /// ISO 8859-1.
        Latin1 = "iso-8859-1",
        /// Windows 1252.
        Windows1252 = "windows-1252",
    }
}

choice! {
    /// Where reading begins.
    pub enum LogFileStart: "start" {
        /// At the first line.
        Beginning = "beginning",
        /// Behind the last line.
        End = "end",
    }
}

section! {
    /// A set of log files that are followed as they grow and are rotated. Each line is stored once, with the labels
    /// given here, those of its place (`namespace`, `pod`, `container` below Kubernetes' `pods` and `containers`;
    /// `container` below Docker's) and `filename`.
    pub struct LogFilesConfig {
        /// Which files: `*`, `?`, `[a-z]` and `{a,b}` within a part of the path, `**` for any number of directories.
        /// Compressed files are left out. Required.
        pub paths: Vec<PathBuf> = Vec::new(),
        /// Which of them not. Default none.
        pub exclude: Vec<PathBuf> = Vec::new(),
        /// Labels of all lines. Default none.
        pub labels: LabelMap = LabelMap::default(),
        /// What lines look like: `raw`, `docker`, `cri`, `json` (time from `time`, `timestamp`, `ts` or `@timestamp`),
        /// or `auto`: `docker` or `cri` if the first line is of that form, else `raw`. Default `auto`.
        pub format: LogFileFormat = LogFileFormat::Auto,
        /// `utf-8`, `utf-16le`, `utf-16be`, `iso-8859-1` or `windows-1252`. Default `utf-8`.
        pub encoding: LogFileEncoding = LogFileEncoding::Utf8,
        /// Where to begin with files that are there when their pattern is looked for the first time: `beginning` or
        /// `end`. Files that appear later are read whole. Default `beginning`.
        pub start: LogFileStart = LogFileStart::Beginning,
        /// Joins lines before all other stages: `firstline`, `max_lines`, `max_wait_time` as in promtail's stage.
        /// Default none.
        pub multiline: PipelineStages = PipelineStages::default(),
        /// What becomes of the lines, once the container format is off: promtail's stages. Default none.
        pub pipeline_stages: PipelineStages = PipelineStages::default(),
    }
    check LogFilesConfig::check
}

impl LogFilesConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.paths.is_empty(), node.pos, "a set of log files needs paths");
        for (name, _) in self.labels.iter() {
            if !trefoil_model::labels::is_legacy_label_name(name) {
                sink.error(node.key_pos("labels"), format!("{name:?} is not a valid label name"));
            }
        }
    }
}

section! {
    /// Stages for pushed log entries.
    pub struct LogPipelineConfig {
        /// Which entries: a log query as in LogQL, `'{app="x"} |= "error"'`. Required.
        pub r#match: String = String::new(),
        /// What becomes of them: promtail's stages. Lines are joined within one push only. Required.
        pub stages: PipelineStages = PipelineStages::default(),
    }
    check LogPipelineConfig::check
}

impl LogPipelineConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.r#match.is_empty(), node.pos, "a pipeline needs match");
        sink.require(!self.stages.node.is_null(), node.pos, "a pipeline needs stages");
    }

    /// The pipeline as a list of one `match` stage.
    pub fn as_stage(&self) -> Node {
        let pos = self.stages.node.pos;
        let entry =
            |key: &str, value: Node| crate::yaml::Entry { key: key.to_owned(), key_pos: pos, key_invalid: None, value };
        let text = crate::yaml::Scalar { text: self.r#match.clone(), quoted: true, invalid: None, undefined: None };
        let selector = Node { pos, kind: Kind::Scalar(text) };
        let options = vec![entry("selector", selector), entry("stages", self.stages.node.clone())];
        let stage = entry("match", Node { pos, kind: Kind::Map(options) });
        Node { pos, kind: Kind::Seq(vec![Node { pos, kind: Kind::Map(vec![stage]) }]) }
    }
}

section! {
    /// Log files that are read, pipelines, and rules over logs.
    pub struct LogsConfig {
        /// Sets of log files; of sets that have a file in common the first one counts. Default none.
        pub files: Vec<LogFilesConfig> = Vec::new(),
        /// promtail's configuration: the files of its `static_configs` are read too, through its stages. The rest of it is
        /// not run. Default none.
        pub promtail_config_file: Option<PathBuf> = None,
        /// Stages for entries that are pushed by any door, one after the other. Default none.
        pub pipelines: Vec<LogPipelineConfig> = Vec::new(),
        /// Rule files as in `rule_files`, whose expressions are LogQL: the files of Loki's ruler. What recording rules
        /// give is stored as metrics. Default none.
        pub rule_files: Vec<PathBuf> = Vec::new(),
    }
}
