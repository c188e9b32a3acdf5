//! Write-ahead logs that the library of Prometheus 3 (v0.316.0) wrote: all kinds of records, three compressions.

use trefoil_runtime::RealVfs;
use trefoil_transfer::import::ImportOptions;
use trefoil_transfer::prometheus::data_dir;

use crate::support::{Copy, Memory, files, fixtures, import};

const T: i64 = 1_748_897_918_112;

fn name(n: &str) -> String {
    format!("{{__name__=\"{n}\", job=\"wal\"}}")
}

fn check(memory: &Memory) {
    let floats = &memory.series[&name("floats")];
    assert_eq!(floats.len(), 3000);
    assert_eq!(floats[7], (T + 7000, 0, Ok(0x7ff0_0000_0000_0002)));
    assert_eq!(floats[2999], (T + 2_999_000, 0, Ok((2999.0f64 * 0.37).to_bits())));
    let starts = &memory.series[&name("starts")];
    // Three of twenty are deleted.
    assert_eq!(starts.len(), 17);
    let want = [(0, T - 5000), (8, T + 10_000), (12, 0), (16, T + 10_000)];
    assert_eq!(want.map(|(i, _)| (i, starts[i].1)), want);
    for (n, count) in [("ints", 5), ("custom", 5), ("other", 10), ("other_starts", 10)] {
        let samples = &memory.series[&name(n)];
        assert_eq!(samples.len(), count, "{n}");
        for (t, start, value) in samples {
            let h = value.as_ref().unwrap_err();
            assert_eq!(h.validate(), Ok(()), "{n}");
            // The sum tells which one it is.
            let i = h.sum as i64;
            assert_eq!(t - T, if *t >= T + 10 { 10 + i } else { i }, "{n}");
            assert_eq!(h.integer, *t < T + 10 && n != "other", "{n}");
            let buckets: f64 = h.positive_buckets.iter().chain(&h.negative_buckets).sum();
            assert_eq!(h.count, buckets + h.zero_count, "{n}");
            if n == "other_starts" {
                assert_eq!(*start, if *t >= T + 10 { T - i } else { T - 1 });
            }
        }
    }
    assert_eq!(memory.series[&name("custom")][0].2.as_ref().unwrap_err().custom_values, [0.5, 2.0]);
    assert_eq!(memory.exemplars, 1);
}

#[test]
fn logs_are_imported_whole() {
    for compression in ["none", "snappy", "zstd"] {
        let dir = fixtures().join("logs").join(compression);
        let (memory, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &dir, i));
        let report = report.unwrap();
        assert_eq!((report.damage_count, report.deleted, report.series), (0, 3, 6), "{:?}", report.damage);
        check(&memory);
    }
}

#[test]
fn flipped_bytes_never_panic_and_are_told() {
    for compression in ["none", "snappy", "zstd"] {
        let copy = Copy::of(&fixtures().join("logs").join(compression), compression);
        let path = files(&copy.0).remove(0);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(97) {
            let mut broken = whole.clone();
            broken[at] ^= 1 << (at % 8);
            std::fs::write(&path, &broken).unwrap();
            let (_, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &copy.0, i));
            let report = report.unwrap();
            assert!(report.damage_count > 0 || report.samples == 3047, "{compression} byte {at}: {}", report.samples);
        }
        for len in (0..whole.len()).step_by(997) {
            std::fs::write(&path, &whole[..len]).unwrap();
            let (_, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &copy.0, i));
            assert!(report.unwrap().samples <= 3047);
        }
    }
}
