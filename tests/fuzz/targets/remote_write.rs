//! The body of a remote write is taken or refused, inflated or not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trefoil_ingest::remote_write::decode;
use trefoil_runtime::limits::Limits;

/// The time of the server, Unix milliseconds.
const NOW_MS: i64 = 1_700_000_000_000;

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    let _ = decode(body, &limits, NOW_MS);
    if snap::raw::decompress_len(body).is_ok_and(|length| length < 1 << 20)
        && let Ok(message) = snap::raw::Decoder::new().decompress_vec(body)
    {
        let _ = decode(&message, &limits, NOW_MS);
    }
});
