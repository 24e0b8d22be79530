//! Effects (a whole program): libFuzzer over the target `messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: sluice_fuzz::start::write_seeds("messages"),
    |bytes: &[u8]| sluice_fuzz::messages::run(bytes)
);
