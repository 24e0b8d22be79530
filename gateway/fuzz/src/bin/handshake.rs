//! Effects (a whole program): libFuzzer over the target `handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: sluice_fuzz::start::write_seeds("handshake"),
    |bytes: &[u8]| sluice_fuzz::handshake::run(bytes)
);
