//! Aggregations that keep some of their input: topk, bottomk, limitk, limit_ratio.

use std::cmp::Ordering;

use super::scalar::nan_first;
use trefoil_model::Labels;

use super::{AggregateOp, AlgebraError, Points, Room, Series};

/// Keeps per step and group what `op` selects. `params` is one value a step; `groups[i]` is the group of
/// `input[i]`. A one-step grid comes back in order of rank, group by group.
pub(crate) fn rank(
    op: AggregateOp,
    params: &[f64],
    input: Vec<Series>,
    groups: &[usize],
    group_count: usize,
    room: Room<'_>,
) -> Result<Vec<Series>, AlgebraError> {
    room.take(input.len() * RANK_BYTES)?;
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); group_count];
    for (i, g) in groups.iter().enumerate() {
        members[*g].push(i);
    }
    let offsets: Vec<f64> = match op {
        AggregateOp::LimitRatio => input.iter().map(|s| sample_offset(reference_hash(&s.labels))).collect(),
        _ => Vec::new(),
    };
    let mut kept: Vec<Points> = input.iter().map(|_| Points::default()).collect();
    let mut order: Vec<usize> = Vec::new();
    let steps = params.len();
    for (step, param) in params.iter().enumerate() {
        for group in &members {
            let chosen = choose(op, *param, step, group, &input, &offsets);
            for &i in &chosen {
                if kept[i].is_empty() {
                    room.take(size_of_val(params))?;
                    kept[i] = Points::absent(steps);
                    order.push(i);
                }
                kept[i].set(step, input[i].points.get(step));
            }
        }
    }
    let mut slots: Vec<Option<Series>> = input.into_iter().map(Some).collect();
    let chosen = order.into_iter().filter_map(|i| {
        let mut series = slots[i].take()?;
        series.points = std::mem::take(&mut kept[i]);
        Some(series)
    });
    Ok(chosen.collect())
}

/// Which of `input` are selected at some step. What else is there may be forgotten: it will not be selected when more
/// series come, later in order.
pub(crate) fn selected(
    op: AggregateOp,
    params: &[f64],
    input: &[Series],
    groups: &[usize],
    group_count: usize,
) -> Vec<bool> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); group_count];
    for (i, g) in groups.iter().enumerate() {
        members[*g].push(i);
    }
    let offsets: Vec<f64> = match op {
        AggregateOp::LimitRatio => input.iter().map(|s| sample_offset(reference_hash(&s.labels))).collect(),
        _ => Vec::new(),
    };
    let mut out = vec![false; input.len()];
    for (step, param) in params.iter().enumerate() {
        for group in &members {
            for i in choose(op, *param, step, group, input, &offsets) {
                out[i] = true;
            }
        }
    }
    out
}

/// What ranking takes for each series.
const RANK_BYTES: usize = 192;

fn choose(op: AggregateOp, param: f64, step: usize, group: &[usize], input: &[Series], offsets: &[f64]) -> Vec<usize> {
    let k = if param >= 1.0 { param.min(group.len() as f64) as usize } else { 0 };
    match op {
        AggregateOp::TopK | AggregateOp::BottomK => {
            if k == 0 {
                return Vec::new();
            }
            let mut ranked: Vec<(usize, f64)> =
                group.iter().filter_map(|&i| input[i].points.float(step).map(|v| (i, v))).collect();
            let before = |a: &(usize, f64), b: &(usize, f64)| -> Ordering {
                // NaN ranks last in both directions; ties go to the earlier series.
                match (a.1.is_nan(), b.1.is_nan()) {
                    (true, false) => Ordering::Greater,
                    (false, true) => Ordering::Less,
                    _ if op == AggregateOp::TopK => nan_first(b.1, a.1),
                    _ => nan_first(a.1, b.1),
                }
                .then(a.0.cmp(&b.0))
            };
            if k < ranked.len() {
                ranked.select_nth_unstable_by(k - 1, before);
                ranked.truncate(k);
            }
            ranked.sort_unstable_by(before);
            ranked.into_iter().map(|(i, _)| i).collect()
        }
        AggregateOp::LimitK => group.iter().copied().filter(|&i| input[i].points.is_present(step)).take(k).collect(),
        _ => {
            let ratio = param.clamp(-1.0, 1.0);
            group
                .iter()
                .copied()
                .filter(|&i| input[i].points.is_present(step))
                .filter(|&i| (ratio > 0.0 && offsets[i] < ratio) || (ratio < 0.0 && offsets[i] >= 1.0 + ratio))
                .collect()
        }
    }
}

/// Where a series stands in [0, 1), the same in every query.
fn sample_offset(hash: u64) -> f64 {
    hash as f64 / u64::MAX as f64
}

/// The reference's hash of a label set, so that the same series are kept: XXH64 over names and values, each behind its
/// length (one byte, or 255 and three bytes).
fn reference_hash(labels: &Labels) -> u64 {
    let mut data: Vec<u8> = Vec::with_capacity(128);
    for (name, value) in labels {
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(n) if n < 255 => data.push(n),
                _ => {
                    data.push(255);
                    data.extend(&(text.len() as u32).to_le_bytes()[..3]);
                }
            }
            data.extend(text.as_bytes());
        }
    }
    xxh64(&data)
}

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

fn xxh64_round(acc: u64, input: u64) -> u64 {
    acc.wrapping_add(input.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

/// XXH64 with seed 0.
fn xxh64(data: &[u8]) -> u64 {
    let word = |c: &[u8]| c.iter().rev().fold(0u64, |v, b| (v << 8) | u64::from(*b));
    let mut stripes = data.chunks_exact(32);
    let mut hash = if data.len() >= 32 {
        let mut lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u64.wrapping_sub(PRIMES[0])];
        for stripe in &mut stripes {
            for (lane, c) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = xxh64_round(*lane, word(c));
            }
        }
        let mut h =
            [1, 7, 12, 18].iter().zip(lanes).fold(0u64, |h, (turn, lane)| h.wrapping_add(lane.rotate_left(*turn)));
        for lane in lanes {
            h = (h ^ xxh64_round(0, lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
        }
        h
    } else {
        PRIMES[4]
    };
    hash = hash.wrapping_add(data.len() as u64);
    let mut eights = stripes.remainder().chunks_exact(8);
    for c in &mut eights {
        hash = (hash ^ xxh64_round(0, word(c))).rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
    }
    let mut rest = eights.remainder();
    if rest.len() >= 4 {
        hash = (hash ^ word(&rest[..4]).wrapping_mul(PRIMES[0]))
            .rotate_left(23)
            .wrapping_mul(PRIMES[1])
            .wrapping_add(PRIMES[2]);
        rest = &rest[4..];
    }
    for b in rest {
        hash = (hash ^ u64::from(*b).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::xxh64;

    #[test]
    fn hashes_are_xxh64() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
    }
}
