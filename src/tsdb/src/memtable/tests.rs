use proptest::prelude::*;
use trefoil_model::{SampleBuffer, TimeRange};

use super::chunk::FloatChunk;

proptest! {
    #[test]
    fn chunks_give_back_every_bit(
        steps in prop::collection::vec((1i64..1 << 40, any::<u64>(), any::<bool>()), 1..200),
        from in 0usize..200,
        len in 0usize..200,
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
            chunk.read(range, &mut out, |_, _| {}).unwrap();
            let got: Vec<_> = out.times.iter().copied().zip(out.values.iter().map(|v| v.to_bits())).collect();
            let want: Vec<_> = want.iter().copied().filter(|w| range.contains(w.0)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
