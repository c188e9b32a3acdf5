use bytes::Bytes;
use roaring::RoaringBitmap;
use trefoil_model::{Labels, MatchOp, Matcher, SampleBuffer, SeriesId, StoreError, TimeRange, Unlimited};

use super::layout::blocks_header;
use super::{PartBuilder, PartReader};
use crate::matching::{LabelIndex, Rows, Wanted, select_rows};

const DAY: i64 = 19_700;

fn series() -> Vec<Labels> {
    let mut all: Vec<Labels> = (0..150)
        .map(|i| {
            Labels::from_pairs([
                ("__name__".to_owned(), format!("metric_{}", i % 7)),
                ("instance".to_owned(), format!("host-{i}:9100")),
                ("job".to_owned(), if i % 3 == 0 { String::new() } else { format!("job{}", i % 4) }),
                ("ünï".to_owned(), if i == 50 { "wert".to_owned() } else { String::new() }),
            ])
        })
        .collect();
    all.sort_unstable();
    all
}

fn files() -> (Vec<u8>, Vec<u8>) {
    let mut blocks = blocks_header();
    let mut builder = PartBuilder::new(DAY, blocks.len());
    for (i, labels) in series().into_iter().enumerate() {
        let mut samples = SampleBuffer::default();
        for k in 0..10 {
            samples.push_float(DAY * 86_400_000 + k * 1000 + i as i64, 0, i as f64 * 100.0 + k as f64);
        }
        builder.add(SeriesId(1000 + i as u64 * 3), &labels, &samples, &mut blocks);
    }
    (builder.index(), blocks)
}

/// What was written by the first writer of this version, which kept the labels of all series until the end.
#[test]
fn the_bytes_of_an_index_do_not_depend_on_how_it_is_built() {
    let (index, _) = files();
    assert_eq!((index.len(), crc32c::crc32c(&index)), (5781, 1_230_920_256));
}

fn open(index: &[u8], blocks: &[u8]) -> Result<PartReader, StoreError> {
    PartReader::open("part".to_owned(), Bytes::copy_from_slice(index), Bytes::copy_from_slice(blocks))
}

fn matchers() -> Vec<Vec<Matcher>> {
    let m = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    vec![
        vec![],
        vec![m(Equal, "__name__", "metric_3")],
        vec![m(Equal, "job", "")],
        vec![m(NotEqual, "job", "")],
        vec![m(NotEqual, "job", "job1"), m(Regex, "__name__", "metric_[12]")],
        vec![m(Regex, "instance", "host-1.*")],
        vec![m(Regex, "instance", ".*0:9100"), m(NotRegex, "job", "job[12]|")],
        vec![m(NotRegex, "instance", "host-1.*")],
        vec![m(Regex, "job", "job1|")],
        vec![m(Regex, "job", ".*")],
        vec![m(Regex, "job", ".+")],
        vec![m(NotRegex, "job", ".+")],
        vec![m(NotRegex, "job", "job.*")],
        vec![m(Regex, "job", "(job.*)?")],
        vec![m(NotEqual, "absent", "x")],
        vec![m(Equal, "absent", "x")],
        vec![m(Regex, "absent", "x?")],
        vec![m(Equal, "ünï", "wert")],
        vec![m(Regex, "__name__", "nothing.*")],
    ]
}

/// Everything that can be asked of a part; `None` where it answers with an error.
fn answers(part: &PartReader) -> Vec<Option<String>> {
    let mut out = Vec::new();
    for m in matchers() {
        out.push(select_rows(part, &m, &Unlimited).ok().map(|r| format!("{r:?}")));
    }
    for row in 0..part.rows() {
        let mut samples = SampleBuffer::default();
        let read = part.read(row, TimeRange::ALL, &mut samples).map(|()| (samples.times, samples.values));
        out.push(read.ok().map(|v| format!("{v:?}")));
        out.push(part.labels(row).ok().map(|l| l.to_string()));
        out.push(part.bounds(row).ok().map(|l| format!("{l:?}")));
    }
    for labels in series() {
        out.push(part.find(&labels).ok().map(|id| format!("{id:?}")));
    }
    let some: RoaringBitmap = [3, 77].into_iter().collect();
    let some = Rows::new(some, None);
    for rows in [None, Some(&some)] {
        let mut names = Vec::new();
        let found = part.names(rows, &mut |n| {
            names.push(n.to_owned());
            Ok(())
        });
        out.push(found.ok().map(|()| format!("{names:?}")));
        let mut values = Vec::new();
        let found = part.values("instance", &Wanted::All, rows, &mut |v| {
            values.push(v.to_owned());
            Ok(())
        });
        out.push(found.ok().map(|()| format!("{values:?}")));
    }
    out
}

