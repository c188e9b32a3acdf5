//! Journal records: what goes in comes out, and damage is an error, never a panic.

use rand::RngExt as _;
use trefoil_events::record::{decode_logs, decode_spans, encode_logs, encode_spans};

use crate::support::{log_batch, rng, trace_batch};

#[test]
fn batches_come_back() {
    let mut rng = rng(1);
    for _ in 0..300 {
        let logs = log_batch(&mut rng);
        assert_eq!(decode_logs(&encode_logs(&logs)).unwrap(), logs);
        let spans = trace_batch(&mut rng);
        assert_eq!(decode_spans(&encode_spans(&spans)).unwrap(), spans);
        assert!(decode_logs(&encode_spans(&spans)).is_err());
    }
}

#[test]
fn damaged_records_never_panic() {
    let mut rng = rng(2);
    for _ in 0..300 {
        let mut bytes =
            if rng.random() { encode_logs(&log_batch(&mut rng)) } else { encode_spans(&trace_batch(&mut rng)) };
        for _ in 0..10 {
            let at = rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
            drop((decode_logs(&bytes), decode_spans(&bytes)));
        }
        bytes.truncate(rng.random_range(0..bytes.len()));
        assert!(decode_logs(&bytes).is_err() && decode_spans(&bytes).is_err());
    }
}
