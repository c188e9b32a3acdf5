//! Two blocks that promtool made of two metrics with three series each.

use std::path::Path;

use trefoil_model::TimeRange;
use trefoil_runtime::RealVfs;
use trefoil_transfer::import::ImportOptions;
use trefoil_transfer::prometheus::data_dir;

use crate::support::{Copy, files, fixtures, import};

const SERIES: &str = r#"{__name__="requests_total", instance="a", path="/üa"}"#;

#[test]
fn blocks_are_imported_whole() {
    let (memory, report) =
        import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &fixtures().join("data"), i));
    let report = report.unwrap();
    assert_eq!((report.series, report.samples, report.damage_count), (6, 900, 0), "{:?}", report.damage);
    let samples = &memory.series.get(SERIES).unwrap_or_else(|| panic!("{:?}", memory.series.keys()));
    assert_eq!(samples.len(), 150);
    assert!(samples.windows(2).all(|w| w[1].0 - w[0].0 == 60_000));
    assert_eq!(samples[0].0, 1_748_897_918_000);
}

#[test]
fn a_range_of_time_is_kept_to() {
    let options = ImportOptions { range: TimeRange::new(1_748_897_918_000, 1_748_898_038_000), ..Default::default() };
    let (_, report) = import(options, |i| data_dir::import(&RealVfs, &fixtures().join("data"), i));
    assert_eq!(report.unwrap().samples, 2 * 6);
}

#[test]
fn a_folder_without_data_is_an_error() {
    let (_, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &fixtures().join("none"), i));
    assert!(report.is_err());
}

fn import_broken(dir: &Path) -> (u64, u64) {
    let (_, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, dir, i));
    report.map_or((0, 1), |r| (r.samples, r.damage_count))
}

#[test]
fn flipped_bytes_never_panic_and_are_told() {
    let copy = Copy::of(&fixtures().join("data"), "flips");
    for path in files(&copy.0) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut broken = whole.clone();
            broken[at] ^= 1 << (at % 8);
            std::fs::write(&path, &broken).unwrap();
            let (samples, damage) = import_broken(&copy.0);
            // What is not covered by a checksum (padding, unused parts of the index, JSON) may change nothing.
            assert!(samples == 900 || damage > 0 || name == "meta.json", "{} byte {at}", path.display());
            assert!(samples <= 900, "{} byte {at}", path.display());
        }
        for len in (0..whole.len()).step_by(101) {
            std::fs::write(&path, &whole[..len]).unwrap();
            import_broken(&copy.0);
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn damage_in_a_chunk_costs_that_chunk() {
    let copy = Copy::of(&fixtures().join("data"), "chunk");
    let path = files(&copy.0).into_iter().find(|p| p.ends_with("chunks/000001")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &copy.0, i));
    let report = report.unwrap();
    assert_eq!((report.samples, report.damage_count), (900 - 62, 1));
    let text = report.damage[0].to_string();
    assert!(text.contains("chunks/000001: byte 8..") && text.contains("fails its checksum"), "{text}");
}

#[test]
fn damage_to_the_list_of_series_is_worked_around() {
    let copy = Copy::of(&fixtures().join("data"), "postings");
    let path = files(&copy.0).into_iter().find(|p| p.ends_with("index")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The postings offset table stands last, before the table of contents.
    let toc = bytes.len() - 52;
    let table = u64::from_be_bytes(bytes[toc + 40..toc + 48].try_into().unwrap()) as usize;
    bytes[table + 6] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &copy.0, i));
    let report = report.unwrap();
    assert_eq!((report.samples, report.damage_count), (900, 1), "{:?}", report.damage);
}

#[test]
fn tombstones_are_honoured() {
    let copy = Copy::of(&fixtures().join("data"), "tombstones");
    let block = files(&copy.0).into_iter().find(|p| p.ends_with("tombstones")).unwrap();
    // One stone: a series that cannot be known here, so all of them up to 255.
    let mut body = Vec::new();
    for series in 0..128u8 {
        body.extend([series, 0]);
        // zigzag LEB128 of a time after all samples
        let mut max = (1_848_897_918_000i64 << 1) as u64;
        while max >= 0x80 {
            body.push(max as u8 | 0x80);
            max >>= 7;
        }
        body.push(max as u8);
    }
    let mut file = vec![0x01, 0x30, 0xba, 0x30, 1];
    file.extend(&body);
    file.extend(crc32c::crc32c(&body).to_be_bytes());
    std::fs::write(block, file).unwrap();
    let (_, report) = import(ImportOptions::default(), |i| data_dir::import(&RealVfs, &copy.0, i));
    let report = report.unwrap();
    assert_eq!((report.samples, report.deleted, report.damage_count), (528, 372, 0));
}
