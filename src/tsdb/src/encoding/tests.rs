use std::sync::Arc;

use proptest::prelude::*;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, STALE_NAN, SampleBuffer, TimeRange};

use super::Effort;
use super::block::{BlockEncoder, Blocks};
use super::floats::{decode_floats, encode_floats};
use super::histogram::{decode_histogram, encode_histogram};
use super::ints::{decode_ints, encode_ints};
use super::ints::{encode_last_ints, encode_times};
use super::varint::Reader;

fn check_ints(values: &[i64]) -> usize {
    let mut bytes = Vec::new();
    encode_ints(values, &mut bytes);
    let (mut from, mut back) = (Reader::new(&bytes), vec![7]);
    decode_ints(&mut from, values.len(), &mut back).unwrap();
    assert_eq!(&back[1..], values);
    assert!(from.is_empty());
    bytes.len()
}

fn check_last_ints(encode: impl Fn(&mut Vec<u8>), values: &[i64]) -> usize {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    let (mut from, mut back) = (Reader::new(&bytes), vec![7]);
    decode_ints(&mut from, values.len(), &mut back).unwrap();
    assert_eq!(&back[1..], values);
    assert!(from.is_empty());
    bytes.len()
}

fn check_merged_ints(values: &[i64]) -> usize {
    check_last_ints(|out| encode_times(values, out), values);
    check_last_ints(|out| encode_last_ints(Effort::Merged, values, out), values)
}

fn check_floats(values: &[f64]) -> usize {
    let merged = check_floats_of(Effort::Merged, values);
    let fresh = check_floats_of(Effort::Fresh, values);
    assert!(merged <= fresh);
    fresh
}

fn check_floats_of(effort: Effort, values: &[f64]) -> usize {
    let mut bytes = Vec::new();
    encode_floats(effort, values, &mut bytes);
    let (mut from, mut back) = (Reader::new(&bytes), vec![7.0]);
    decode_floats(&mut from, values.len(), &(0..values.len()), true, &mut back).unwrap();
    let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back[1..]), bits(values));
    assert!(from.is_empty());
    bytes.len()
}

type Columns = (Vec<i64>, Vec<u64>, Vec<i64>, Vec<(u32, Arc<FloatHistogram>)>);

fn bits_of(buffer: &SampleBuffer) -> Columns {
    let values = buffer.values.iter().map(|v| v.to_bits()).collect();
    (buffer.times.clone(), values, buffer.starts.clone(), buffer.histograms.clone())
}

#[test]
fn special_integers_and_sizes() {
    check_ints(&[]);
    check_ints(&[i64::MIN]);
    check_ints(&[i64::MIN, i64::MAX, 0, -1, 1, i64::MAX, i64::MIN]);
    let counter: Vec<i64> = (0..1000).map(|i| i * 15_000).collect();
    assert!(check_ints(&counter) < 100, "a regular grid is nearly free");
    let mut jitter = counter;
    jitter.iter_mut().enumerate().for_each(|(i, t)| *t += (i as i64 * 7919) % 4);
    assert!(check_ints(&jitter) < 1000);
    let mut with_reset: Vec<i64> = (0..1000).map(|i| i * 10 + i % 3).collect();
    with_reset[500..].iter_mut().for_each(|v| *v -= 5000);
    assert!(check_ints(&with_reset) < 600, "one reset costs one outlier");
}

#[test]
fn special_floats_and_sizes() {
    let payload = f64::from_bits(0x7ff8_dead_beef_0001);
    let special = [
        0.0,
        -0.0,
        f64::NAN,
        payload,
        STALE_NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
    ];
    check_floats(&[]);
    check_floats(&special);
    for v in special {
        assert!(check_floats(&[v; 50]) <= 11, "constants are constant");
        let mut mixed: Vec<f64> = (0..200).map(f64::from).collect();
        mixed[77] = v;
        assert!(check_floats(&mixed) < 60, "{v} is an outlier among whole numbers");
    }
    let gauge: Vec<f64> = (0..500).map(|i| f64::from((i * 37) % 100) / 100.0).collect();
    assert!(check_floats(&gauge) < 500, "hundredths scale");
}

fn histogram(seed: u64, whole: bool) -> FloatHistogram {
    let n = (seed % 3) as usize + 2;
    let v = |i: usize| ((seed * 31 + i as u64 * 17) % 1000) as f64 + if whole { 0.0 } else { 0.25 };
    FloatHistogram {
        schema: (seed % 2) as i32,
        zero_threshold: 1e-128,
        zero_count: v(0),
        count: v(1),
        sum: v(2) * 1.1,
        positive_spans: vec![HistogramSpan { offset: -2, length: n as u32 }],
        positive_buckets: (0..n).map(v).collect(),
        negative_spans: vec![],
        negative_buckets: vec![],
        custom_values: vec![],
        counter_reset_hint: CounterResetHint::NotCounterReset,
        integer: whole,
    }
}

