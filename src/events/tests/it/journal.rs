//! Segments of the journal that are lost are told, wherever they lay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_journal::{Committed, Position, check_from};
use trefoil_model::*;
use trefoil_runtime::sim::SimDisk;
use trefoil_runtime::{SharedVfs, Vfs};

use crate::support::*;

const SET: &str = "/data/events/logs";

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let folder = Path::new(SET).join("journal");
    disk.files().into_iter().filter(|path| path.starts_with(&folder)).collect()
}

fn check(disk: &SimDisk) -> Vec<String> {
    let vfs: SharedVfs = Arc::new(disk.clone());
    let state = trefoil_parts::at_rest::read_state(&vfs, Path::new(SET)).unwrap();
    let position = state.journal.map_or(Position::default(), |(segment, offset)| Position { segment, offset });
    let sequence = state.attributes.get("journal_sequence").map(|number| number.parse().unwrap());
    let committed = Committed { position, sequence: sequence.or(state.journal.is_none().then_some(1)) };
    check_from(&vfs, &Path::new(SET).join("journal"), "logs", committed).unwrap()
}

#[test]
fn every_lost_segment_is_told() {
    for flushed in [false, true] {
        let (disk, runtime, mut rng) = (SimDisk::new(), runtime(), rng(11));
        let small = || {
            let mut options = options(&disk);
            options.journal.segment_bytes = 1 << 10;
            trefoil_events::EventStore::open(options).unwrap()
        };
        let store = small();
        let write = |store: &trefoil_events::EventStore, rng: &mut rand::rngs::StdRng| {
            for _ in 0..12 {
                let batch = LogBatch { tenant: TenantId(0), ..log_batch(rng) };
                runtime.block_on(store.write_logs(batch)).unwrap();
            }
        };
        write(&store, &mut rng);
        if flushed {
            runtime.block_on(store.flush()).unwrap();
            write(&store, &mut rng);
        }
        let disk = disk.fork();
        assert_eq!(check(&disk), Vec::<String>::new());
        let all = segments(&disk);
        assert!(all.len() >= 4, "{all:?}");
        // After a flush the first one holds only what is in parts.
        for path in all[usize::from(flushed)..all.len() - 1].iter() {
            let disk = disk.fork();
            disk.remove_file(path).unwrap();
            assert_eq!(check(&disk).len(), 1, "flushed {flushed}, {}: {:?}", path.display(), check(&disk));
        }
    }
}
