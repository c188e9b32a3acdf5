//! The stages: what they are called, what state they keep.

mod blocks;
mod extract;
mod filter;
mod labels;
mod metrics;
mod text;
mod timestamp;

use std::sync::{Arc, LazyLock};

use prometheus::{IntCounter, IntCounterVec, register_int_counter_vec};
use trefoil_config::yaml::Node;

use crate::entry::Entry;
use crate::options::Sink;
use crate::pipeline::{Context, states};
use crate::plan::{Compiler, with_options};

pub(crate) use blocks::{Container, Multiline};
use extract::{Json, Logfmt, Patterns};
pub(crate) use filter::Match;
use filter::{Drop, Limit, Sampling};
use labels::{LabelPicks, LabelSources};
use metrics::Metrics;
use text::{Pack, Replace, TemplateStage};
use timestamp::Timestamp;

static DROPPED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_pipeline_dropped_lines_total",
        "Log lines that a pipeline stage dropped, by the reason that the stage is configured with.",
        &["reason"]
    )
    .expect("unique metric name")
});

/// The counter of lines dropped for a reason that the configuration gives.
pub(crate) fn dropped(reason: &str) -> IntCounter {
    DROPPED.with_label_values(&[reason])
}

/// A stage that is ready to run. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Patterns(Arc<Patterns>),
    Json(Arc<Json>),
    Logfmt(Arc<Logfmt>),
    Timestamp(Arc<Timestamp>),
    Output(Arc<str>),
    Labels(Arc<LabelSources>),
    StaticLabels(Arc<[(String, String)]>),
    Metadata(Arc<LabelSources>),
    LabelPicks(Arc<LabelPicks>),
    Drop(Arc<Drop>),
    Limit(Arc<Limit>),
    Sampling(Arc<Sampling>),
    Multiline(Arc<Multiline>),
    Container(Arc<Container>),
    Replace(Arc<Replace>),
    Template(Arc<TemplateStage>),
    Pack(Arc<Pack>),
    Decolorize,
    Match(Arc<Match>),
    Metrics(Arc<Metrics>),
    /// Accepted, does nothing.
    Nothing,
}

/// What a stage remembers of one source.
#[derive(Debug)]
pub(crate) enum State {
    None,
    /// Last time of a stream.
    Times(timestamp::LastTimes),
    Blocks(blocks::Blocks),
    Nested(Vec<State>),
}

impl State {
    pub(crate) fn held(&self, out: &mut Vec<u64>) {
        match self {
            Self::None | Self::Times(_) => {}
            Self::Blocks(blocks) => blocks.held(out),
            Self::Nested(states) => states.iter().for_each(|s| s.held(out)),
        }
    }

    pub(crate) fn is_holding(&self) -> bool {
        match self {
            Self::None | Self::Times(_) => false,
            Self::Blocks(blocks) => blocks.is_holding(),
            Self::Nested(states) => states.iter().any(Self::is_holding),
        }
    }
}

impl Stage {
    pub(crate) fn state(&self) -> State {
        match self {
            Self::Timestamp(_) => State::Times(timestamp::LastTimes::default()),
            Self::Multiline(_) | Self::Container(_) => State::Blocks(blocks::Blocks::default()),
            Self::Match(matching) => State::Nested(states(&matching.stages)),
            _ => State::None,
        }
    }

    /// Runs a stage that gives one entry for each; false when it drops the entry.
    pub(crate) fn run(&self, state: &mut State, entry: &mut Entry, context: &mut Context<'_>) -> bool {
        match self {
            Self::Patterns(patterns) => patterns.run(entry),
            Self::Json(json) => return json.run(entry),
            Self::Logfmt(logfmt) => logfmt.run(entry),
            Self::Timestamp(timestamp) => timestamp.run(state, entry, context.now.wall_ns),
            Self::Output(source) => {
                if let Some(text) = entry.extracted.with_text(source, str::to_owned) {
                    entry.record.text = text;
                }
            }
            Self::Labels(sources) => sources.set_labels(entry),
            Self::StaticLabels(pairs) => {
                let mut builder = entry.labels.to_builder();
                for (name, value) in pairs.iter() {
                    builder.set(name.clone(), value.clone());
                }
                entry.labels = builder.build();
            }
            Self::Metadata(sources) => sources.set_metadata(entry),
            Self::LabelPicks(picks) => entry.labels = entry.labels.filter(|name| picks.keeps(name)),
            Self::Drop(drop) => return !drop.drops(entry, context.now.wall_ns),
            Self::Limit(limit) => return limit.passes(entry, context),
            Self::Sampling(sampling) => return sampling.passes(),
            Self::Replace(replace) => replace.run(entry),
            Self::Template(template) => template.run(entry),
            Self::Pack(pack) => pack.run(entry, context.now.wall_ns),
            Self::Decolorize => text::decolorize(&mut entry.record.text),
            Self::Metrics(metrics) => metrics.run(entry, context.now.monotonic),
            Self::Multiline(_) | Self::Container(_) | Self::Match(_) | Self::Nothing => {}
        }
        true
    }
}

