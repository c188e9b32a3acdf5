use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use trefoil_config::yaml::node;
use trefoil_pipeline::{Plan, Use};
use trefoil_runtime::RealVfs;

use super::*;
use crate::globs::Glob;
use crate::positions::Mark;
use crate::source::{Encoding, Format, Start};

/// A folder with log files and a tailer over it, with a time of its own.
struct World {
    dir: PathBuf,
    tailer: Tailer,
    positions: Positions,
    seconds: u64,
    source: Source,
}

impl Drop for World {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn limits() -> Limits {
    Limits { log_line_cut_bytes: 100, tail_open_files_max: 3, ..Limits::default() }
}

fn open(dir: &Path) -> Positions {
    Positions::open(RealVfs::shared(), &dir.join("data/positions"), &|_: &[Mark]| true).expect("positions")
}

impl World {
    fn new(name: &str, pattern: &str) -> Self {
        Self::with(name, pattern, |source| source)
    }

    fn with(name: &str, pattern: &str, change: impl FnOnce(Source) -> Source) -> Self {
        let dir = std::env::temp_dir().join(format!("trefoil-tailer-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        fs::create_dir_all(dir.join("logs")).expect("a folder");
        let glob = Glob::new(dir.join(pattern).to_str().expect("a name")).expect("a pattern");
        let source = change(Source {
            paths: vec![glob],
            exclude: Vec::new(),
            labels: Labels::from_pairs([("job", "j")]),
            format: Format::Auto,
            encoding: Encoding::Utf8,
            start: Start::Beginning,
            plan: Plan::empty(),
        });
        let positions = open(&dir);
        let mut out = Self { tailer: Tailer::new(&limits()), positions, seconds: 1_000, dir, source };
        out.tailer.set_sources(vec![out.source.clone()], &out.positions);
        out
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a log file");
        file.write_all(text.as_ref()).expect("written");
    }

    /// Lets time pass, then steps until nothing more comes; the lines in the order of files and lines.
    fn lines(&mut self) -> Vec<String> {
        self.lines_after(2)
    }

    fn lines_after(&mut self, seconds: u64) -> Vec<String> {
        let mut out = Vec::new();
        self.seconds += seconds;
        for _ in 0..1_000 {
            let wall_ns = i64::try_from(self.seconds).expect("few") * 1_000_000_000;
            let work = self.tailer.step(Moment { wall_ns, monotonic: Duration::from_secs(self.seconds) });
            self.positions.append(&work.change, Vec::new()).expect("appended");
            let is_empty = work.groups.is_empty();
            for group in work.groups {
                out.extend(group.records.into_iter().map(|record| record.text));
            }
            if is_empty && !work.more {
                return out;
            }
        }
        panic!("the tailer does not come to an end");
    }

    /// What a process would find that starts now.
    fn restart(&mut self) {
        self.tailer = Tailer::new(&limits());
        self.positions = open(&self.dir);
        self.tailer.set_sources(vec![self.source.clone()], &self.positions);
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("2026-01-02 line {n}")).collect()
}

fn text(range: std::ops::Range<usize>) -> String {
    numbers(range).iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn files_are_followed_as_they_grow_and_appear() {
    let mut world = World::new("grow", "logs/**/*.log");
    assert!(world.lines().is_empty());
    world.append("a.log", "one\ntw");
    assert_eq!(world.lines(), ["one"]);
    world.append("a.log", "o\r\nthree\n");
    world.append("sub/deep/b.log", "b\n");
    world.append("c.txt", "c\n");
    world.append("d.log.gz", "d\n");
    let mut lines = world.lines();
    lines.sort();
    assert_eq!(lines, ["b", "three", "two"]);
    assert!(world.lines().is_empty());
    world.restart();
    world.append("a.log", "four\n");
    assert_eq!(world.lines(), ["four"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end() {
    let mut world = World::new("rename", "logs/app.log");
    world.append("app.log", text(0..10));
    assert_eq!(world.lines(), numbers(0..10));
    world.append("app.log", text(10..12));
    fs::rename(world.path("app.log"), world.path("app.log.1")).expect("renamed");
    world.append("app.log.1", text(12..14));
    world.append("app.log", text(14..16));
    assert_eq!(world.lines(), numbers(10..16));
    // The writer goes on for a while.
    world.append("app.log.1", text(16..17));
    assert_eq!(world.lines(), numbers(16..17));
    world.append("app.log.1", "without end");
    assert!(world.lines().is_empty());
    assert_eq!(world.lines_after(40), ["without end"]);
    world.append("app.log", text(17..18));
    assert_eq!(world.lines(), numbers(17..18));
}

#[test]
fn a_file_renamed_while_away_is_read_to_its_end() {
    let mut world = World::new("away", "logs/app.log");
    world.append("app.log", text(0..10));
    assert_eq!(world.lines(), numbers(0..10));
    world.append("app.log", text(10..20));
    fs::rename(world.path("app.log"), world.path("app.log.1")).expect("renamed");
    world.append("app.log", text(20..30));
    world.restart();
    let mut lines = world.lines();
    lines.sort();
    assert_eq!(lines, numbers(10..30));
    assert!(world.lines().is_empty());
}

#[test]
fn renamed_files_within_the_pattern_are_not_read_again() {
    let mut world = World::new("within", "logs/app.log*");
    world.append("app.log", text(0..10));
    assert_eq!(world.lines(), numbers(0..10));
    fs::rename(world.path("app.log"), world.path("app.log.1")).expect("renamed");
    world.append("app.log", text(10..20));
    assert_eq!(world.lines(), numbers(10..20));
    fs::rename(world.path("app.log.1"), world.path("app.log.2")).expect("renamed");
    fs::rename(world.path("app.log"), world.path("app.log.1")).expect("renamed");
    world.append("app.log", text(20..30));
    world.restart();
    assert_eq!(world.lines(), numbers(20..30));
}

#[test]
fn a_copied_and_truncated_file_is_read_once() {
    let mut world = World::new("copytruncate", "logs/app.log*");
    world.append("app.log", text(0..10));
    assert_eq!(world.lines(), numbers(0..10));
    // Lines that only the copy has when the file is cut.
    world.append("app.log", text(10..12));
    fs::copy(world.path("app.log"), world.path("app.log.1")).expect("copied");
    File::create(world.path("app.log")).expect("cut");
    assert_eq!(world.lines(), numbers(10..12));
    world.append("app.log", text(20..30));
    assert_eq!(world.lines(), numbers(20..30));
    // A copy that is seen before the file is cut, and while it grows.
    world.append("app.log.2", "");
    assert!(world.lines().is_empty());
    world.append("app.log.2", &text(20..30)[..100]);
    assert!(world.lines().is_empty());
    world.append("app.log.2", &text(20..30)[100..]);
    world.append("app.log", text(30..31));
    assert_eq!(world.lines(), numbers(30..31));
    world.append("app.log.2", text(30..31));
    File::create(world.path("app.log")).expect("cut");
    assert!(world.lines().is_empty());
    world.append("app.log", text(40..50));
    assert_eq!(world.lines(), numbers(40..50));
    fs::remove_file(world.path("app.log.2")).expect("removed");
    assert!(world.lines_after(10).is_empty());
    // Both at once between two looks, and the new content longer than the old.
    fs::rename(world.path("app.log.1"), world.path("app.log.2")).expect("renamed");
    fs::copy(world.path("app.log"), world.path("app.log.1")).expect("copied");
    fs::write(world.path("app.log"), text(100..200)).expect("written");
    assert_eq!(world.lines(), numbers(100..200));
    world.restart();
    assert!(world.lines().is_empty());
}

#[test]
fn files_that_begin_alike_are_no_copies() {
    let mut world = World::new("alike", "logs/app*");
    world.append("app.log", "started\n");
    assert_eq!(world.lines(), ["started"]);
    world.append("app.log.err", "started\n");
    let mut lines = world.lines();
    world.append("app.log.err", "broken\n");
    lines.extend(world.lines());
    world.append("app.log", "fine\n");
    lines.extend(world.lines());
    assert_eq!(lines, ["started", "broken", "fine"]);
}

#[test]
fn a_file_cut_while_away_goes_on_in_its_copy() {
    let mut world = World::new("cut-away", "logs/app.log*");
    world.append("app.log", text(0..10));
    assert_eq!(world.lines(), numbers(0..10));
    world.append("app.log", text(10..15));
    fs::copy(world.path("app.log"), world.path("app.log.1")).expect("copied");
    fs::write(world.path("app.log"), text(50..52)).expect("written");
    world.restart();
    let mut lines = world.lines();
    lines.sort();
    let mut want = numbers(10..15);
    want.extend(numbers(50..52));
    assert_eq!(lines, want);
}

#[test]
fn a_removed_file_and_its_inode_used_again() {
    let mut world = World::new("reuse", "logs/*.log");
    for round in 0..20 {
        world.append("a.log", text(10 * round..10 * round + 10));
        let lines = world.lines();
        assert_eq!(lines, numbers(10 * round..10 * round + 10), "{round}");
        fs::remove_file(world.path("a.log")).expect("removed");
        if round % 2 == 0 {
            // Without the file open the number is free for the next one.
            world.restart();
        }
    }
}

#[test]
fn what_a_pipeline_holds_survives_a_restart() {
    let stages = node("[{multiline: {firstline: '^\\S', max_wait_time: 10s}}]").expect("a tree");
    let plan = Plan::new(&stages, Use::Files).expect("stages");
    let mut world = World::with("held", "logs/*.log", |source| Source { plan, ..source });
    world.append("a.log", "first\n more\nsecond\n of it");
    assert_eq!(world.lines(), ["first\n more"]);
    world.restart();
    assert!(world.lines().is_empty());
    world.append("a.log", "\n and\nthird\n");
    assert_eq!(world.lines(), ["second\n of it\n and"]);
    world.restart();
    assert!(world.lines().is_empty());
    assert_eq!(world.lines_after(20), ["third"]);
    world.restart();
    assert!(world.lines_after(20).is_empty());
}

#[test]
fn parts_of_two_streams_survive_a_restart() {
    let mut world = World::new("parts", "logs/*.log");
    let line =
        |stream: &str, flag: &str, text: &str| format!("2026-01-02T03:04:05.000000001Z {stream} {flag} {text}\n");
    world.append("a.log", line("stdout", "P", "a1 ") + &line("stderr", "F", "b") + &line("stdout", "P", "a2 "));
    assert_eq!(world.lines(), ["b"]);
    world.restart();
    world.append("a.log", line("stderr", "F", "c") + &line("stdout", "F", "a3"));
    assert_eq!(world.lines(), ["c", "a1 a2 a3"]);
}

#[test]
fn long_lines_are_cut_and_bad_bytes_are_shown() {
    let mut world = World::new("bad", "logs/*.log");
    world.append("a.log", "x".repeat(10 << 20));
    assert!(world.lines().is_empty());
    world.append("a.log", "y\nshort\n");
    world.append("b.log", b"a\xff\xfeb\n\0\x01\x02\n".as_slice());
    let mut lines = world.lines();
    lines.sort();
    assert_eq!(lines, ["\0\x01\x02".to_owned(), "a\u{fffd}\u{fffd}b".to_owned(), "short".to_owned(), "x".repeat(100)]);
    world.append("c.log", "é".repeat(60) + "\n");
    assert_eq!(world.lines(), ["é".repeat(50)]);
}

#[test]
fn utf_16_and_latin_1() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut world = World::with("utf16", "logs/*.log", |s| Source { encoding: Encoding::Utf16Le, ..s });
    world.append("a.log", utf16("\u{feff}grüße 🦀\r\nzwei\nopen"));
    assert_eq!(world.lines(), ["grüße 🦀", "zwei"]);
    world.append("a.log", utf16(&("x".repeat(300_000) + "\nend\n")));
    assert_eq!(world.lines().last().map(String::as_str), Some("end"));
    let mut world = World::with("latin1", "logs/*.log", |s| Source { encoding: Encoding::Latin1, ..s });
    world.append("a.log", b"gr\xfc\xdfe \x80\n".as_slice());
    assert_eq!(world.lines(), ["grüße €"]);
}

#[test]
fn old_lines_are_left_out_when_asked() {
    let mut world = World::with("start", "logs/*.log", |s| Source { start: Start::End, ..s });
    world.append("a.log", "old\nhalf");
    assert!(world.lines().is_empty());
    world.append("a.log", " new\n");
    world.append("b.log", "later\n");
    let mut lines = world.lines();
    lines.sort();
    assert_eq!(lines, ["half new", "later"]);
    world.append("c.log", "while away\n");
    world.restart();
    assert_eq!(world.lines(), ["while away"]);
}

#[test]
fn many_files_with_few_open() {
    let mut world = World::new("many", "logs/*.log");
    for round in 0..3 {
        for n in 0..50 {
            world.append(&format!("{n:02}.log"), format!("{n:02} {round}\n"));
        }
        let mut lines = world.lines_after(if round == 2 { 30 } else { 2 });
        lines.sort();
        assert_eq!(lines, (0..50).map(|n| format!("{n:02} {round}")).collect::<Vec<_>>());
        let open = world.tailer.files.iter().filter(|file| file.handle.is_some()).count();
        assert!(open <= 3, "{open}");
    }
}

#[test]
fn links_are_followed_and_no_file_is_read_twice() {
    let mut world = World::new("links", "logs/*.log");
    world.append("real/x", "line\n");
    std::os::unix::fs::symlink(world.path("real/x"), world.path("a.log")).expect("linked");
    std::os::unix::fs::symlink(world.path("real/x"), world.path("b.log")).expect("linked");
    std::os::unix::fs::symlink(world.path("nothing"), world.path("c.log")).expect("linked");
    assert_eq!(world.lines(), ["line"]);
    assert!(world.lines().is_empty());
}

#[test]
fn a_directory_that_vanishes_and_comes_back() {
    let mut world = World::new("vanish", "logs/disk/*.log");
    world.append("disk/a.log", text(0..3));
    assert_eq!(world.lines(), numbers(0..3));
    fs::rename(world.path("disk"), world.path("elsewhere")).expect("renamed");
    assert!(world.lines().is_empty());
    assert!(world.lines_after(60).is_empty());
    fs::rename(world.path("elsewhere"), world.path("disk")).expect("renamed");
    world.append("disk/a.log", text(3..5));
    assert_eq!(world.lines(), numbers(3..5));
}

#[test]
fn a_file_that_may_not_be_read_costs_nothing_else() {
    let mut world = World::new("forbidden", "logs/*");
    world.append("a.log", "a\n");
    world.append("b.log", "b\n");
    fs::create_dir_all(world.path("folder")).expect("a folder");
    fs::set_permissions(world.path("a.log"), fs::Permissions::from_mode(0o000)).expect("forbidden");
    let lines = world.lines();
    // The superuser may read everything.
    assert!(lines == ["b"] || lines == ["a", "b"], "{lines:?}");
}
