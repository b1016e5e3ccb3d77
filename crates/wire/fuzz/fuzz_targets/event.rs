//! Parses and verifies an event, and writes and reads its canonical form.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)] // The other targets' checks.
#[path = "../../tests/properties/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::event(bytes));
