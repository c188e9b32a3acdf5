//! Columns of times that blocks share: the series of one target have their samples at the same times, so a part has
//! these once and its blocks say where. Reading them series by series, a thread remembers the last few.

use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::DecodeError;
use super::ints::{encode_times, read_ints};
use super::varint::{Reader, put_ivarint, put_uvarint};
use super::wide::{Work, wide};

const REGULAR: u8 = 0;
const INTS: u8 = 1;

/// Most columns remembered while a part is written; then it begins anew, and times are written once more.
const COLUMNS_MAX: usize = 1 << 16;
/// Most bytes remembered of them.
const BYTES_MAX: usize = 16 << 20;

/// Appends count, first time, span and the times themselves, which ascend strictly and are at least one.
pub(crate) fn put_times(times: &[i64], out: &mut Vec<u8>) {
    let (first, last) = (times[0], times[times.len() - 1]);
    put_uvarint(out, times.len() as u64);
    put_ivarint(out, first);
    put_uvarint(out, last.wrapping_sub(first) as u64);
    let step = times.get(1).map_or(0, |t| t.wrapping_sub(first));
    if times.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step) {
        out.push(REGULAR);
    } else {
        out.push(INTS);
        encode_times(times, out);
    }
}

/// Count and bounds of a block or column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) count: usize,
    pub(crate) min_t: i64,
    pub(crate) max_t: i64,
}

impl Head {
    /// Reads what stands before the times; refuses counts above `count_max`.
    pub(crate) fn read(from: &mut Reader<'_>, count_max: usize) -> Result<Self, DecodeError> {
        let count = from.uvarint()?;
        let min_t = from.ivarint()?;
        let max_t = min_t.wrapping_add(from.uvarint()? as i64);
        if count == 0 || count > count_max as u64 || max_t < min_t {
            return Err(DecodeError);
        }
        Ok(Self { count: count as usize, min_t, max_t })
    }

    /// Appends the times, which follow the head, to `out`. They ascend strictly between the bounds.
    pub(crate) fn times(self, from: &mut Reader<'_>, out: &mut Vec<i64>) -> Result<(), DecodeError> {
        wide(ReadTimes { head: self, from, out })
    }

    #[inline(always)]
    fn read_times(self, from: &mut Reader<'_>, out: &mut Vec<i64>) -> Result<(), DecodeError> {
        let Self { count, min_t, max_t } = self;
        let start = out.len();
        out.reserve(count);
        match from.u8()? {
            REGULAR => {
                let span = max_t.wrapping_sub(min_t) as u64;
                let gaps = count as u64 - 1;
                let step = span / gaps.max(1);
                if step * gaps != span || (gaps > 0 && step == 0) {
                    return Err(DecodeError);
                }
                out.extend((0..count as u64).map(|i| min_t.wrapping_add(step.wrapping_mul(i) as i64)));
                return Ok(());
            }
            INTS => read_ints(from, count, &(0..count), out)?,
            _ => return Err(DecodeError),
        }
        let times = &out[start..];
        // Without a way out early, and without comparing, which SSE2 does not do with integers of 64 bits: gaps below
        // 2^46 cannot lead once around from the first time to the last, which are both checked.
        let gaps = times.iter().zip(&times[1..]).fold(0, |all, (a, b)| all | b.wrapping_sub(*a).wrapping_sub(1) as u64);
        let ascends = gaps >> 46 == 0 || times.windows(2).all(|w| w[0] < w[1]);
        if ascends && times[0] == min_t && times[count - 1] == max_t { Ok(()) } else { Err(DecodeError) }
    }
}

struct ReadTimes<'a, 'b> {
    head: Head,
    from: &'a mut Reader<'b>,
    out: &'a mut Vec<i64>,
}

impl Work for ReadTimes<'_, '_> {
    type Output = Result<(), DecodeError>;

    #[inline(always)]
    fn run(self) -> Result<(), DecodeError> {
        self.head.read_times(self.from, self.out)
    }
}

/// Columns that a thread remembers at most, a power of two.
const REMEMBERED_MAX: usize = 256;
/// Bytes of their times that it remembers at most.
const REMEMBERED_BYTES_MAX: usize = 1 << 20;

