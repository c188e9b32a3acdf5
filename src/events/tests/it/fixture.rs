//! Data written by version 1 stays readable. `TREFOIL_WRITE_FIXTURE=1` writes the fixture anew.

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

#[test]
fn version_1_is_readable() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let runtime = runtime();
    let mut rng = rng(77);
    let batches: Vec<_> = (0..6).map(|_| (log_batch(&mut rng), trace_batch(&mut rng))).collect();
    if std::env::var_os("TREFOIL_WRITE_FIXTURE").is_some() {
        if fixture.exists() {
            std::fs::remove_dir_all(&fixture).unwrap();
        }
        let store = open_at(&fixture);
        for (index, (logs, spans)) in batches.iter().enumerate() {
            runtime.block_on(store.write_logs(logs.clone())).unwrap();
            runtime.block_on(store.write_spans(spans.clone())).unwrap();
            if index == 3 {
                // The rest stays in the journals.
                runtime.block_on(store.flush()).unwrap();
            }
        }
        let found = scan(&store, &everything(TenantId(0), Direction::Forward), 0);
        std::fs::write(fixture.join("expected.txt"), text(&store, &found)).unwrap();
    }
    let dir = std::env::temp_dir().join(format!("trefoil-events-fixture-{}", std::process::id()));
    copy(&fixture, &dir);
    let store = open_at(&dir);
    let expected = std::fs::read_to_string(dir.join("expected.txt")).unwrap();
    let found = scan(&store, &everything(TenantId(0), Direction::Forward), 0);
    assert_eq!(text(&store, &found), expected);
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
