//! Merging samples of one series from several places.

use std::sync::Arc;

use trefoil_model::SampleBuffer;

struct Cursor<'a> {
    buffer: &'a SampleBuffer,
    at: usize,
    histogram: usize,
}

impl Cursor<'_> {
    fn time(&self) -> Option<i64> {
        self.buffer.times.get(self.at).copied()
    }

    fn is_histogram(&self) -> bool {
        self.buffer.histograms.get(self.histogram).is_some_and(|(i, _)| *i as usize == self.at)
    }

    fn copy_to(&self, out: &mut SampleBuffer) {
        let (t, start) = (self.buffer.times[self.at], self.buffer.starts.get(self.at).copied().unwrap_or(0));
        if self.is_histogram() {
            out.push_histogram(t, start, Arc::clone(&self.buffer.histograms[self.histogram].1));
        } else {
            out.push_float(t, start, self.buffer.values[self.at]);
        }
    }

    fn advance(&mut self) {
        if self.is_histogram() {
            self.histogram += 1;
        }
        self.at += 1;
    }
}

/// Appends the samples of all buffers to `out` in order of time; of equal times that of the last buffer wins.
pub(crate) fn merge_buffers(buffers: &[SampleBuffer], out: &mut SampleBuffer) {
    let mut cursors: Vec<Cursor<'_>> =
        buffers.iter().map(|buffer| Cursor { buffer, at: 0, histogram: 0 }).filter(|c| c.time().is_some()).collect();
    while let Some(t) = cursors.iter().filter_map(Cursor::time).min() {
        let mut winner = None;
        for (i, c) in cursors.iter().enumerate() {
            if c.time() == Some(t) {
                winner = Some(i);
            }
        }
        if let Some(i) = winner {
            cursors[i].copy_to(out);
        }
        for c in &mut cursors {
            if c.time() == Some(t) {
                c.advance();
            }
        }
    }
}
