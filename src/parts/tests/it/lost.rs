//! Commits that are lost or damaged: nothing of a part goes, copies stand in, a repair brings back the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_parts::repair::{Adopted, Describe, PartPlace, RepairOptions, RepairReport, repair};
use trefoil_parts::{CatalogState, Commit, JournalStart, PartId, PartMeta, PartSet, PartsError};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{ReadOnlyVfs, SharedVfs, Vfs};

use crate::support::{DIR, Model, State, Step, open, run, state, write_part};

fn store() -> (SimDisk, State) {
    let (disk, mut model) = (SimDisk::new(), Model::default());
    run(&disk, &[Step::Flush(2, 1), Step::Flush(1, 2), Step::Merge(2), Step::Flush(1, 3), Step::Merge(2)], &mut model)
        .unwrap();
    (disk, model.now)
}

fn in_folder(disk: &SimDisk, folder: &str) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with(Path::new(DIR).join(folder))).collect()
}

fn remove(disk: &SimDisk, folder: &str) {
    disk.remove_dir_all(&Path::new(DIR).join(folder)).unwrap();
}

/// All bytes of a disk.
fn image(disk: &SimDisk) -> Vec<(PathBuf, bytes::Bytes)> {
    disk.files().into_iter().map(|path| (path.clone(), disk.read(&path).unwrap())).collect()
}

fn open_read_only(disk: &SimDisk) -> Result<PartSet, PartsError> {
    let real: SharedVfs = Arc::new(disk.clone());
    PartSet::open(ReadOnlyVfs::shared(real, None), Path::new(DIR), "test")
}

/// Knows what the parts of these tests are.
struct Knows;

impl Describe for Knows {
    fn describe(&mut self, place: &PartPlace) -> Result<PartMeta, String> {
        Err(format!("part {} says nothing", place.id))
    }

    fn finish(&mut self, state: &mut CatalogState, adopted: &[Adopted]) {
        state.attributes.insert("adopted".to_owned(), adopted.len().to_string());
    }
}

fn repaired(disk: &SimDisk) -> RepairReport {
    repaired_with(disk, RepairOptions::default())
}

fn repaired_with(disk: &SimDisk, options: RepairOptions) -> RepairReport {
    let vfs: SharedVfs = Arc::new(disk.clone());
    let before = image(disk);
    let told = repair(&vfs, Path::new(DIR), &mut Knows, RepairOptions { is_dry: true, ..options }).unwrap();
    assert_eq!(image(disk), before, "a dry run changes nothing");
    let done = repair(&vfs, Path::new(DIR), &mut Knows, options).unwrap();
    assert_eq!(told, done);
    done
}

#[test]
fn either_folder_of_commits_is_enough() {
    let (disk, now) = store();
    for folder in ["catalog", "catalog-copies"] {
        for path in in_folder(&disk, folder) {
            let disk = disk.fork();
            disk.remove_file(&path).unwrap();
            assert_eq!(state(&disk, &open_read_only(&disk).unwrap()), now);
            assert_eq!(state(&disk, &open(&disk).unwrap()), now, "{} is missing", path.display());
            assert!(disk.exists(&path), "it is written again");
            assert!(open(&disk).unwrap().findings().is_empty());
        }
        let disk = disk.fork();
        remove(&disk, folder);
        assert_eq!(state(&disk, &open_read_only(&disk).unwrap()), now);
        let set = open(&disk).unwrap();
        assert_eq!(state(&disk, &set), now, "without {folder}");
        assert_eq!(set.findings().len(), if folder == "catalog" { 5 } else { 0 });
    }
}

#[test]
fn every_flip_in_one_commit_is_mended() {
    let (disk, now) = store();
    for folder in ["catalog", "catalog-copies"] {
        for path in in_folder(&disk, folder) {
            let len = disk.len(&path).unwrap() as usize;
            for at in (0..len).step_by(if crate::support::is_torture() { 1 } else { 13 }) {
                let disk = disk.fork();
                disk.corrupt(&path, |bytes| bytes[at] ^= 1 << (at % 8));
                let context = format!("{} byte {at}", path.display());
                let set = open(&disk).unwrap();
                assert_eq!(state(&disk, &set), now, "{context}");
                assert_eq!(set.findings().len(), 1, "{context}");
                drop(set);
                assert!(open(&disk).unwrap().findings().is_empty(), "{context}");
            }
        }
    }
}

