//! Reading and writing relay messages agree.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)] // The other targets' checks.
#[path = "../../tests/properties/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::relay_message(bytes));
