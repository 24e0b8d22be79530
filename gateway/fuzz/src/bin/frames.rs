//! Effects (a whole program): libFuzzer over the target `frames`, with changes by frames beside its own.
#![no_main]

use sluice_fuzz::seeds::INPUT_BYTES;
use sluice_fuzz::shape::{Dice, mutate};

libfuzzer_sys::fuzz_target!(
    init: sluice_fuzz::start::write_seeds("frames"),
    |bytes: &[u8]| sluice_fuzz::frames::run(bytes)
);

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Bytes alone now and then: headers must break in every way.
    if seed % 4 == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let changed = mutate(&data[..size], &mut Dice::new(seed), |payload| {
        let size = payload.len();
        payload.resize(INPUT_BYTES, 0);
        let size = libfuzzer_sys::fuzzer_mutate(payload, size, INPUT_BYTES);
        payload.truncate(size);
    });
    let size = changed.len().min(max_size);
    data[..size].copy_from_slice(&changed[..size]);
    size
});
