//! Effects (reads `/proc`): what the kernel says of this process.

use super::level;

/// Resident memory, bytes.
pub fn resident_bytes() -> i64 {
    const PAGE: i64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<i64>().ok())
        .unwrap_or(0)
        * PAGE
}

/// Open descriptors.
pub fn open_descriptors() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| level(entries.count()))
}
