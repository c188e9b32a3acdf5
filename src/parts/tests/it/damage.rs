//! Bytes that rot, in commits and in parts.

use std::path::Path;

use trefoil_parts::{PartSet, PartsError};
use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::sim::SimDisk;

use crate::support::{Model, Step, is_torture, open, run, state};

fn store() -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let mut model = Model::default();
    run(&disk, &[Step::Flush(2, 1), Step::Flush(1, 2), Step::Merge(2), Step::Move], &mut model).unwrap();
    (disk, model)
}

/// The right state or an error, never another state.
fn check(disk: &SimDisk, model: &Model, context: &str) -> bool {
    match open(disk) {
        Ok(set) => {
            assert_eq!(state(disk, &set), model.now, "{context}");
            true
        }
        Err(PartsError::CorruptCommit { .. } | PartsError::MissingCommit { .. } | PartsError::Version { .. }) => false,
        Err(error) => panic!("{context}: {error}"),
    }
}

#[test]
fn a_damaged_commit_is_an_error_that_names_it() {
    let (disk, model) = store();
    // As earlier versions left it; see `lost` for what copies are good for.
    disk.remove_dir_all(Path::new("/data/store/catalog-copies")).unwrap();
    let commits: Vec<_> = disk.files().into_iter().filter(|path| path.starts_with("/data/store/catalog")).collect();
    assert_eq!(commits.len(), 4);
    for path in &commits {
        let len = disk.len(path).unwrap() as usize;
        for at in 0..len {
            for bit in if is_torture() { 0..8 } else { at % 8..at % 8 + 1 } {
                let disk = disk.fork();
                disk.corrupt(path, |bytes| bytes[at] ^= 1 << bit);
                assert!(!check(&disk, &model, &format!("{} byte {at} bit {bit}", path.display())));
            }
            let disk = disk.fork();
            disk.corrupt(path, |bytes| bytes.truncate(at));
            assert!(!check(&disk, &model, &format!("{} cut to {at}", path.display())));
        }
    }
    let (newest, older) = commits.split_last().unwrap();
    for path in older {
        let disk = disk.fork();
        disk.remove_file(path).unwrap();
        assert!(!check(&disk, &model, "missing commit"));
    }
    let copied = disk.fork();
    let other = copied.read(&older[0]).unwrap();
    copied.corrupt(newest, |bytes| *bytes = other.to_vec());
    assert!(!check(&copied, &model, "copied commit"));
}

#[test]
fn a_damaged_file_is_an_error_of_its_part_only() {
    let (disk, _) = store();
    let file = disk.files().into_iter().find(|path| path.ends_with("index")).unwrap();
    let damaged = |change: &dyn Fn(&SimDisk)| -> Vec<(PartSet, bool)> {
        let disk = disk.fork();
        change(&disk);
        let set = open(&disk).unwrap();
        let parts = set.parts();
        parts.iter().map(|meta| (set.clone(), set.verify(meta).is_ok())).collect()
    };
    let len = disk.len(&file).unwrap() as usize;
    for at in (0..len).step_by(7) {
        let verified = damaged(&|disk| disk.corrupt(&file, |bytes| bytes[at] ^= 4));
        assert_eq!(verified.iter().filter(|(_, intact)| !intact).count(), 1);
        let verified = damaged(&|disk| disk.corrupt(&file, |bytes| bytes.truncate(at)));
        assert_eq!(verified.iter().filter(|(_, intact)| !intact).count(), 1);
    }
    let verified = damaged(&|disk| disk.remove_file(&file).unwrap());
    assert_eq!(verified.iter().filter(|(_, intact)| !intact).count(), 1);
    assert_eq!(verified.len(), 2);
}
