use std::sync::Arc;

use proptest::prelude::*;
use roaring::RoaringBitmap;
use trefoil_model::{Labels, SampleBuffer, SeriesId, TenantId, TimeRange};

use super::Memtable;
use super::chunk::FloatChunk;
use crate::matching::{LabelIndex, Wanted};
use crate::series::SeriesEntry;

proptest! {
    #[test]
    fn chunks_give_back_every_bit(
        steps in prop::collection::vec((1i64..1 << 40, any::<u64>(), prop::bool::weighted(0.1)), 1..2000),
        from in 0usize..2000,
        len in 0usize..600,
    ) {
        let mut chunk = FloatChunk::default();
        let (mut t, mut v, mut want) = (-5i64, 0.0f64, Vec::new());
        for (step, bits, is_wild) in steps {
            t += if is_wild { step } else { 15_000 + step % 3 };
            v = if is_wild { f64::from_bits(bits) } else { v + (bits % 100) as f64 };
            chunk.push(t, v);
            want.push((t, v.to_bits()));
        }
        let start = want.get(from).map_or(i64::MAX, |w| w.0);
        let end = want.get(from + len).map_or(i64::MAX, |w| w.0);
        for range in [TimeRange::ALL, TimeRange::new(start, end)] {
            let mut out = SampleBuffer::default();
            let first = chunk.read(range, &mut out).unwrap();
            let got: Vec<_> = out.times.iter().copied().zip(out.values.iter().map(|v| v.to_bits())).collect();
            let inside = |w: &(i64, u64)| range.contains(w.0);
            prop_assert_eq!(first as usize, want.iter().position(inside).unwrap_or(0));
            let want: Vec<_> = want.iter().copied().filter(inside).collect();
            prop_assert_eq!(got, want);
        }
    }
}

#[test]
fn rows_and_values_come_in_order_while_there_are_more() {
    let memtable = Memtable::new(1);
    let tenant = TenantId(0);
    let mut count = 0u64;
    for more in [5, 2000, 1, 500, 0, 3000] {
        let series = |i: u64| {
            let scrambled = i.wrapping_mul(0x9e37_79b9) % 1_000_003;
            let labels = Labels::from_pairs([("i", format!("{scrambled}")), ("mod", format!("{}", i % 7))]);
            Some(Arc::new(SeriesEntry::new(SeriesId(i), tenant, labels, 0)))
        };
        memtable.rows(tenant, &(count..count + more).map(series).collect::<Vec<_>>());
        count += more;
        let index = memtable.index(tenant).unwrap();
        let labels = |row: &u32| memtable.with_row(*row, |r| r.series.labels.clone());
        let (all, _) = index.read().rows_and_order();
        assert_eq!(all.len(), count);
        for step in [1, 2, 100] {
            let some: RoaringBitmap = all.iter().step_by(step).collect();
            let ordered = memtable.ordered(tenant, &some);
            assert_eq!(ordered.iter().copied().collect::<RoaringBitmap>(), some);
            let is_large = some.len() >= super::ORDER_ROWS_MIN && step < 3;
            assert!(!is_large || ordered.iter().map(labels).is_sorted(), "{count} rows in steps of {step}");
        }
        for (name, want) in [("i", count), ("mod", 7.min(count)), ("none", 0)] {
            let mut values: Vec<String> = Vec::new();
            let add = &mut |v: &str| {
                values.push(v.to_owned());
                Ok(())
            };
            index.read().values(name, &Wanted::All, None, add).unwrap();
            assert!(values.is_sorted() && values.len() as u64 == want, "{name} of {count}");
            for value in values.iter().step_by(97) {
                let rows = index.read().rows_with_value(name, value).unwrap();
                let mut with = rows.iter().map(|row| labels(&row));
                assert!(!rows.is_empty() && with.all(|l| l.get(name) == Some(value.as_str())));
            }
        }
    }
}
