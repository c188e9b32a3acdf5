//! What keeps a store from working is told while it lasts.

use std::sync::Arc;

use trefoil_model::{MetricAdmin, StoreTrouble};
use trefoil_runtime::vfs::sim::{Fault, SimDisk};

use crate::support::{BASE, float, numbered, open, wait, write};

#[test]
fn a_flush_that_fails_is_told_until_one_succeeds() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    assert_eq!(db.trouble(), None);
    write(&db, &[(numbered(1), (BASE, 0, float(1.0)))]).unwrap();
    disk.fail_at(disk.op_count(), Fault::Io);
    wait(db.flush()).unwrap_err();
    let trouble = db.trouble();
    assert!(
        matches!(&trouble, Some(StoreTrouble::Degraded(why)) if why.starts_with("metrics cannot be flushed")),
        "{trouble:?}"
    );
    // Writes are still taken.
    write(&db, &[(numbered(1), (BASE + 1, 0, float(1.0)))]).unwrap();
    wait(db.flush()).unwrap();
    assert_eq!(db.trouble(), None);
}

#[test]
fn a_journal_that_takes_nothing_is_told() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    disk.fail_syncs(1000);
    write(&db, &[(numbered(1), (BASE, 0, float(1.0)))]).unwrap_err();
    let trouble = db.trouble();
    assert!(matches!(trouble, Some(StoreTrouble::NoWrites(_))), "{trouble:?}");
    let shared: Arc<dyn MetricAdmin> = Arc::new(db);
    assert_eq!(shared.trouble(), trouble);
}
