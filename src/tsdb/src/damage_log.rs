//! Damage that reads come upon: each place is logged and counted once, however often it is read.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::metrics;

/// Places that are remembered; further ones are counted each time.
const PLACES_MAX: usize = 10_000;

static PLACES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes a place: path of the file and what is wrong in which range.
pub(crate) fn note(place: &str) {
    let mut places = PLACES.lock();
    if places.contains(place) {
        return;
    }
    if places.len() < PLACES_MAX {
        places.insert(place.to_owned());
    }
    drop(places);
    metrics::BLOCKS_CORRUPT.inc();
    tracing::error!(place, "damage found in a part");
}
