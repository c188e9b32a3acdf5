//! A selector (`match[]`) is parsed or refused; its matchers answer for any text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trefoil_promql::parse_selector;

fuzz_target!(|selector: &str| {
    if let Ok(matchers) = parse_selector(selector) {
        for m in &matchers {
            let _ = (m.matches(""), m.matches("a"), m.matches(selector), m.to_string());
        }
    }
});
