//! Parses, writes and matches filters.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)] // The other targets' checks.
#[path = "../../tests/properties/checks.rs"]
mod checks;

fuzz_target!(|text: &str| checks::filter(text));