#[test]
fn without_any_commit_nothing_is_touched_and_a_repair_brings_all_back() {
    let (disk, now) = store();
    for folder in ["catalog", "catalog-copies"] {
        remove(&disk, folder);
    }
    let before = image(&disk);
    assert!(matches!(open_read_only(&disk), Err(PartsError::NoCommits { .. })));
    assert!(matches!(open(&disk), Err(PartsError::NoCommits { .. })));
    assert_eq!(image(&disk), before);
    let report = repaired(&disk);
    assert_eq!(report.adopted, now.parts);
    let set = open(&disk).unwrap();
    assert_eq!(state(&disk, &set).parts, now.parts);
    assert_eq!(set.attributes()["adopted"], now.parts.len().to_string());
    let id = write_part(&set, 7).unwrap().meta().id;
    assert!(id > *now.parts.last().unwrap());
    drop(set);
    assert!(!repaired(&disk).is_needed);
}

#[test]
fn without_the_newest_commit_the_merged_part_stays() {
    let (disk, now) = store();
    for folder in ["catalog", "catalog-copies"] {
        let newest = in_folder(&disk, folder).pop().unwrap();
        disk.remove_file(&newest).unwrap();
    }
    let before = image(&disk);
    let set = open_read_only(&disk).unwrap();
    assert!(!set.findings().is_empty());
    assert_eq!(image(&disk), before);
    // Opened to be written to, it keeps the part aside.
    let moved = disk.fork();
    let set = open(&moved).unwrap();
    assert!(set.findings().iter().any(|finding| finding.contains("lost")), "{:?}", set.findings());
    drop(set);
    assert_eq!(in_folder(&moved, "lost").len(), 3);
    drop(open(&moved).unwrap());
    for disk in [&disk, &moved] {
        let report = repaired(disk);
        assert_eq!((report.adopted.len(), report.missing.len()), (1, 0), "{report:?}");
        let set = open(disk).unwrap();
        assert_eq!(state(disk, &set).parts, now.parts);
        assert!(in_folder(disk, "lost").is_empty() && set.findings().is_empty());
    }
}

#[test]
fn a_damaged_commit_without_a_copy_is_kept_aside_by_a_repair() {
    let (disk, now) = store();
    remove(&disk, "catalog-copies");
    for path in in_folder(&disk, "catalog") {
        let disk = disk.fork();
        disk.corrupt(&path, |bytes| bytes[60] ^= 1);
        assert!(open(&disk).is_err_and(|error| error.is_catalog_damage()));
        let report = repaired(&disk);
        assert_eq!(report.damaged_commits.len(), 1);
        assert_eq!(state(&disk, &open(&disk).unwrap()).parts, now.parts, "{}", path.display());
        assert!(in_folder(&disk, "catalog").iter().any(|path| path.extension().is_some_and(|end| end == "damaged")));
    }
}

#[test]
fn what_a_crash_left_goes_after_many_commits() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    run(&disk, &[Step::Flush(1, 1)], &mut model).unwrap();
    // As if the power had gone between the part and its commit.
    let set = open(&disk).unwrap();
    let path = set.path(&set.parts()[0], "index");
    let left = path.ancestors().nth(2).unwrap().join("00000000000000000077");
    disk.create_dir_all(&left).unwrap();
    disk.create(&left.join("index")).unwrap().write_all(b"x").unwrap();
    drop(set);
    let set = open(&disk).unwrap();
    assert_eq!((in_folder(&disk, "lost").len(), set.findings().len()), (1, 0));
    assert!(write_part(&set, 1).unwrap().meta().id > PartId(77), "its id is not given again");
    for step in 0..64 {
        set.commit(Commit { journal: Some((step, 0)), ..Commit::default() }).unwrap();
    }
    assert_eq!(in_folder(&disk, "lost").len(), 1);
    drop(set);
    drop(open(&disk).unwrap());
    assert!(in_folder(&disk, "lost").is_empty());
}

/// Takes the commits away, with their folders or only what is in them.
fn lose_commits(disk: &SimDisk, with_folders: bool) {
    for folder in ["catalog", "catalog-copies"] {
        if with_folders {
            remove(disk, folder);
        } else {
            in_folder(disk, folder).iter().for_each(|file| disk.remove_file(file).unwrap());
        }
    }
}

