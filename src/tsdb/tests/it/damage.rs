//! Files of a store that a bad disk changed: an error that names the file, or the right answer.

use trefoil_model::{MetricReader, SampleBuffer, StoreError, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;

use crate::support::{BASE, DAY_MS, float, numbered, open, points, request, wait, write};

#[test]
fn a_damaged_part_is_named_and_other_days_stay_readable() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    for day in 0..2 {
        for k in 0..50 {
            let t = BASE + day * DAY_MS + k * 1000;
            write(&db, &[(numbered(0), (t, 0, float(k as f64))), (numbered(1), (t, 0, float(0.1)))]).unwrap();
        }
    }
    wait(db.flush()).unwrap();
    wait(db.close());
    drop(db);
    let blocks: Vec<_> = disk.files().into_iter().filter(|f| f.ends_with("blocks")).collect();
    assert_eq!(blocks.len(), 2);
    let pristine = disk.fork();
    let mut errors = 0;
    for file in disk.files().into_iter().filter(|f| f.ends_with("blocks") || f.ends_with("index")) {
        let len = trefoil_runtime::Vfs::len(&pristine, &file).unwrap() as usize;
        for at in (0..len).step_by(7) {
            let disk = pristine.fork();
            disk.corrupt(&file, |bytes| bytes[at] ^= 0x20);
            let db = open(&disk).unwrap();
            for day in 0..2 {
                let range = TimeRange::new(BASE + day * DAY_MS, BASE + (day + 1) * DAY_MS);
                let series = match db.select(&request(vec![], range), &Unlimited) {
                    Ok(series) => series,
                    Err(StoreError::Corrupt(text)) => {
                        assert!(text.contains("index") || text.contains("blocks"), "{text}");
                        errors += 1;
                        continue;
                    }
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(series.len(), 2);
                for (i, s) in series.iter().enumerate() {
                    let mut out = SampleBuffer::default();
                    match s.source.read(range, &mut out) {
                        Ok(()) => {
                            let value = |k: i64| if i == 0 { float(k as f64) } else { float(0.1) };
                            let want: Vec<_> = (0..50).map(|k| (range.start_ms + k * 1000, 0, value(k))).collect();
                            assert_eq!(points(&out), want);
                        }
                        Err(StoreError::Corrupt(_)) => errors += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            // Writing, flushing and merging go on beside the damage.
            write(&db, &[(numbered(0), (BASE + 90_000, 0, float(1.0)))]).unwrap();
            wait(db.flush()).unwrap();
            (0..5).any(|_| matches!(db.merge_once(), Ok(false)));
        }
    }
    assert!(errors > 20, "only {errors} errors");
}
