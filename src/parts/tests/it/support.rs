//! A set of parts with a model beside it: the state after each commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_model::TenantId;
use trefoil_parts::{Commit, PartFacts, PartId, PartSet, PartsError, PendingPart};
use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::sim::SimDisk;

pub(crate) const DIR: &str = "/data/store";

pub(crate) fn is_torture() -> bool {
    std::env::var_os("TREFOIL_TORTURE").is_some_and(|value| value == "1")
}

pub(crate) fn open(disk: &SimDisk) -> Result<PartSet, PartsError> {
    PartSet::open(Arc::new(disk.clone()), Path::new(DIR), "test")
}

/// What the files of a part hold: its id and something longer than a sector.
fn content(id: PartId, file: &str) -> Vec<u8> {
    format!("part {id} file {file} ").into_bytes().repeat(40)
}

pub(crate) fn write_part(set: &PartSet, partition: i64) -> Result<PendingPart, PartsError> {
    let writer = set.begin(TenantId(3), partition, "samples")?;
    let id = writer.id();
    writer.write_file("index", &content(id, "index"))?;
    let mut file = writer.create_file("blocks")?;
    let blocks = content(id, "blocks");
    let halves = blocks.split_at(100);
    for half in [halves.0, halves.1] {
        file.write_all(half).map_err(|source| PartsError::Io { action: "write", path: "blocks".into(), source })?;
    }
    file.finish()?;
    let facts = PartFacts {
        min_t: partition * 10,
        max_t: partition * 10 + 9,
        items: 7,
        format: 1,
        attributes: BTreeMap::from([("codec".to_owned(), "plain".to_owned())]),
        created_ms: 1_700_000_000_000,
        level: 0,
    };
    writer.finish(facts)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) parts: Vec<PartId>,
    journal: Option<(u64, u64)>,
    attributes: BTreeMap<String, String>,
}

/// Reads the state and proves that it is whole: every file has its bytes, and no other file is on the disk.
pub(crate) fn state(disk: &SimDisk, set: &PartSet) -> State {
    let parts = set.parts();
    assert!(parts.is_sorted_by_key(|meta| meta.order()));
    let mut files = 0;
    for meta in parts.iter() {
        assert!(disk.exists(&set.path(meta, "part.commit")));
        files += 1;
        set.verify(meta).unwrap();
        for file in &meta.files {
            assert_eq!(set.map(meta, &file.name).unwrap(), content(meta.id, &file.name));
            files += 1;
        }
    }
    // What a crash left without a commit is kept for a while.
    let is_other = |path: &&PathBuf| {
        ["catalog", "catalog-copies", "catalog-state", "lost"].iter().all(|f| !path.starts_with(Path::new(DIR).join(f)))
    };
    let on_disk = disk.files().iter().filter(is_other).count();
    assert_eq!(on_disk, files, "{:?}", disk.files());
    let mut ids: Vec<PartId> = parts.iter().map(|meta| meta.id).collect();
    ids.sort_unstable();
    State { parts: ids, journal: set.journal_position(), attributes: set.attributes() }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Publishes parts in a partition and moves the journal.
    Flush(usize, i64),
    /// Replaces the oldest parts by one.
    Merge(usize),
    /// Removes the oldest part.
    Expire,
    /// Moves the journal and nothing else.
    Move,
    Reopen,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: State,
    /// What the state is if the commit under way succeeds.
    pub(crate) next: Option<State>,
    step: u64,
}

impl Model {
    fn commit(&mut self, set: &PartSet, add: Vec<PendingPart>, remove: Vec<PartId>) -> Result<(), PartsError> {
        self.step += 1;
        let journal = Some((self.step, 100));
        let attributes = BTreeMap::from([(format!("key{}", self.step % 3), self.step.to_string())]);
        let mut next = self.now.clone();
        next.parts.retain(|id| !remove.contains(id));
        next.parts.extend(add.iter().map(|pending| pending.meta().id));
        next.journal = journal;
        next.attributes.extend(attributes.clone());
        self.next = Some(next.clone());
        set.commit(Commit { add, remove, journal, attributes, ..Commit::default() })?;
        self.now = next;
        self.next = None;
        Ok(())
    }

    pub(crate) fn step(&mut self, set: &PartSet, step: Step) -> Result<(), PartsError> {
        match step {
            Step::Flush(count, partition) => {
                let add: Result<Vec<_>, _> = (0..count).map(|_| write_part(set, partition)).collect();
                self.commit(set, add?, Vec::new())
            }
            Step::Merge(count) => {
                let remove: Vec<PartId> = self.now.parts.iter().take(count).copied().collect();
                let merged = write_part(set, 1)?;
                self.commit(set, vec![merged], remove)
            }
            Step::Expire => {
                let remove = self.now.parts.iter().take(1).copied().collect();
                self.commit(set, Vec::new(), remove)
            }
            Step::Move => self.commit(set, Vec::new(), Vec::new()),
            Step::Reopen => Ok(()),
        }
    }

    /// After a crash the state is the old or the new one.
    pub(crate) fn check(&mut self, disk: &SimDisk, set: &PartSet, context: &str) {
        let found = state(disk, set);
        if found != self.now {
            assert_eq!(Some(&found), self.next.as_ref(), "{context}: neither {:?}", self.now);
            self.now = found;
        }
        self.next = None;
    }
}

pub(crate) fn run(disk: &SimDisk, steps: &[Step], model: &mut Model) -> Result<(), PartsError> {
    let mut set = open(disk)?;
    for step in steps {
        if matches!(step, Step::Reopen) {
            drop(set);
            set = open(disk)?;
        }
        model.step(&set, *step)?;
    }
    Ok(())
}

pub(crate) fn workloads() -> Vec<(&'static str, Vec<Step>)> {
    use Step::{Expire, Flush, Merge, Move, Reopen};
    let mut many = vec![Flush(1, 1)];
    many.extend([Move; 66]);
    many.push(Expire);
    vec![
        ("flushes", vec![Flush(1, 1), Flush(2, 1), Flush(1, 2), Move]),
        ("merges", vec![Flush(3, 1), Merge(2), Flush(1, 1), Merge(3), Reopen, Merge(1)]),
        ("removal", vec![Flush(2, 5), Flush(1, -1), Expire, Reopen, Expire, Expire, Flush(1, 6)]),
        ("snapshots", many),
    ]
}
