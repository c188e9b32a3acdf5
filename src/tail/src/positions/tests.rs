use trefoil_runtime::RealVfs;

use super::*;

fn position(id: u64, read: u64) -> Position {
    let inode = Inode { device: 1, number: 100 + id };
    let path = PathBuf::from(format!("/var/log/{id}.log"));
    Position { id, path, inode, fingerprint: Fingerprint { length: 3, hash: 7 }, read, held: vec![1], is_copy: false }
}

fn mark() -> Mark {
    Mark { stream: vec![("a".to_owned(), "b".to_owned())], time_ns: 5, line_hash: Mark::hash("x") }
}

fn change(files: Vec<Position>, gone: Vec<u64>) -> Change {
    Change { files, gone, patterns: vec!["/var/log/*".to_owned()] }
}

/// A folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trefoil-positions-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("tail/positions")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn open(folder: &Folder, stored: bool) -> Positions {
    Positions::open(RealVfs::shared(), &folder.file(), &|marks: &[Mark]| {
        assert_eq!(marks, [mark()]);
        stored
    })
    .unwrap()
}

#[test]
fn the_last_batch_counts_when_it_was_stored() {
    let folder = Folder::new("last");
    let mut positions = open(&folder, true);
    positions.append(&change(vec![position(1, 10), position(2, 20)], vec![]), vec![mark()]).unwrap();
    positions.append(&change(vec![position(1, 11)], vec![2]), vec![mark()]).unwrap();
    let text = std::fs::read(folder.file()).unwrap();
    let not = open(&folder, false);
    assert_eq!(not.all().values().map(|p| p.read).collect::<Vec<_>>(), [10, 20]);
    assert!(not.knows("/var/log/*") && !not.knows("/x"));
    std::fs::write(folder.file(), &text).unwrap();
    let stored = open(&folder, true);
    assert_eq!(stored.all().values().collect::<Vec<_>>(), [&position(1, 11)]);
    // It was written anew, so nobody is asked again.
    let again = Positions::open(RealVfs::shared(), &folder.file(), &|_: &[Mark]| panic!("asked")).unwrap();
    assert_eq!(again.all().len(), 1);
}

#[test]
fn damage_costs_what_is_behind_it() {
    let folder = Folder::new("damage");
    let mut positions = open(&folder, true);
    for read in 1..=3 {
        positions.append(&change(vec![position(1, read)], vec![]), vec![]).unwrap();
    }
    let text = std::fs::read(folder.file()).unwrap();
    for cut in HEADER.len()..text.len() {
        std::fs::write(folder.file(), &text[..cut]).unwrap();
        let read = open(&folder, true).all().get(&1).map_or(0, |p| p.read);
        assert!(read < 3, "{cut}: {read}");
    }
    let mut flipped = text.clone();
    let at = text.len() - 20;
    flipped[at] ^= 1;
    std::fs::write(folder.file(), &flipped).unwrap();
    assert_eq!(open(&folder, true).all()[&1].read, 2);
    std::fs::write(folder.file(), "something else").unwrap();
    assert!(Positions::open(RealVfs::shared(), &folder.file(), &|_: &[Mark]| true).is_err());
}

#[test]
fn the_frozen_file_is_read() {
    let folder = Folder::new("frozen");
    std::fs::create_dir_all(folder.0.join("tail")).unwrap();
    let frozen = include_bytes!("../../fixtures/positions_1");
    std::fs::write(folder.file(), frozen).unwrap();
    let positions = open(&folder, true);
    let copy = Position { is_copy: true, held: vec![3, 9], ..position(2, 20) };
    assert_eq!(positions.all().values().cloned().collect::<Vec<_>>(), [position(1, 11), copy]);
    assert!(positions.knows("/var/log/*.log"));
}

#[test]
fn the_file_does_not_grow_without_end() {
    let folder = Folder::new("compact");
    let mut positions = open(&folder, true);
    let long = Position { held: (0..20_000).collect(), ..position(1, 1) };
    for _ in 0..40 {
        positions.append(&change(vec![long.clone()], vec![]), vec![]).unwrap();
    }
    assert!(std::fs::metadata(folder.file()).unwrap().len() < 2 << 20);
}
