//! A query is parsed or refused; what is parsed is printed as text that parses to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trefoil_promql::{ParserOptions, parse, pretty};

fuzz_target!(|query: &str| {
    let _ = parse(query, ParserOptions::default());
    match parse(query, ParserOptions::ALL) {
        Ok(tree) => {
            let text = tree.to_string();
            let again = parse(&text, ParserOptions::ALL).unwrap_or_else(|e| panic!("{query:?} printed as {text:?}: {e}"));
            // An infinite base is printed as the reference prints it, and read back as the sign of the whole power.
            if !text.contains("Inf ^") {
                assert_eq!(again.to_string(), text, "{query:?}");
            }
            let text = pretty(&tree);
            parse(&text, ParserOptions::ALL).unwrap_or_else(|e| panic!("{query:?} formatted as {text:?}: {e}"));
        }
        Err(e) => {
            let _ = (e.to_string(), e.texts());
        }
    }
});
