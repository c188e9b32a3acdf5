//! A column of integers: the values, their differences or the differences of those, bit-packed in groups with
//! outliers kept apart ("patched frame of reference"); what is left over from a straight line; or `pco`.

use std::ops::Range;

use super::pco::{decode_pco, encode_pco};
use super::unpack::{GROUP, HALF, unpack};
use super::varint::{Reader, put_ivarint, put_uvarint, zigzag};
use super::{DecodeError, Effort};

const PLAIN: u8 = 0;
const DELTA: u8 = 1;
const DELTA2: u8 = 2;
/// `pco`, one page, up to the end of what is read; only in places where nothing follows. Not written any more.
const PCO: u8 = 3;
const LINE: u8 = 4;
const MULTIPLE: u8 = 5;
/// `pco` in pages, else as `PCO`.
const PCO_PAGES: u8 = 6;

/// Shorter columns are not tried with `pco`: it describes the column before it pays, and takes long over it.
pub(crate) const PCO_COUNT_MIN: usize = 512;
/// Shorter columns are not tried as multiples.
const MULTIPLE_COUNT_MIN: usize = 8;

/// How the groups of a column are to be written, and the bytes that takes.
struct Packing {
    form: u8,
    heads: [i64; 2],
    head_count: usize,
    plans: Vec<Plan>,
    bytes: usize,
}

impl Packing {
    fn new(form: u8, heads: &[i64], tail: &[i64]) -> Self {
        let mut kept = [0; 2];
        kept[..heads.len()].copy_from_slice(heads);
        let plans: Vec<Plan> = tail.chunks(GROUP).map(Plan::of).collect();
        let head_bytes: usize = heads.iter().map(|h| uvarint_bytes(zigzag(*h))).sum();
        let bytes = 1 + head_bytes + plans.iter().map(|p| p.bytes).sum::<usize>();
        Self { form, heads: kept, head_count: heads.len(), plans, bytes }
    }

    fn write(&self, tail: &[i64], out: &mut Vec<u8>) {
        out.push(self.form);
        for h in &self.heads[..self.head_count] {
            put_ivarint(out, *h);
        }
        for (group, plan) in tail.chunks(GROUP).zip(&self.plans) {
            plan.write(group, out);
        }
    }
}

/// Appends `values` in the smallest of the packed forms. The count is not stored. All arithmetic wraps, so that
/// every column has an encoding.
pub(crate) fn encode_ints(values: &[i64], out: &mut Vec<u8>) {
    let factor = if values.len() < MULTIPLE_COUNT_MIN { 1 } else { common_factor(values) };
    if factor < 2 {
        return encode_packed(values, out);
    }
    out.push(MULTIPLE);
    put_ivarint(out, values[0]);
    put_uvarint(out, factor as u64);
    encode_packed(&values.iter().map(|v| (v - values[0]) / factor).collect::<Vec<_>>(), out);
}

/// The greatest number of which all differences to the first value are multiples; 0 when there are none, 1 when they
/// do not fit.
fn common_factor(values: &[i64]) -> i64 {
    let mut factor = 0i64;
    for v in &values[1..] {
        let Some(difference) = v.checked_sub(values[0]).and_then(i64::checked_abs) else { return 1 };
        let (mut a, mut b) = (factor, difference);
        if a != 0 && b % a == 0 {
            continue;
        }
        while b != 0 {
            (a, b) = (b, a % b);
        }
        factor = a;
        if factor == 1 {
            break;
        }
    }
    factor
}

fn encode_packed(values: &[i64], out: &mut Vec<u8>) {
    let Some(first) = values.first() else {
        out.push(DELTA);
        return;
    };
    let mut deltas = Vec::with_capacity(values.len());
    deltas.extend(values.windows(2).map(|w| w[1].wrapping_sub(w[0])));
    let delta = Packing::new(DELTA, &[*first], &deltas);
    let Some(first_delta) = deltas.first().copied() else { return delta.write(&deltas, out) };
    if deltas.iter().all(|d| *d == first_delta) {
        return delta.write(&deltas, out);
    }
    let plain = Packing::new(PLAIN, &[], values);
    let mut deltas2 = Vec::with_capacity(deltas.len());
    deltas2.extend(deltas.windows(2).map(|w| w[1].wrapping_sub(w[0])));
    let delta2 = Packing::new(DELTA2, &[*first, first_delta], &deltas2);
    // Of equals the one that decodes faster.
    if plain.bytes <= delta.bytes && plain.bytes <= delta2.bytes {
        plain.write(values, out);
    } else if delta.bytes <= delta2.bytes {
        delta.write(&deltas, out);
    } else {
        delta2.write(&deltas2, out);
    }
}

