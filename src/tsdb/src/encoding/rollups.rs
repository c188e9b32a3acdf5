//! Rollups as blocks: which buckets of a series are downsampled, and what they held.
//!
//! A row's blocks of rollups stand before its blocks of samples, at most [`BLOCK_ROLLUPS_MAX`] rollups each. The
//! samples tell the day; a bucket is named by the multiple of its interval.

use trefoil_model::SampleBuffer;

use super::floats::{decode_floats, encode_floats};
use super::ints::{decode_ints, encode_ints};
use super::varint::{Reader, put_ivarint, put_uvarint};
use super::{DecodeError, Effort};
use crate::downsample::{AS_MANY_AS_ARE_LEFT, Timed, timed};

/// Kind of a block of rollups.
pub(crate) const ROLLUPS: u8 = 3;
/// Most rollups in a block that we write.
const BLOCK_ROLLUPS_MAX: usize = 8192;

/// Calls `put` with the payload of each block that the rollups of a series need.
pub(crate) fn encode_rollups(samples: &SampleBuffer, mut put: impl FnMut(&[u8])) {
    for block in timed(samples).chunks(BLOCK_ROLLUPS_MAX) {
        let mut payload = vec![ROLLUPS];
        let (first, last) = (block[0].after, block[block.len() - 1].until);
        put_uvarint(&mut payload, block.len() as u64);
        put_ivarint(&mut payload, first);
        put_uvarint(&mut payload, last.wrapping_sub(first) as u64);
        let runs: Vec<&[Timed]> = block.chunk_by(|a, b| a.interval_ms == b.interval_ms).collect();
        put_uvarint(&mut payload, runs.len() as u64);
        for run in runs {
            put_uvarint(&mut payload, run[0].interval_ms as u64);
            put_uvarint(&mut payload, run.len() as u64);
        }
        let untils: Vec<i64> = block.iter().map(|r| r.until).collect();
        let counts: Vec<i64> = block.iter().map(|r| r.count as i64).collect();
        let sums: Vec<f64> = block.iter().map(|r| r.sum).collect();
        let histograms: Vec<i64> = block.iter().map(|r| r.histograms as i64).collect();
        encode_ints(&untils, &mut payload);
        encode_ints(&counts, &mut payload);
        encode_floats(Effort::Merged, &sums, &mut payload);
        if histograms.iter().any(|n| *n != 0) {
            encode_ints(&histograms, &mut payload);
        }
        put(&payload);
    }
}

/// Reads `count` rollups behind the head of a block. Their indices are not known yet.
pub(crate) fn decode_rollups(from: &mut Reader<'_>, count: usize, out: &mut Vec<Timed>) -> Result<(), DecodeError> {
    let mut intervals = Vec::with_capacity(count);
    for _ in 0..from.length(2)? {
        let interval = i64::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
        let n = usize::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
        if interval == 0 || n > count - intervals.len() {
            return Err(DecodeError);
        }
        intervals.resize(intervals.len() + n, interval);
    }
    let (mut untils, mut counts, mut sums, mut histograms) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    decode_ints(from, count, &mut untils)?;
    decode_ints(from, count, &mut counts)?;
    decode_floats(from, count, &(0..count), true, &mut sums)?;
    if from.is_empty() {
        // There are none, or they are all left: downsampling passed them over once.
        histograms.resize(count, AS_MANY_AS_ARE_LEFT as i64);
    } else {
        decode_ints(from, count, &mut histograms)?;
    }
    let is_negative = |n: &i64| *n < 0;
    if intervals.len() != count
        || !untils.is_sorted_by(|a, b| a < b)
        || counts.iter().any(is_negative)
        || histograms.iter().any(is_negative)
    {
        return Err(DecodeError);
    }
    let columns = untils.into_iter().zip(intervals).zip(counts).zip(sums).zip(histograms);
    for ((((until, interval_ms), count), sum), histograms) in columns {
        let (after, until) = trefoil_model::Rollup::bucket_of(interval_ms, until);
        let (count, histograms) = (count as u64, histograms as u64);
        out.push(Timed { after, until, interval_ms, count, sum, histograms, begin: 0, end: 0 });
    }
    Ok(())
}
