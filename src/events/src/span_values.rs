//! Counting values of attributes over columns: dictionaries are counted by number, origins by what has them.

use std::ops::ControlFlow;

use rustc_hash::FxHashMap;
use trefoil_model::span_values::{CountedSets, NO_CLASS, ValueCounter, ValuePlace, ValueRef, of_attributes};
use trefoil_model::{QueryBudget, SpanAttributeWants, SpanFold as _, SpanQuery, SpanRows, SpanWants, StoreError};

use crate::engine::Snapshot;
use crate::span_fold::{Taker, each_block};
use crate::span_part::Traces;
use crate::span_rows::{BAD_REFERENCE, Values};
use crate::span_scan::Chosen;
use crate::wire::Malformed;

/// Counts the values of the spans that may match.
pub(crate) fn count(
    snapshot: &Snapshot<Traces>,
    query: &SpanQuery,
    wants: &SpanWants<'_>,
    spans_max: usize,
    budget: &dyn QueryBudget,
    counter: &mut (dyn ValueCounter + '_),
) -> Result<(), StoreError> {
    each_block(snapshot, query, wants, spans_max, budget, &mut Counting { wants, counter })
}

struct Counting<'c> {
    wants: &'c SpanWants<'c>,
    counter: &'c mut (dyn ValueCounter + 'c),
}

impl Taker for Counting<'_> {
    fn wants(&self) -> SpanWants<'_> {
        SpanWants { attributes: SpanAttributeWants::All, without_resources: false, ..*self.wants }
    }

    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        CountedSets::new(self.counter).rows(rows)
    }

    fn block(&mut self, chosen: &Chosen<'_>) -> Result<ControlFlow<()>, Malformed> {
        let mut classifier = Classifier { counter: self.counter, classes: Vec::new() };
        let flow = crate::span_fold::fold_rows(chosen, self.wants, &mut classifier)?;
        let picked = classifier.classes;
        if flow.is_break() || picked.iter().all(|class| *class == NO_CLASS) {
            return Ok(flow);
        }
        let mut picked = picked.into_iter();
        let mut classes: Vec<u32> =
            chosen.rows.iter().map(|row| if *row { picked.next().unwrap_or(NO_CLASS) } else { NO_CLASS }).collect();
        origins(chosen, &classes, self.counter)?;
        columns(chosen, &classes, self.counter)?;
        rare(chosen, &mut classes, self.counter)?;
        Ok(flow)
    }
}

/// Keeps the classes of rows.
struct Classifier<'c> {
    counter: &'c mut (dyn ValueCounter + 'c),
    classes: Vec<u32>,
}

impl trefoil_model::SpanFold for Classifier<'_> {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        self.counter.classify(rows, &mut self.classes)
    }
}

/// Attributes of resources.
fn origins(chosen: &Chosen<'_>, classes: &[u32], counter: &mut (dyn ValueCounter + '_)) -> Result<(), Malformed> {
    let Chosen { reader, light, .. } = chosen;
    let origins = reader.origins()?;
    let mut counts: FxHashMap<(u32, u32), u64> = FxHashMap::default();
    let mut last = ((0, NO_CLASS), 0);
    for (set, class) in light.set_of.iter().zip(classes).filter(|(_, class)| **class != NO_CLASS) {
        let key = (light.sets[*set as usize].origin, *class);
        if last.0 != key {
            if last.1 > 0 {
                *counts.entry(last.0).or_default() += last.1;
            }
            last = (key, 0);
        }
        last.1 += 1;
    }
    if last.1 > 0 {
        *counts.entry(last.0).or_default() += last.1;
    }
    let mut counts: Vec<((u32, u32), u64)> = counts.into_iter().collect();
    counts.sort_unstable();
    for ((origin, class), count) in counts {
        let origin = origins.get(origin as usize).ok_or(BAD_REFERENCE)?;
        of_attributes(counter, ValuePlace::Resource, &origin.resource.attributes, class, count);
    }
    Ok(())
}