#[test]
fn a_part_answers_like_a_scan() {
    let (index, blocks) = files();
    let part = open(&index, &blocks).unwrap();
    let all = series();
    for m in matchers() {
        let want: Vec<u32> = (0..all.len() as u32)
            .filter(|i| m.iter().all(|m| m.matches(all[*i as usize].get(&m.name).unwrap_or(""))))
            .collect();
        assert_eq!(select_rows(&part, &m, &Unlimited).unwrap().into_iter().collect::<Vec<_>>(), want, "{m:?}");
    }
    for (i, labels) in all.iter().enumerate() {
        assert_eq!(part.labels(i as u32).unwrap(), *labels);
        assert_eq!(part.find(labels).unwrap(), Some(SeriesId(1000 + i as u64 * 3)));
    }
    assert_eq!(part.find(&Labels::from_pairs([("a", "b")])).unwrap(), None);
    let mut seen = Vec::new();
    part.for_each_labels(&[0, 31, 32, 149].into_iter().collect(), &mut |row, labels| {
        seen.push((row, labels));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [0, 31, 32, 149].map(|r| (r, all[r as usize].clone())));
}

#[test]
fn damage_gives_errors_and_never_other_answers() {
    let (index, blocks) = files();
    let want = answers(&open(&index, &blocks).unwrap());
    assert!(want.iter().all(Option::is_some));
    let check = |part: Result<PartReader, StoreError>, what: String| {
        let Ok(part) = part else { return };
        for (i, (got, want)) in answers(&part).iter().zip(&want).enumerate() {
            assert!(got.is_none() || got == want, "{what}, answer {i}: {got:?} instead of {want:?}");
        }
    };
    // Every byte would take long; a stride without common factors reaches all kinds of places.
    for at in (0..index.len()).step_by(13) {
        let mut bad = index.clone();
        bad[at] ^= 1 << (at % 8);
        check(open(&bad, &blocks), format!("index byte {at}"));
    }
    for at in (0..blocks.len()).step_by(29) {
        let mut bad = blocks.clone();
        bad[at] ^= 1 << (at % 8);
        check(open(&index, &bad), format!("blocks byte {at}"));
    }
    for at in (0..index.len()).step_by(97) {
        check(open(&index[..at], &blocks), format!("index cut at {at}"));
    }
    for at in (0..blocks.len()).step_by(97) {
        check(open(&index, &blocks[..at]), format!("blocks cut at {at}"));
    }
}

/// `cargo test --release -p trefoil-tsdb --lib -- --ignored --nocapture a_million_values`
#[test]
#[ignore = "measures; takes some seconds"]
fn patterns_over_a_million_values() {
    use std::time::Instant;
    let mut blocks = blocks_header();
    let mut builder = PartBuilder::new(0, blocks.len());
    let mut samples = SampleBuffer::default();
    samples.push_float(0, 0, 1.0);
    let mut paths: Vec<String> =
        (0..1_000_000u64).map(|i| format!("/api/v1/{:x}/item-{i}", i.wrapping_mul(0x9e37_79b9) % 65_536)).collect();
    paths.sort_unstable();
    for (id, path) in paths.iter().enumerate() {
        builder.add(SeriesId(id as u64 + 1), &Labels::from_pairs([("path", path)]), &samples, &mut blocks);
    }
    let part = PartReader::open("p".into(), builder.index().into(), blocks.into()).unwrap();
    for pattern in [
        "/api/v1/a.*",
        ".*item-77777",
        ".*m-777.*",
        "(?i)/API/V1/ff.*",
        "/api/v1/[0-9]+/item-.*00",
        "/api/v1/.*",
        ".*[^0-9]7",
        "/api/v1/1/.*|/api/v1/2/.*",
        "/api/v1/(a|b|c)f.*/item-1.*",
    ] {
        let m = Matcher::new(MatchOp::Regex, "path", pattern).unwrap();
        let begun = Instant::now();
        let rows = select_rows(&part, std::slice::from_ref(&m), &Unlimited).unwrap();
        let with = begun.elapsed();
        let begun = Instant::now();
        let tested = Wanted::Tested(crate::matching::literal_prefix(pattern), &m);
        let again = part.rows_wanted("path", &tested, None, &mut || Ok(())).unwrap();
        println!("{pattern:40} {:8} rows, automaton {with:9.1?}, value by value {:9.1?}", rows.len(), begun.elapsed());
        assert_eq!(rows, again);
    }
}