#[test]
fn the_only_part_of_a_set_is_not_taken_for_what_a_crash_left() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    run(&disk, &[Step::Flush(2, 1)], &mut model).unwrap();
    for (with_folders, has_mark) in [(true, true), (false, true), (true, false), (false, false)] {
        let context = format!("with folders {with_folders}, with mark {has_mark}");
        let disk = disk.fork();
        lose_commits(&disk, with_folders);
        if !has_mark {
            // As earlier versions made it.
            disk.remove_file(&Path::new(DIR).join("catalog-state")).unwrap();
        }
        let before = image(&disk);
        for _ in 0..2 {
            assert!(matches!(open_read_only(&disk), Err(PartsError::NoCommits { .. })), "{context}");
            assert!(matches!(open(&disk), Err(PartsError::NoCommits { .. })), "{context}");
        }
        assert_eq!(image(&disk), before, "{context}");
        assert_eq!(repaired(&disk).adopted, model.now.parts, "{context}");
        assert_eq!(state(&disk, &open(&disk).unwrap()).parts, model.now.parts, "{context}");
    }
}

#[test]
fn a_set_without_local_parts_knows_that_it_had_commits() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    run(&disk, &[Step::Flush(1, 1), Step::Expire], &mut model).unwrap();
    lose_commits(&disk, true);
    assert!(matches!(open(&disk), Err(PartsError::NoCommits { parts: 0, .. })));
    let report = repaired(&disk);
    assert!(report.is_needed && report.adopted.is_empty());
    assert!(open(&disk).unwrap().parts().is_empty());
    // One that never had a commit opens, also one of an earlier version.
    let disk = SimDisk::new();
    drop(open(&disk).unwrap());
    lose_commits(&disk, true);
    drop(open(&disk).unwrap());
    disk.remove_file(&Path::new(DIR).join("catalog-state")).unwrap();
    drop(open(&disk).unwrap());
}

fn open_beside(disk: &SimDisk, journal: JournalStart) -> Result<PartSet, PartsError> {
    PartSet::open_beside(Arc::new(disk.clone()), Path::new(DIR), "test", None, journal)
}

#[test]
fn a_lost_commit_is_told_from_a_crash_by_what_the_journal_has() {
    let disk = SimDisk::new();
    let set = open_beside(&disk, JournalStart::Empty).unwrap();
    for (number, start) in [(1, 4), (2, 6)] {
        let add = vec![write_part(&set, number).unwrap()];
        let journal_start = JournalStart::Segment(start);
        set.commit(Commit { add, journal: Some((start + 1, 9)), journal_start, ..Commit::default() }).unwrap();
    }
    let whole: Vec<PartId> = set.parts().iter().map(|meta| meta.id).collect();
    drop(set);
    for folder in ["catalog", "catalog-copies"] {
        disk.remove_file(&in_folder(&disk, folder).pop().unwrap()).unwrap();
    }
    // The journal has lost nothing: whatever happened, the samples are in it.
    for journal in [JournalStart::Unknown, JournalStart::Segment(3), JournalStart::Segment(6)] {
        let disk = disk.fork();
        assert!(!repaired_with(&disk, RepairOptions { journal, ..RepairOptions::default() }).is_needed);
        let set = open_beside(&disk, journal).unwrap();
        assert_eq!((set.parts().len(), set.findings().len(), in_folder(&disk, "lost").len()), (1, 0, 3));
        drop(set);
        // Asked for, it is taken in although nothing is damaged.
        let options = RepairOptions { journal, with_leftovers: true, ..RepairOptions::default() };
        assert_eq!(repaired_with(&disk, options).adopted, whole[1..]);
        assert_eq!(open_beside(&disk, journal).unwrap().parts().len(), 2);
        assert!(!repaired_with(&disk, options).is_needed);
    }
    for journal in [JournalStart::Empty, JournalStart::Segment(7), JournalStart::Segment(90)] {
        let disk = disk.fork();
        let before = image(&disk);
        let error = open_beside(&disk, journal).map(drop).unwrap_err();
        assert!(matches!(error, PartsError::LostCommit { sequence: 2, .. }) && error.is_catalog_damage());
        assert!(error.to_string().contains("trefoil tsdb repair"), "{error}");
        assert_eq!(image(&disk), before);
        let report = repaired_with(&disk, RepairOptions { journal, ..RepairOptions::default() });
        assert_eq!(report.adopted, whole[1..]);
        assert_eq!(open_beside(&disk, journal).unwrap().parts().len(), 2);
    }
}
