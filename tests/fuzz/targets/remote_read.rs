//! The body of a remote read is taken or refused, as it is and compressed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trefoil_api::prometheus::check_read_request;

fuzz_target!(|body: &[u8]| {
    let _ = check_read_request(body);
    if let Ok(compressed) = snap::raw::Encoder::new().compress_vec(body) {
        let _ = check_read_request(&compressed);
    }
});
