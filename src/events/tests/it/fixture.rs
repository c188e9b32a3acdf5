//! Data written by every version stays readable. `TREFOIL_WRITE_FIXTURE=1` writes the fixture of the present one anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_events::EventStore;
use trefoil_model::*;
use trefoil_runtime::{RealVfs, sim::SimDisk};

use crate::support::*;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open_at(dir: &Path) -> EventStore {
    let mut options = options(&SimDisk::new());
    options.dir = dir.to_owned();
    options.vfs = Arc::new(RealVfs);
    EventStore::open(options).unwrap()
}

fn fixture(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

#[test]
fn version_1_is_readable() {
    check(1);
}

#[test]
fn version_2_is_readable() {
    check(2);
}

/// Logs of version 2, spans of version 3.
#[test]
fn version_3_is_readable() {
    let fixture = fixture(3);
    let runtime = runtime();
    let mut rng = rng(79);
    let batches: Vec<_> = (0..12).map(|_| (log_batch(&mut rng), trace_batch(&mut rng))).collect();
    if std::env::var_os("TREFOIL_WRITE_FIXTURE").is_some() {
        if fixture.exists() {
            std::fs::remove_dir_all(&fixture).unwrap();
        }
        let store = open_at(&fixture);
        for (index, (logs, spans)) in batches.iter().enumerate() {
            runtime.block_on(store.write_logs(logs.clone())).unwrap();
            runtime.block_on(store.write_spans(spans.clone())).unwrap();
            if index == 8 {
                // The rest stays in the journals.
                runtime.block_on(store.flush()).unwrap();
            }
        }
        let found = scan(&store, &everything(TenantId(0), Direction::Forward), 0);
        std::fs::write(fixture.join("expected.txt"), text(&store, &found)).unwrap();
    }
    check(3);
}

fn check(version: u16) {
    let dir = std::env::temp_dir().join(format!("trefoil-events-fixture-{version}-{}", std::process::id()));
    copy(&fixture(version), &dir);
    let store = open_at(&dir);
    let expected = std::fs::read_to_string(dir.join("expected.txt")).unwrap();
    let found = |store: &EventStore| {
        let logs = scan(store, &everything(TenantId(0), Direction::Forward), 0);
        text(store, &logs)
    };
    assert_eq!(found(&store), expected);
    // A merge takes what was written by any version.
    runtime().block_on(store.flush()).unwrap();
    while store.merge_once().unwrap() {}
    assert_eq!(found(&store), expected);
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn text(store: &EventStore, logs: &[Logged]) -> String {
    let search = SpanQuery { limit: 1000, ..SpanQuery::default() };
    let mut out = String::new();
    for logged in logs {
        out += &format!("{logged:?}\n");
    }
    for trace in store.find(&search, &Unlimited).unwrap() {
        out += &format!("{trace:?}\n");
    }
    out
}
