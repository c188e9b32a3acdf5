//! Merging samples of one series from several places.

use trefoil_model::SampleBuffer;

use crate::downsample::{Cursor, merge_rolled};

/// Appends the samples of all buffers to `out` in order of time; of equal times that of the last buffer wins.
pub(crate) fn merge_buffers(buffers: &[SampleBuffer], out: &mut SampleBuffer) {
    if buffers.iter().any(|b| !b.rollups.is_empty()) {
        return merge_rolled(buffers, out);
    }
    let mut cursors: Vec<Cursor<'_>> = buffers.iter().map(Cursor::new).filter(|c| c.time().is_some()).collect();
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
