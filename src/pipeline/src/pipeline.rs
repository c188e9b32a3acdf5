//! Stages with their state, over the entries of one source.

use std::time::Duration;

use crate::entry::Entry;
use crate::plan::Plan;
use crate::stages::{Stage, State};

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Wall clock in Unix nanoseconds.
    pub wall_ns: i64,
    /// Monotonic clock.
    pub monotonic: Duration,
}

/// A plan at work on one source (a file; or a batch).
#[derive(Debug)]
pub struct Pipeline {
    plan: Plan,
    states: Vec<State>,
    /// How long the reader should wait because of limits that do not drop.
    wait: Duration,
}

/// What stages may look at and ask for.
pub(crate) struct Context<'a> {
    pub(crate) now: Moment,
    pub(crate) wait: &'a mut Duration,
}

impl Pipeline {
    /// Starts without state.
    pub fn new(plan: &Plan) -> Self {
        Self { plan: plan.clone(), states: states(&plan.stages), wait: Duration::ZERO }
    }

    /// Sends an entry through; what comes out, now and of what was held before, is appended to `out`.
    pub fn push(&mut self, entry: Entry, now: Moment, out: &mut Vec<Entry>) {
        let mut context = Context { now, wait: &mut self.wait };
        run(&self.plan.stages, &mut self.states, 0, entry, &mut context, out);
    }

    /// Sends on what was held for as long as its stage allows.
    pub fn flush_due(&mut self, now: Moment, out: &mut Vec<Entry>) {
        let mut context = Context { now, wait: &mut self.wait };
        flush(&self.plan.stages, &mut self.states, false, &mut context, out);
    }

    /// Sends on everything that is held: the source has ended.
    pub fn flush_all(&mut self, now: Moment, out: &mut Vec<Entry>) {
        let mut context = Context { now, wait: &mut self.wait };
        flush(&self.plan.stages, &mut self.states, true, &mut context, out);
    }

    /// Appends the sources of all lines that are held, in no particular order.
    pub fn held(&self, out: &mut Vec<u64>) {
        for state in &self.states {
            state.held(out);
        }
    }

    /// True when something is held.
    pub fn is_holding(&self) -> bool {
        self.states.iter().any(State::is_holding)
    }

    /// Takes how long the source should rest, as its limits ask for.
    pub fn take_wait(&mut self) -> Duration {
        std::mem::take(&mut self.wait)
    }
}

pub(crate) fn states(stages: &[Stage]) -> Vec<State> {
    stages.iter().map(Stage::state).collect()
}

pub(crate) fn run(
    stages: &[Stage],
    states: &mut [State],
    from: usize,
    mut entry: Entry,
    context: &mut Context<'_>,
    out: &mut Vec<Entry>,
) {
    for at in from..stages.len() {
        match &stages[at] {
            Stage::Multiline(multiline) => match multiline.push(&mut states[at], entry, context) {
                Some(joined) => entry = joined,
                None => return,
            },
            Stage::Container(container) => match container.push(&mut states[at], entry) {
                Some(joined) => entry = joined,
                None => return,
            },
            Stage::Match(matching) => {
                if !matching.selects(&entry) {
                    continue;
                }
                if matching.drops {
                    matching.dropped.inc();
                    return;
                }
                let State::Nested(nested) = &mut states[at] else { continue };
                let mut through = Vec::new();
                run(&matching.stages, nested, 0, entry, context, &mut through);
                for entry in through {
                    run(stages, states, at + 1, entry, context, out);
                }
                return;
            }
            stage => {
                if !stage.run(&mut states[at], &mut entry, context) {
                    return;
                }
            }
        }
    }
    out.push(entry);
}

fn flush(stages: &[Stage], states: &mut [State], all: bool, context: &mut Context<'_>, out: &mut Vec<Entry>) {
    for at in 0..stages.len() {
        let mut ready = Vec::new();
        match (&stages[at], &mut states[at]) {
            (Stage::Match(matching), State::Nested(nested)) => {
                flush(&matching.stages, nested, all, context, &mut ready);
            }
            (Stage::Multiline(multiline), state) => multiline.flush(state, all, context, &mut ready),
            (Stage::Container(container), state) if all => container.flush(state, &mut ready),
            _ => {}
        }
        for entry in ready {
            run(stages, states, at + 1, entry, context, out);
        }
    }
}