/// Appends `values` in the smallest form that `effort` allows. Whoever reads them back must give the reader up to
/// the end of the column and not beyond.
pub(crate) fn encode_last_ints(effort: Effort, values: &[i64], out: &mut Vec<u8>) {
    let start = out.len();
    encode_ints(values, out);
    let packed = out.len() - start;
    // Less than a bit a value: there is nothing to be won.
    if effort == Effort::Merged && values.len() >= PCO_COUNT_MIN && packed > values.len() / 8 {
        let mut other = vec![PCO_PAGES];
        if encode_pco(values, &mut other) && is_worth_it(other.len(), packed) {
            out.truncate(start);
            out.extend_from_slice(&other);
        }
    }
}

/// Whether `pco` saves enough for the longer time that it takes to read.
pub(crate) fn is_worth_it(pco: usize, packed: usize) -> bool {
    pco + pco / 16 < packed
}

/// As [`encode_ints`], with the straight line as a further form: for times, which leave a grid by little.
pub(crate) fn encode_times(times: &[i64], out: &mut Vec<u8>) {
    let start = out.len();
    encode_ints(times, out);
    let [first, .., last] = times else { return };
    let step = (i128::from(*last) - i128::from(*first)) / (times.len() as i128 - 1);
    let Ok(step) = i64::try_from(step) else { return };
    let rest: Vec<i64> = times.iter().zip(0..).map(|(t, i)| t.wrapping_sub(on_line(*first, step, i))).collect();
    let line = Packing::new(LINE, &[*first, step], &rest);
    if line.bytes < out.len() - start {
        out.truncate(start);
        line.write(&rest, out);
    }
}

fn on_line(first: i64, step: i64, i: i64) -> i64 {
    first.wrapping_add(step.wrapping_mul(i))
}

/// group := width u8, outliers u8, base ivarint, packed bits, (position u8, high bits uvarint)*
#[derive(Debug, Clone, Copy)]
struct Plan {
    base: i64,
    width: u32,
    outliers: usize,
    bytes: usize,
}

impl Plan {
    fn of(group: &[i64]) -> Self {
        let min = group.iter().copied().min().unwrap_or(0);
        let max = group.iter().copied().max().unwrap_or(0);
        let widest = bits_of(max.wrapping_sub(min) as u64);
        if widest == 0 {
            return Self { base: min, width: 0, outliers: 0, bytes: 2 + uvarint_bytes(zigzag(min)) };
        }
        let mut low = 0;
        let mut best = Self::with_base(group, min, &mut low);
        // Outliers below the others are only there when few values are near the smallest one.
        if low <= group.len() / 8 && widest > 1 {
            let mut sorted = [0i64; GROUP];
            let sorted = &mut sorted[..group.len()];
            sorted.copy_from_slice(group);
            sorted.sort_unstable();
            for at in [1, group.len() / 16, group.len() / 8] {
                let candidate = Self::with_base(group, sorted[at.min(group.len() - 1)], &mut low);
                if candidate.bytes < best.bytes {
                    best = candidate;
                }
            }
        }
        best
    }

    /// The best width with this base; `low` becomes the number of values in the lowest quarter of the widest width.
    fn with_base(group: &[i64], base: i64, low: &mut usize) -> Self {
        let mut counts = [0u8; 65];
        for v in group {
            counts[bits_of(v.wrapping_sub(base) as u64) as usize] += 1;
        }
        let widest = counts.iter().rposition(|c| *c > 0).unwrap_or(0) as u32;
        *low = counts[..(widest as usize).saturating_sub(1)].iter().map(|c| usize::from(*c)).sum();
        let head = 2 + uvarint_bytes(zigzag(base));
        let packed = |width: u32| head + (group.len() * width as usize).div_ceil(8);
        let mut best = Self { base, width: widest, outliers: 0, bytes: packed(widest) };
        let mut outliers = 0;
        for width in (0..widest).rev() {
            outliers += usize::from(counts[width as usize + 1]);
            // Each takes two bytes at least, which is more than the bits of all widths that are left.
            if outliers * 2 > group.len() * (width as usize + 1) / 8 + 1 {
                break;
            }
            let patches: usize = (width + 1..=widest)
                .map(|bits| usize::from(counts[bits as usize]) * (1 + (bits - width).div_ceil(7) as usize))
                .sum();
            let bytes = packed(width) + patches;
            if bytes < best.bytes {
                best = Self { base, width, outliers, bytes };
            }
        }
        best
    }