/// The stage of a container format.
pub(crate) fn container(cri: bool) -> Stage {
    Stage::Container(Arc::new(Container::new(cri)))
}

/// Compiles a stage by its name; `None` with a fault, or without one when the name is unknown.
pub(crate) fn compile(name: &str, node: &Node, compiler: &mut Compiler, sink: &mut Sink) -> Option<Stage> {
    Some(match name {
        "regex" => Stage::Patterns(Arc::new(with_options("regex", node, sink, Patterns::regex)?)),
        "grok" => Stage::Patterns(Arc::new(with_options("grok", node, sink, Patterns::grok)?)),
        "json" => Stage::Json(Arc::new(with_options("json", node, sink, Json::new)?)),
        "logfmt" => Stage::Logfmt(Arc::new(with_options("logfmt", node, sink, Logfmt::new)?)),
        "timestamp" => Stage::Timestamp(Arc::new(with_options("timestamp", node, sink, Timestamp::new)?)),
        "output" => Stage::Output(with_options("output", node, sink, |o, s| o.required("source", s).map(Arc::from))?),
        "labels" => Stage::Labels(Arc::new(LabelSources::new(node, "labels", sink)?)),
        "structured_metadata" => Stage::Metadata(Arc::new(LabelSources::new(node, "structured_metadata", sink)?)),
        "static_labels" => Stage::StaticLabels(labels::static_labels(node, sink)?),
        "labeldrop" | "label_drop" => Stage::LabelPicks(Arc::new(LabelPicks::new(node, false, sink)?)),
        "labelallow" | "label_allow" | "label_keep" => Stage::LabelPicks(Arc::new(LabelPicks::new(node, true, sink)?)),
        "drop" => Stage::Drop(Arc::new(with_options("drop", node, sink, Drop::new)?)),
        "limit" => {
            let usage = compiler.usage;
            Stage::Limit(Arc::new(with_options("limit", node, sink, |o, s| Limit::new(o, usage, s))?))
        }
        "sampling" => Stage::Sampling(Arc::new(with_options("sampling", node, sink, Sampling::new)?)),
        "multiline" => Stage::Multiline(Arc::new(with_options("multiline", node, sink, Multiline::new)?)),
        "docker" => with_options("docker", node, sink, |_, _| Some(container(false)))?,
        "cri" => Stage::Container(Arc::new(with_options("cri", node, sink, Container::cri)?)),
        "replace" => Stage::Replace(Arc::new(with_options("replace", node, sink, Replace::new)?)),
        "template" => Stage::Template(Arc::new(with_options("template", node, sink, TemplateStage::new)?)),
        "pack" => Stage::Pack(Arc::new(with_options("pack", node, sink, Pack::new)?)),
        "decolorize" => with_options("decolorize", node, sink, |_, _| Some(Stage::Decolorize))?,
        "match" => Stage::Match(Arc::new(with_options("match", node, sink, |o, s| Match::new(o, compiler, s))?)),
        "metrics" => Stage::Metrics(Arc::new(Metrics::new(node, sink)?)),
        "tenant" => {
            with_options("tenant", node, sink, |options, sink| {
                let given = ["label", "source", "value"].map(|key| options.text(key, sink)).into_iter().flatten();
                let pos = options.node.pos;
                if given.count() != 1 {
                    sink.fault(pos, "tenant stage needs one of label, source and value");
                }
                sink.warn(pos, "the tenant stage does nothing: all entries go to the tenant of the server");
                Some(())
            })?;
            Stage::Nothing
        }
        "geoip" | "eventlogmessage" => {
            sink.fault(node.pos, format!("the {name} stage is not run here: take it out"));
            return None;
        }
        _ => return None,
    })
}
