//! Many-to-one matching against an evaluation that takes step by step literally.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trefoil_model::Labels;

use super::{BinaryOp, Cardinality, Matching, binary};
use crate::algebra::{AlgebraOptions, Points, Series};

const STEPS: usize = 4;

/// Group, a label that tells series of it apart, and a value a step.
type Sample = (u8, u8, Vec<Option<f64>>);

fn many_series() -> impl Strategy<Value = Vec<Sample>> {
    let value = proptest::option::weighted(0.6, (0..4u8).prop_map(f64::from));
    proptest::collection::vec((0..3u8, 0..3u8, proptest::collection::vec(value, STEPS)), 0..6)
}

/// On the right `z` is taken over by `group_left`, so that results of different groups may have the same labels.
fn labels(side: char, (group, other, _): &Sample) -> Labels {
    let text = other.to_string();
    match side {
        // `x` is not matched on: two of a group have the same result labels where `z` hides it.
        'l' => Labels::from_pairs([("g", group.to_string()), ("z", text)]),
        _ => Labels::from_pairs([("g", group.to_string()), ("x", text.clone()), ("z", text)]),
    }
}

fn unique(mut samples: Vec<Sample>) -> Vec<Sample> {
    samples.sort_by_key(|s| (s.0, s.1));
    samples.dedup_by_key(|s| (s.0, s.1));
    samples
}

/// The result by labels and step, or nothing when matching is ambiguous at some step.
fn naive(op: BinaryOp, left: &[Sample], right: &[Sample], include: bool) -> Option<BTreeMap<(String, usize), f64>> {
    let mut out = BTreeMap::new();
    for step in 0..STEPS {
        let mut made = std::collections::BTreeSet::new();
        if left.iter().any(|l| l.2[step].is_some()) {
            for group in 0..3 {
                if right.iter().filter(|r| r.0 == group && r.2[step].is_some()).count() > 1 {
                    return None;
                }
            }
        }
        for l in left {
            for r in right.iter().filter(|r| r.0 == l.0) {
                let (Some(a), Some(b)) = (l.2[step], r.2[step]) else { continue };
                let z = if include { r.1 } else { l.1 };
                let name = Labels::from_pairs([("g", l.0.to_string()), ("z", z.to_string())]).to_string();
                if !made.insert(name.clone()) {
                    return None;
                }
                match op {
                    BinaryOp::Mul => out.insert((name, step), a * b),
                    _ if a > b => out.insert((name, step), a),
                    _ => None,
                };
            }
        }
    }
    Some(out)
}

proptest! {
    #[test]
    fn many_to_one_is_what_each_step_says(
        left in many_series(), right in many_series(), include: bool, compares: bool, on_the_right: bool,
    ) {
        let (left, right) = (unique(left), unique(right));
        let op = if compares && !on_the_right { BinaryOp::Greater } else { BinaryOp::Mul };
        let series = |side, samples: &[Sample]| -> Vec<Series> {
            samples.iter().map(|s| Series::new(labels(side, s), Points::from_options(&s.2))).collect()
        };
        let matching = Matching {
            cardinality: if on_the_right { Cardinality::OneToMany } else { Cardinality::ManyToOne },
            on: true,
            labels: vec!["g".into()],
            include: if include { vec!["z".into()] } else { Vec::new() },
            ..Matching::default()
        };
        let (many, one) = (series('l', &left), series('r', &right));
        let (lhs, rhs) = if on_the_right { (one, many) } else { (many, one) };
        let got = binary(op, &matching, false, lhs, rhs, STEPS, AlgebraOptions::default(), &mut Vec::new());
        let got = got.ok().map(|found| {
            let points = found.iter().flat_map(|s| {
                (0..STEPS).filter_map(|step| Some(((s.labels.to_string(), step), s.points.float(step)?)))
            });
            points.collect::<BTreeMap<_, _>>()
        });
        prop_assert_eq!(got, naive(op, &left, &right, include));
    }
}