    fn write(&self, group: &[i64], out: &mut Vec<u8>) {
        out.push(self.width as u8);
        out.push(self.outliers as u8);
        put_ivarint(out, self.base);
        pack(group.iter().map(|v| v.wrapping_sub(self.base) as u64), self.width, out);
        if self.outliers > 0 {
            for (i, v) in group.iter().enumerate() {
                let offset = v.wrapping_sub(self.base) as u64;
                if bits_of(offset) > self.width {
                    out.push(i as u8);
                    put_uvarint(out, offset >> self.width);
                }
            }
        }
    }
}

fn uvarint_bytes(v: u64) -> usize {
    (bits_of(v).max(1)).div_ceil(7) as usize
}

fn bits_of(v: u64) -> u32 {
    64 - v.leading_zeros()
}

/// Packs the low `width` bits of each value, least significant bit first.
fn pack(values: impl ExactSizeIterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let end = out.len() + (values.len() * width as usize).div_ceil(8);
    let mask = u64::MAX >> (64 - width);
    let (mut acc, mut filled) = (0u64, 0u32);
    for v in values {
        let v = v & mask;
        acc |= v << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&acc.to_le_bytes());
            filled -= 64;
            // What of the value did not fit; all of it did when nothing is left over.
            acc = if filled == 0 { 0 } else { v >> (width - filled) };
        }
    }
    out.extend_from_slice(&acc.to_le_bytes()[..filled.div_ceil(8) as usize]);
    debug_assert_eq!(out.len(), end, "packed values fill what they should");
}

/// Appends `count` integers to `out`.
pub(crate) fn decode_ints(from: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    read_ints(from, count, &(0..count), out)
}

/// Where decoded integers go. Each method has to be `#[inline(always)]`: see [`wide`](super::wide).
pub(crate) trait Sink {
    /// Takes the next integers; may use their place for its work.
    fn take(&mut self, piece: &mut [i64]);
}

impl Sink for Vec<i64> {
    #[inline(always)]
    fn take(&mut self, piece: &mut [i64]) {
        self.extend_from_slice(piece);
    }
}

/// Multiplies on the way.
struct Multiplied<'a, S> {
    first: i64,
    factor: i64,
    to: &'a mut S,
}

impl<S: Sink> Sink for Multiplied<'_, S> {
    #[inline(always)]
    fn take(&mut self, piece: &mut [i64]) {
        let (first, factor) = (self.first, self.factor);
        for v in &mut *piece {
            *v = first.wrapping_add(factor.wrapping_mul(*v));
        }
        self.to.take(piece);
    }
}

/// Hands `count` integers to `to`; those outside of `wanted` need not be right.
#[inline(always)]
pub(crate) fn read_ints(
    from: &mut Reader<'_>,
    count: usize,
    wanted: &Range<usize>,
    to: &mut impl Sink,
) -> Result<(), DecodeError> {
    match from.u8()? {
        _ if count == 0 => Ok(()),
        MULTIPLE => {
            let (first, factor) = (from.ivarint()?, from.uvarint()? as i64);
            read_packed(from.u8()?, from, count, wanted, &mut Multiplied { first, factor, to })
        }
        form => read_packed(form, from, count, wanted, to),
    }
}

