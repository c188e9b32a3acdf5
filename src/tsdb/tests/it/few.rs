//! What is told of a request before it is read.

use trefoil_model::{MatchOp, MetricReader, TenantId, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;

use crate::support::{BASE, float, matcher, numbered, open, request, wait, write};

#[test]
fn small_requests_are_known() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let samples: Vec<_> = (0..10).map(|i| (numbered(i), (BASE + i as i64, 0, float(1.0)))).collect();
    write(&db, &samples).unwrap();
    let range = TimeRange::new(BASE, BASE + 100);
    let few = |series_max| {
        let of_all = request(vec![matcher(MatchOp::NotEqual, "__name__", "")], range);
        db.selects_few(&of_all, series_max, &Unlimited)
    };
    let in_memory = |range| db.is_in_memory(TenantId(0), range);
    assert_eq!((few(9), few(10), in_memory(range)), (false, true, true));
    wait(db.flush()).unwrap();
    assert_eq!((few(9), few(10), in_memory(range)), (false, true, false));
    assert!(in_memory(TimeRange::new(BASE + 100, BASE + 200)));
    // A series in both places counts twice: it is not known to be one.
    write(&db, &[(numbered(0), (BASE + 50, 0, float(2.0)))]).unwrap();
    assert_eq!((few(10), few(11)), (false, true));
}