#[test]
fn histograms_come_back() {
    let mut all: Vec<FloatHistogram> = (0..40).map(|i| histogram(i / 5, i % 7 != 0)).collect();
    all[3].sum = STALE_NAN;
    all[4].counter_reset_hint = CounterResetHint::Gauge;
    all[5] = FloatHistogram { schema: -53, custom_values: vec![0.1, 2.5], ..FloatHistogram::default() };
    let mut bytes = Vec::new();
    let mut before = None;
    for h in &all {
        encode_histogram(before, h, &mut bytes);
        before = Some(h);
    }
    let mut from = Reader::new(&bytes);
    let mut back: Option<FloatHistogram> = None;
    for h in &all {
        let next = decode_histogram(back.as_ref(), &mut from).unwrap();
        assert_eq!(next.sum.to_bits(), h.sum.to_bits());
        assert_eq!(FloatHistogram { sum: 0.0, ..next.clone() }, FloatHistogram { sum: 0.0, ..h.clone() });
        back = Some(next);
    }
    assert!(from.is_empty());
}

fn samples(kinds: &[u8], with_starts: bool) -> SampleBuffer {
    let mut buffer = SampleBuffer::default();
    for (i, kind) in kinds.iter().enumerate() {
        let t = 1_700_000_000_000 + i as i64 * 15_000 + i64::from(*kind % 5);
        let start = if with_starts { 1_699_999_000_000 + (i as i64 / 10) * 1000 } else { 0 };
        if kind % 4 == 3 {
            buffer.push_histogram(t, start, Arc::new(histogram(u64::from(*kind), true)));
        } else {
            buffer.push_float(t, start, f64::from(*kind) * 0.5);
        }
    }
    buffer
}

fn encode(effort: Effort, series: u64, buffer: &SampleBuffer) -> Vec<u8> {
    let mut bytes = Vec::new();
    BlockEncoder::new(effort).encode_series(series, buffer, 0, &mut bytes);
    bytes
}

fn read(bytes: &[u8], series: u64, range: TimeRange) -> Result<SampleBuffer, ()> {
    let mut out = SampleBuffer::default();
    for block in Blocks::new(series, bytes).in_file(bytes, 0) {
        let block = block.map_err(|_| ())?;
        assert!(block.count() > 0);
        block.decode(range, &mut out).map_err(|_| ())?;
    }
    Ok(out)
}

#[test]
fn presence_keeps_times_and_stale_markers() {
    let forms: [&dyn Fn(usize) -> f64; 4] =
        [&|i| i as f64 * 0.25, &|i| (i as f64).sqrt(), &|_| 7.0, &|i| if i % 2 == 0 { f64::NAN } else { -0.0 }];
    for effort in [Effort::Fresh, Effort::Merged] {
        for form in forms {
            let mut buffer = SampleBuffer::default();
            for i in 0..1000 {
                let value = if i % 97 == 5 || i == 999 { STALE_NAN } else { form(i) };
                buffer.push_float(1_700_000_000_000 + i as i64 * 15_000, 0, value);
            }
            let bytes = encode(effort, 1, &buffer);
            for range in [TimeRange::ALL, TimeRange::new(buffer.times[990], i64::MAX)] {
                let whole = read(&bytes, 1, range).unwrap();
                let mut out = SampleBuffer { values_unneeded: true, ..SampleBuffer::default() };
                for block in Blocks::new(1, &bytes).in_file(&bytes, 0) {
                    block.unwrap().decode(range, &mut out).unwrap();
                }
                let marks =
                    |b: &SampleBuffer| b.values.iter().map(|v| trefoil_model::is_stale_nan(*v)).collect::<Vec<_>>();
                assert_eq!((&out.times, marks(&out)), (&whole.times, marks(&whole)));
            }
        }
    }
}

#[test]
fn remembered_columns_are_not_mixed_up() {
    // More columns than a thread remembers, each used by several series, in two files.
    let made = |file: i64| {
        let mut encoder = BlockEncoder::new(Effort::Fresh);
        let (mut bytes, mut series) = (Vec::new(), Vec::new());
        for id in 0..1500u64 {
            let mut buffer = SampleBuffer::default();
            for i in 0..40 {
                buffer.push_float(file * 1000 + i * 15_000 + (id % 400) as i64 * 8 + i % 3, 0, (i + id as i64) as f64);
            }
            let start = bytes.len();
            encoder.encode_series(id, &buffer, start as u64, &mut bytes);
            series.push((start..bytes.len(), buffer));
        }
        (bytes, series)
    };
    let files = [made(1), made(2)];
    // Numbers that no reader gets in this test.
    for (round, number) in [(0, 1 << 40), (1, 1 << 40), (2, 1 << 41)] {
        for (number, (bytes, series)) in (number..).zip(&files) {
            for (id, (place, want)) in series.iter().enumerate() {
                let mut out = SampleBuffer::default();
                for block in Blocks::new(id as u64, &bytes[place.clone()]).in_file(bytes, number) {
                    block.unwrap().decode(TimeRange::ALL, &mut out).unwrap();
                }
                assert_eq!(bits_of(&out), bits_of(want), "series {id} in round {round}");
            }
        }
    }
}