/// Attributes of spans that have a column of their own.
fn columns(chosen: &Chosen<'_>, classes: &[u32], counter: &mut (dyn ValueCounter + '_)) -> Result<(), Malformed> {
    let Chosen { reader, light, .. } = chosen;
    let shapes = reader.shapes()?;
    let shape_of: Vec<u32> = light.sets.iter().map(|set| set.shape).collect();
    if shape_of.iter().any(|shape| *shape as usize >= shapes.shapes.len()) {
        return Err(BAD_REFERENCE);
    }
    for (number, (name, column)) in (0u32..).zip(&shapes.names) {
        let Some(column) = column else { continue };
        // How many values of the name a span of each set has.
        let times: Vec<u32> = shapes.shapes.iter().map(|s| s.iter().filter(|n| **n == number).count() as u32).collect();
        let times: Vec<u32> = shape_of.iter().map(|shape| times[*shape as usize]).collect();
        let values = reader.values(*column)?;
        counter.attribute(ValuePlace::Span, name);
        let mut at = 0usize;
        // The place of the first value of each counted row, with its class.
        let found = light.set_of.iter().zip(classes).filter_map(|(set, class)| {
            let (here, count) = (at, times[*set as usize]);
            at += count as usize;
            (count > 0 && *class != NO_CLASS).then_some((here, *class))
        });
        match &values {
            Values::Dictionary(..) => {
                let distinct = values.distinct_len();
                let most = classes.iter().filter(|class| **class != NO_CLASS).max().map_or(0, |c| *c as usize + 1);
                match distinct.checked_mul(most).filter(|cells| *cells <= 1 << 20) {
                    Some(cells) => {
                        let mut counts = vec![0u32; cells];
                        for (here, class) in found {
                            counts[values.number_of(here)? * most + class as usize] += 1;
                        }
                        for number in 0..distinct {
                            let own = &counts[number * most..(number + 1) * most];
                            if own.iter().all(|count| *count == 0) {
                                continue;
                            }
                            let value = values.distinct(number)?;
                            for (class, count) in (0u32..).zip(own).filter(|(_, count)| **count > 0) {
                                counter.value(ValueRef::of(&value), class, u64::from(*count));
                            }
                        }
                    }
                    None => {
                        let mut counts: FxHashMap<(usize, u32), u64> = FxHashMap::default();
                        for (here, class) in found {
                            *counts.entry((values.number_of(here)?, class)).or_default() += 1;
                        }
                        let mut counts: Vec<((usize, u32), u64)> = counts.into_iter().collect();
                        counts.sort_unstable();
                        for ((number, class), count) in counts {
                            counter.value(ValueRef::of(&values.distinct(number)?), class, count);
                        }
                    }
                }
            }
            Values::Integers(numbers) => {
                for (here, class) in found {
                    let number = numbers.get(here).ok_or(BAD_REFERENCE)?;
                    counter.value(ValueRef::Int((number ^ (1 << 63)) as i64), class, 1);
                }
            }
            Values::Texts(bytes, places) => {
                for (here, class) in found {
                    let (start, end) = places.get(here).zip(places.get(here + 1)).ok_or(BAD_REFERENCE)?;
                    let text = bytes.get(*start..*end).and_then(|text| std::str::from_utf8(text).ok());
                    counter.value(ValueRef::Text(text.ok_or(Malformed("text"))?), class, 1);
                }
            }
            Values::Mixed(..) => {
                for (here, class) in found {
                    counter.value(ValueRef::of(&values.distinct(here)?), class, 1);
                }
            }
        }
    }
    Ok(())
}

/// Attributes of spans that few have: these spans are made.
fn rare(chosen: &Chosen<'_>, classes: &mut [u32], counter: &mut (dyn ValueCounter + '_)) -> Result<(), Malformed> {
    let Chosen { reader, light, .. } = chosen;
    let shapes = reader.shapes()?;
    let is_rare = |name: &u32| shapes.names[*name as usize].1.is_none();
    let has_rare: Vec<bool> = shapes.shapes.iter().map(|shape| shape.iter().any(is_rare)).collect();
    for (set, class) in light.set_of.iter().zip(classes.iter_mut()) {
        if !has_rare[light.sets[*set as usize].shape as usize] {
            *class = NO_CLASS;
        }
    }
    let rows: Vec<bool> = classes.iter().map(|class| *class != NO_CLASS).collect();
    if !rows.contains(&true) {
        return Ok(());
    }
    let names: Vec<String> =
        shapes.names.iter().filter(|(_, column)| column.is_none()).map(|(name, _)| name.clone()).collect();
    let wants = SpanWants {
        attributes: SpanAttributeWants::Names(&names),
        without_resources: true,
        without_events: true,
        without_links: true,
        without_messages: true,
        ..SpanWants::default()
    };
    let spans = reader.spans(light, &rows, &wants)?;
    let classes = classes.iter().filter(|class| **class != NO_CLASS);
    for (stored, class) in spans.iter().zip(classes) {
        // Only these: a store may deliver more.
        let own = stored.span.attributes.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        of_attributes(counter, ValuePlace::Span, &own, *class, 1);
    }
    Ok(())
}
