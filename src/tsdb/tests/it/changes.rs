//! What readers that keep answers are told.

use std::time::Duration;

use trefoil_model::{MetricAdmin, MetricReader, SelectRequest, TenantId, TimeRange};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::Policy;

use crate::support::{BASE, float, numbered, open, wait, write};

#[test]
fn changes_are_told_by_their_earliest_time() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let put =
        |t: i64| write(&db, &[(numbered(1), (t, 0, float(1.0))), (numbered(2), (t + 500, 0, float(2.0)))]).unwrap();
    let first = db.change_mark().unwrap();
    assert_eq!(db.changed_from_ms(first), i64::MAX);
    put(BASE + 5000);
    put(BASE + 9000);
    assert_eq!(db.changed_from_ms(first), BASE + 5000);
    let second = db.change_mark().unwrap();
    // Neither flushes nor merges change what is read.
    wait(db.flush()).unwrap();
    put(BASE + 7000);
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
    assert_eq!((db.changed_from_ms(first), db.changed_from_ms(second)), (BASE + 5000, BASE + 7000));

    let third = db.change_mark().unwrap();
    let matchers = vec![trefoil_model::Matcher::equal("__name__", numbered(1).metric_name())];
    let range = TimeRange::new(BASE, BASE + 6000);
    let request = SelectRequest { tenant: TenantId::default(), matchers, range };
    wait(MetricAdmin::delete(&db, &[request])).unwrap();
    assert_eq!(db.changed_from_ms(third), i64::MIN);

    let fourth = db.change_mark().unwrap();
    db.set_policy(Policy { dedup_interval: Some(Duration::from_secs(60)), ..Policy::default() });
    assert_eq!(db.changed_from_ms(fourth), i64::MIN);
    let fifth = db.change_mark().unwrap();
    put(BASE + 90_000);
    assert_eq!(db.changed_from_ms(fifth), BASE + 30_000, "a sample hides those before it in its interval");
    assert_eq!(db.settled_from_ms(), i64::MIN);
    wait(db.close());
}
