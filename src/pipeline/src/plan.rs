//! From configuration to stages that are ready to run.

use std::sync::Arc;

use trefoil_config::Pos;
use trefoil_config::yaml::{Kind, Node};

use crate::options::{Options, Sink};
use crate::stages::{Stage, compile};

/// Deepest nesting of `match` stages.
const DEPTH_MAX: usize = 10;
/// Most stages of a pipeline, nested ones included.
const STAGES_MAX: usize = 1_000;

/// What is wrong, or surprising, in a list of stages, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the file.
    pub pos: Pos,
    /// What.
    pub message: String,
}

/// Where the entries of a pipeline come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Lines of files: the reader may wait.
    Files,
    /// Pushed batches: nobody waits.
    Pushes,
}

/// A checked list of stages. Clones share it, its counters and its limits; state of single sources is in a
/// [`crate::Pipeline`].
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) stages: Arc<[Stage]>,
    warnings: Arc<[Fault]>,
}

impl Plan {
    /// No stages.
    pub fn empty() -> Self {
        Self { stages: Arc::new([]), warnings: Arc::new([]) }
    }

    /// Compiles a sequence of stages as it stands in promtail's `pipeline_stages`. Errors: all faults.
    pub fn new(stages: &Node, usage: Use) -> Result<Self, Vec<Fault>> {
        let mut sink = Sink::default();
        let mut compiler = Compiler { usage, count: 0, depth: 0 };
        let stages = compiler.stages(stages, &mut sink);
        if sink.faults.is_empty() {
            Ok(Self { stages: stages.into(), warnings: sink.warnings.into() })
        } else {
            Err(sink.faults)
        }
    }

    /// A stage that joins lines, put before all others.
    pub fn with_multiline(self, options: &Node) -> Result<Self, Vec<Fault>> {
        let mut sink = Sink::default();
        let mut compiler = Compiler { usage: Use::Files, count: 0, depth: 0 };
        let first = compile("multiline", options, &mut compiler, &mut sink);
        match first {
            Some(first) if sink.faults.is_empty() => {
                let stages = std::iter::once(first).chain(self.stages.iter().cloned()).collect();
                Ok(Self { stages, warnings: self.warnings })
            }
            _ => Err(sink.faults),
        }
    }

    /// A stage that takes a container format apart, put before all others; for a format that is `cri` or else Docker's.
    pub fn with_container(self, cri: bool) -> Self {
        let first = crate::stages::container(cri);
        let stages = std::iter::once(first).chain(self.stages.iter().cloned()).collect();
        Self { stages, warnings: self.warnings }
    }

    /// The stages of another plan, then these.
    pub fn after(self, first: &Self) -> Self {
        let stages = first.stages.iter().chain(self.stages.iter()).cloned().collect();
        Self { stages, warnings: self.warnings }
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// What is accepted and not run.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }
}

/// Compiles lists of stages, nested ones too.
pub(crate) struct Compiler {
    pub(crate) usage: Use,
    count: usize,
    depth: usize,
}

impl Compiler {
    pub(crate) fn stages(&mut self, node: &Node, sink: &mut Sink) -> Vec<Stage> {
        let items = match &node.kind {
            Kind::Seq(items) => items,
            Kind::Null => return Vec::new(),
            _ => {
                sink.fault(node.pos, format!("pipeline stages must be a sequence, got {}", node.kind_name()));
                return Vec::new();
            }
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            sink.fault(node.pos, format!("match stages are nested deeper than {DEPTH_MAX}"));
            self.depth -= 1;
            return Vec::new();
        }
        let stages = items.iter().filter_map(|item| self.stage(item, sink)).collect();
        self.depth -= 1;
        stages
    }

    fn stage(&mut self, item: &Node, sink: &mut Sink) -> Option<Stage> {
        let Kind::Map(entries) = &item.kind else {
            sink.fault(item.pos, format!("a pipeline stage must be a mapping of its name, got {}", item.kind_name()));
            return None;
        };
        let [entry] = entries.as_slice() else {
            sink.fault(item.pos, format!("a pipeline stage must have one name, got {} names", entries.len()));
            return None;
        };
        self.count += 1;
        if self.count > STAGES_MAX {
            if self.count == STAGES_MAX + 1 {
                sink.fault(item.pos, format!("a pipeline has more than {STAGES_MAX} stages"));
            }
            return None;
        }
        let faults = sink.faults.len();
        let compiled = compile(&entry.key, &entry.value, self, sink);
        if compiled.is_none() && sink.faults.len() == faults {
            sink.fault(entry.key_pos, format!("unknown pipeline stage {:?}", entry.key));
        }
        compiled
    }
}

/// Reads options with `read`, then reports those that are left.
pub(crate) fn with_options<T>(
    stage: &'static str,
    node: &Node,
    sink: &mut Sink,
    read: impl FnOnce(&mut Options<'_>, &mut Sink) -> Option<T>,
) -> Option<T> {
    let mut options = Options::new(stage, node, sink)?;
    let out = read(&mut options, sink);
    options.finish(sink);
    out
}