/// Which column of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ColumnId {
    /// A number that one open file has; 0 for files whose columns are not remembered.
    pub(crate) file: u64,
    /// Where in the file.
    pub(crate) at: usize,
}

/// Decoded columns of the files that a thread read last: neighbours in a part use a few columns in turn.
struct Remembered {
    places: Vec<Place>,
    bytes: usize,
}

struct Place {
    id: ColumnId,
    head: Head,
    /// Empty when the column was seen only once: it may be one that no other series uses.
    times: Vec<i64>,
}

thread_local! {
    static REMEMBERED: RefCell<Remembered> = const { RefCell::new(Remembered { places: Vec::new(), bytes: 0 }) };
}

impl ColumnId {
    fn place(self) -> usize {
        let mixed = (self.at as u64 ^ self.file << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 48) as usize % REMEMBERED_MAX
    }
}

/// What `take` makes of a column's head and times, if this thread remembers it.
pub(crate) fn cached<T>(id: ColumnId, take: impl FnOnce(Head, &[i64]) -> T) -> Option<T> {
    REMEMBERED.with_borrow(|r| {
        let place = r.places.get(id.place()).filter(|p| p.id == id && !p.times.is_empty())?;
        Some(take(place.head, &place.times))
    })
}

/// Remembers a column that was decoded, from the second time on.
pub(crate) fn remember(id: ColumnId, head: Head, times: &[i64]) {
    if id.file == 0 {
        return;
    }
    REMEMBERED.with_borrow_mut(|r| {
        if r.places.is_empty() {
            r.places.resize_with(REMEMBERED_MAX, || Place {
                id: ColumnId::default(),
                head: Head { count: 0, min_t: 0, max_t: 0 },
                times: Vec::new(),
            });
        }
        let place = &mut r.places[id.place()];
        if place.id != id {
            r.bytes -= size_of_val(&place.times[..]);
            *place = Place { id, head, times: Vec::new() };
            return;
        }
        if place.times.is_empty() {
            place.times.extend_from_slice(times);
            r.bytes += size_of_val(times);
        }
        if r.bytes > REMEMBERED_BYTES_MAX {
            *r = Remembered { places: Vec::new(), bytes: 0 };
        }
    });
}

/// The columns that stand in the part so far.
#[derive(Debug, Default)]
pub(crate) struct TimeColumns {
    /// By a hash of the times: where the column stands in the file and its encoding.
    columns: FxHashMap<u64, (u64, Box<[u8]>)>,
    bytes: usize,
    scratch: Vec<i64>,
}

impl TimeColumns {
    /// Where the column with these times stands. When there is none yet, calls `write` with the encoding of one,
    /// which writes it and answers where.
    pub(crate) fn place(&mut self, times: &[i64], write: impl FnOnce(&[u8]) -> u64) -> u64 {
        let hash = hash(times);
        if let Some((at, encoded)) = self.columns.get(&hash) {
            self.scratch.clear();
            let mut from = Reader::new(encoded);
            let head = Head::read(&mut from, usize::MAX);
            if head.and_then(|h| h.times(&mut from, &mut self.scratch)).is_ok() && self.scratch == times {
                return *at;
            }
        }
        let mut encoded = Vec::new();
        put_times(times, &mut encoded);
        let at = write(&encoded);
        if self.columns.len() >= COLUMNS_MAX || self.bytes >= BYTES_MAX {
            self.columns.clear();
            self.bytes = 0;
        }
        self.bytes += encoded.len();
        self.columns.insert(hash, (at, encoded.into_boxed_slice()));
        at
    }
}

/// Four sums side by side, because each has to wait for its own multiplication.
fn hash(times: &[i64]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [times.len() as u64, 1, 2, 3];
    let (chunks, rest) = times.as_chunks::<4>();
    for chunk in chunks {
        for (lane, t) in lanes.iter_mut().zip(chunk) {
            *lane = (*lane ^ *t as u64).wrapping_mul(FACTOR).rotate_left(29);
        }
    }
    for t in rest {
        lanes[0] = (lanes[0] ^ *t as u64).wrapping_mul(FACTOR).rotate_left(29);
    }
    lanes.into_iter().fold(0, |all, lane| (all ^ lane).wrapping_mul(FACTOR).rotate_left(29))
}