#[test]
fn flipped_bits_in_blocks_are_found() {
    let buffer = samples(&[0, 1, 2, 3, 3, 7, 1, 2, 9, 200], true);
    let bytes = encode(Effort::Merged, 42, &buffer);
    assert_eq!(bits_of(&read(&bytes, 42, TimeRange::ALL).unwrap()), bits_of(&buffer));
    assert!(read(&bytes, 43, TimeRange::ALL).is_err(), "another series' block is not taken for ours");
    for i in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[i / 8] ^= 1 << (i % 8);
        assert!(read(&bad, 42, TimeRange::ALL).is_err(), "bit {i}");
    }
    for n in 1..bytes.len() {
        if let Ok(short) = read(&bytes[..n], 42, TimeRange::ALL) {
            assert!(short.len() < buffer.len(), "cut at a frame's end");
        }
    }
}

proptest! {
    #[test]
    fn any_integers(values in prop::collection::vec(any::<i64>(), 0..900)) {
        check_ints(&values);
        check_merged_ints(&values);
    }

    #[test]
    fn integers_of_any_width(width in 0u32..64, values in prop::collection::vec(any::<i64>(), 0..1200)) {
        let values: Vec<i64> = values.iter().map(|v| v >> width).collect();
        check_ints(&values);
        check_merged_ints(&values);
        check_merged_ints(&values.iter().map(|v| v.wrapping_mul(4096).wrapping_add(77)).collect::<Vec<_>>());
        check_merged_ints(&values.iter().zip(0..).map(|(v, i)| v % 8 + i * 15_000).collect::<Vec<_>>());
    }

    #[test]
    fn any_floats(values in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..800)) {
        check_floats(&values);
    }

    #[test]
    fn walks(start in -1e6f64..1e6, steps in prop::collection::vec(-1000i32..1000, 1..1200), decimals in 0i32..6) {
        let mut v = start.round();
        let walk: Vec<f64> = steps.iter().map(|s| {
            v += f64::from(*s) / 10f64.powi(decimals);
            v
        }).collect();
        check_floats(&walk);
        check_floats(&walk.iter().map(|v| (v * 100.0).round() / 100.0).collect::<Vec<_>>());
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0usize..1000) {
        decode_ints(&mut Reader::new(&bytes), count, &mut Vec::new()).ok();
        for form in 0..6 {
            // Garbage behind a known number, so that it comes far.
            let numbered: Vec<u8> = [form].iter().chain(&bytes).copied().collect();
            decode_ints(&mut Reader::new(&numbered), count, &mut Vec::new()).ok();
            decode_floats(&mut Reader::new(&numbered), count, &(0..count), true, &mut Vec::new()).ok();
        }
        decode_floats(&mut Reader::new(&bytes), count, &(0..count), true, &mut Vec::new()).ok();
        decode_histogram(None, &mut Reader::new(&bytes)).ok();
        read(&bytes, 1, TimeRange::ALL).ok();
        crate::record::Record::decode(&bytes).ok();
        let mut with_version = vec![1, (count % 4) as u8];
        with_version.extend(bytes);
        crate::record::Record::decode(&with_version).ok();
    }

    #[test]
    fn blocks_and_ranges(
        kinds in prop::collection::vec(any::<u8>(), 1..300),
        with_starts: bool,
        merged: bool,
        from in 0i64..320,
        len in 0i64..320,
    ) {
        let buffer = samples(&kinds, with_starts);
        let bytes = encode(if merged { Effort::Merged } else { Effort::Fresh }, 1, &buffer);
        prop_assert_eq!(bits_of(&read(&bytes, 1, TimeRange::ALL).unwrap()), bits_of(&buffer));
        let start = 1_700_000_000_000 + from * 15_000;
        let range = TimeRange::new(start, start + len * 15_000);
        let mut want = SampleBuffer::default();
        let mut histograms = buffer.histograms.iter().peekable();
        for i in 0..buffer.len() {
            let h = histograms.next_if(|(at, _)| *at as usize == i);
            if range.contains(buffer.times[i]) {
                let start = buffer.starts.get(i).copied().unwrap_or(0);
                match h {
                    Some((_, h)) => want.push_histogram(buffer.times[i], start, Arc::clone(h)),
                    None => want.push_float(buffer.times[i], start, buffer.values[i]),
                }
            }
        }
        prop_assert_eq!(bits_of(&read(&bytes, 1, range).unwrap()), bits_of(&want));
    }
}