#[inline(always)]
fn read_packed(
    form: u8,
    from: &mut Reader<'_>,
    count: usize,
    wanted: &Range<usize>,
    to: &mut impl Sink,
) -> Result<(), DecodeError> {
    match form {
        PLAIN => {
            let mut groups = Groups::new(from, count)?;
            while let Some(group) = groups.next(from)? {
                to.take(group);
            }
        }
        DELTA => {
            let mut last = from.ivarint()?;
            to.take(&mut [last]);
            let mut groups = Groups::new(from, count - 1)?;
            while let Some(group) = groups.next(from)? {
                last = add_up(last, group);
                to.take(group);
            }
        }
        DELTA2 => {
            let mut last = from.ivarint()?;
            to.take(&mut [last]);
            if count == 1 {
                return Ok(());
            }
            let mut delta = from.ivarint()?;
            last = last.wrapping_add(delta);
            to.take(&mut [last]);
            let mut groups = Groups::new(from, count - 2)?;
            while let Some(group) = groups.next(from)? {
                delta = add_up(delta, group);
                last = add_up(last, group);
                to.take(group);
            }
        }
        PCO | PCO_PAGES => {
            let data = from.bytes(from.rest().len())?;
            let mut taken = 0;
            decode_pco(data, form == PCO_PAGES, count, wanted, |first, piece| {
                fill(to, first - taken);
                to.take(piece);
                taken = first + piece.len();
            })?;
            fill(to, count - taken);
        }
        LINE => {
            let (mut at, step) = (from.ivarint()?, from.ivarint()?);
            let mut groups = Groups::new(from, count)?;
            while let Some(group) = groups.next(from)? {
                for v in &mut *group {
                    *v = v.wrapping_add(at);
                    at = at.wrapping_add(step);
                }
                to.take(group);
            }
        }
        _ => return Err(DecodeError),
    }
    Ok(())
}

/// Hands so many zeros to `to`.
#[inline(always)]
fn fill(to: &mut impl Sink, count: usize) {
    let mut left = count;
    while left > 0 {
        let n = left.min(GROUP);
        to.take(&mut [0; GROUP][..n]);
        left -= n;
    }
}

/// Makes of each value its sum with all before it and `start`; answers the last.
#[inline(always)]
fn add_up(start: i64, values: &mut [i64]) -> i64 {
    let mut last = start;
    let (fours, rest) = values.as_chunks_mut::<4>();
    // Only one addition in each four has to wait for the four before.
    for four in fours {
        let [a, b, c, d] = *four;
        let ab = a.wrapping_add(b);
        let abc = ab.wrapping_add(c);
        let abcd = ab.wrapping_add(c.wrapping_add(d));
        *four = [last.wrapping_add(a), last.wrapping_add(ab), last.wrapping_add(abc), last.wrapping_add(abcd)];
        last = last.wrapping_add(abcd);
    }
    for v in rest {
        last = last.wrapping_add(*v);
        *v = last;
    }
    last
}

/// Takes groups apart, one after the other.
struct Groups {
    left: usize,
    halves: [[i64; HALF]; 2],
}

impl Groups {
    /// For `count` values that begin where `from` is.
    #[inline(always)]
    fn new(from: &Reader<'_>, count: usize) -> Result<Self, DecodeError> {
        // A group of nothing but its head takes three bytes: a count that cannot be true allocates nothing.
        if count.div_ceil(GROUP).saturating_mul(3) > from.rest().len() {
            return Err(DecodeError);
        }
        Ok(Self { left: count, halves: [[0; HALF]; 2] })
    }

    /// The values of the next group, at most [`GROUP`]; `None` behind the last.
    #[inline(always)]
    fn next(&mut self, from: &mut Reader<'_>) -> Result<Option<&mut [i64]>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        let n = self.left.min(GROUP);
        self.left -= n;
        let width = u32::from(from.u8()?);
        let outliers = from.u8()?;
        let base = from.ivarint()?;
        if width > 64 {
            return Err(DecodeError);
        }
        let packed = from.bytes((n * width as usize).div_ceil(8))?;
        let (low, high) = packed.split_at(packed.len().min(HALF / 8 * width as usize));
        unpack(low, width, base, &mut self.halves[0]);
        if n > HALF {
            unpack(high, width, base, &mut self.halves[1]);
        }
        let values = &mut self.halves.as_flattened_mut()[..n];
        if outliers > 0 {
            patch(from, outliers, width, values)?;
        }
        Ok(Some(values))
    }
}

/// Adds the high bits of outliers to the values of a group.
#[inline(never)]
fn patch(from: &mut Reader<'_>, outliers: u8, width: u32, values: &mut [i64]) -> Result<(), DecodeError> {
    for _ in 0..outliers {
        let i = usize::from(from.u8()?);
        let high = from.uvarint()?;
        if width == 64 || high.leading_zeros() < width {
            return Err(DecodeError);
        }
        let place = values.get_mut(i).ok_or(DecodeError)?;
        *place = place.wrapping_add((high << width) as i64);
    }
    Ok(())
}
