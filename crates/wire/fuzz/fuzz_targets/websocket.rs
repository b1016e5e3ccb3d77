//! WebSocket frames decode equally, however they are split.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)] // The other targets' checks.
#[path = "../../tests/properties/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| {
    if let Some((cut, bytes)) = bytes.split_first() {
        checks::websocket(bytes, (*cut).into());
    }
});
