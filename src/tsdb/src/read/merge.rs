//! Merging samples of one series from several places.

use std::sync::Arc;

use trefoil_model::SampleBuffer;

use crate::downsample::merge_rolled;

/// Appends the samples of all buffers to `out` in order of time; of equal times that of the last buffer wins.
pub(crate) fn merge_buffers(buffers: &[SampleBuffer], out: &mut SampleBuffer) {
    if buffers.iter().any(|b| !b.rollups.is_empty()) {
        return merge_rolled(buffers, out);
    }
    let mut cursors: Vec<Cursor<'_>> = buffers.iter().map(|buffer| Cursor { buffer, at: 0, histogram: 0 }).collect();
    while let Some(t) = cursors.iter().filter_map(Cursor::time).min() {
        let mut winner = None;
        // The earliest time that another buffer has behind `t`.
        let mut limit = None;
        for (i, c) in cursors.iter_mut().enumerate().rev() {
            if c.time() == Some(t) {
                if winner.is_none() {
                    winner = Some(i);
                    continue;
                }
                c.skip_to(c.at + 1);
            }
            limit = match (limit, c.time()) {
                (Some(a), Some(b)) => Some(b.min(a)),
                (a, b) => a.or(b),
            };
        }
        if let Some(i) = winner {
            cursors[i].copy_before(limit, out);
        }
    }
}

/// Walks over the samples of a buffer.
struct Cursor<'a> {
    buffer: &'a SampleBuffer,
    at: usize,
    histogram: usize,
}

impl Cursor<'_> {
    fn time(&self) -> Option<i64> {
        self.buffer.times.get(self.at).copied()
    }

    fn skip_to(&mut self, end: usize) {
        let rest = &self.buffer.histograms[self.histogram..];
        self.histogram += rest.iter().take_while(|(i, _)| (*i as usize) < end).count();
        self.at = end;
    }

    /// Copies the samples before a time, or all that are left.
    fn copy_before(&mut self, limit: Option<i64>, out: &mut SampleBuffer) {
        let Self { buffer, at, histogram } = *self;
        let rest = &buffer.times[at..];
        let n = match limit {
            // Runs are mostly either all there is or short.
            Some(limit) if rest.last().is_some_and(|last| *last >= limit) => {
                rest.iter().position(|t| *t >= limit).unwrap_or(rest.len())
            }
            _ => rest.len(),
        };
        let end = at + n;
        let before = out.times.len();
        let starts = buffer.starts.get(at..end).unwrap_or_default();
        if !out.starts.is_empty() || starts.iter().any(|s| *s != 0) {
            out.starts.resize(before, 0);
            out.starts.extend_from_slice(starts);
            out.starts.resize(before + n, 0);
        }
        out.times.extend_from_slice(&rest[..n]);
        out.values.extend_from_slice(&buffer.values[at..end]);
        self.skip_to(end);
        for (i, h) in &buffer.histograms[histogram..self.histogram] {
            out.histograms.push(((before + *i as usize - at) as u32, Arc::clone(h)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use trefoil_model::FloatHistogram;

    use super::*;

    /// Time to start, and value or histogram.
    type Samples = BTreeMap<i64, (i64, Result<u8, u8>)>;

    fn histogram(sum: u8) -> Arc<FloatHistogram> {
        Arc::new(FloatHistogram { sum: f64::from(sum), ..FloatHistogram::default() })
    }

    fn buffer(samples: &Samples) -> SampleBuffer {
        let mut buffer = SampleBuffer::default();
        for (t, (start, value)) in samples {
            match value {
                Ok(v) => buffer.push_float(*t, *start, f64::from(*v)),
                Err(sum) => buffer.push_histogram(*t, *start, histogram(*sum)),
            }
        }
        buffer
    }

    #[track_caller]
    fn check(before: &Samples, sources: &[Samples]) {
        let mut out = buffer(before);
        merge_buffers(&sources.iter().map(buffer).collect::<Vec<_>>(), &mut out);
        let mut all = before.clone();
        // A later source wins over those before.
        sources.iter().for_each(|s| all.extend(s.clone()));
        let want = buffer(&all);
        let bits = |b: &SampleBuffer| b.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((out.times.clone(), bits(&out)), (want.times.clone(), bits(&want)));
        assert_eq!((out.starts, out.histograms), (want.starts, want.histograms));
    }

    fn samples(times: std::ops::Range<i64>) -> impl Strategy<Value = Samples> {
        let start = prop_oneof![4 => Just(0), 1 => 1i64..4];
        let value = prop_oneof![3 => any::<u8>().prop_map(Ok), 1 => any::<u8>().prop_map(Err)];
        prop::collection::btree_map(times, (start, value), 0..20)
    }

    #[test]
    fn edges() {
        let one = |t: i64| Samples::from([(t, (0, Ok(1)))]);
        check(&Samples::new(), &[]);
        check(&Samples::new(), &[Samples::new(), one(3)]);
        check(&Samples::new(), &[one(i64::MAX), one(i64::MIN), one(i64::MAX)]);
        check(&one(-5), &[Samples::from([(1, (7, Err(2))), (2, (0, Ok(1)))]), one(1), one(9)]);
    }

    proptest! {
        #[test]
        fn merged_is_what_a_map_has(
            before in samples(-40..0),
            sources in prop::collection::vec(prop_oneof![samples(0..30), samples(30..60), samples(0..200)], 0..5),
        ) {
            check(&before, &sources);
        }
    }
}
