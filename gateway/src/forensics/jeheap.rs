//! Pure: reads jemalloc's own heap dump (`heap_v2`), line by line, and turns samples into estimates.
//!
//! ```text
//! heap_v2/524288                        average bytes between samples
//!   t*: 13: 6688 [40: 20000]            all call paths together; `t0:` and so on are threads
//! @ 0x5f86da8 0x5f5a1dc                 a call path, the allocation itself first
//!   t*: 13: 6688 [40: 20000]            live objects, their bytes, and both since the start
//! MAPPED_LIBRARIES:                     what follows is not needed
//! ```

use thiserror::Error;

use super::pprof::Counts;

/// Why a dump cannot be read.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DumpError {
    /// The first line is another one.
    #[error("jemalloc's dump does not begin with heap_v2/INTERVAL")]
    Header,
    /// A line that is none of those above.
    #[error("jemalloc's dump has an odd line: {0}")]
    Line(String),
}

/// One call path of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Return addresses, the allocation itself first.
    pub addresses: Vec<u64>,
    /// What it allocated, estimated.
    pub counts: Counts,
}

/// Takes the lines of a dump.
#[derive(Debug, Default)]
pub struct Reader {
    interval: u64,
    pending: Option<Vec<u64>>,
    paths: Vec<Path>,
    done: bool,
}

impl Reader {
    /// Takes the next line.
    pub fn line(&mut self, line: &str) -> Result<(), DumpError> {
        let odd = || DumpError::Line(line.chars().take(80).collect());
        if self.done {
            return Ok(());
        }
        if self.interval == 0 {
            let interval = line.strip_prefix("heap_v2/").and_then(|n| n.parse().ok());
            self.interval = interval.filter(|&n| n > 0).ok_or(DumpError::Header)?;
        } else if let Some(addresses) = line.strip_prefix('@') {
            let addresses = addresses.split_ascii_whitespace().map(hexadecimal);
            self.pending = Some(addresses.collect::<Option<_>>().ok_or_else(odd)?);
        } else if let Some(counts) = line.trim_start().strip_prefix("t*:") {
            let sampled = numbers(counts).ok_or_else(odd)?;
            if let Some(addresses) = self.pending.take() {
                let counts = estimate(sampled, self.interval);
                self.paths.push(Path { addresses, counts });
            }
        } else if line.starts_with("MAPPED_LIBRARIES") {
            self.done = true;
        }
        Ok(())
    }

    /// Average bytes between samples, and all call paths.
    pub fn finish(self) -> Result<(u64, Vec<Path>), DumpError> {
        if self.interval == 0 {
            return Err(DumpError::Header);
        }
        Ok((self.interval, self.paths))
    }
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

fn numbers(counts: &str) -> Option<[u64; 4]> {
    let mut words = counts
        .split(|c: char| !c.is_ascii_digit())
        .filter(|w| !w.is_empty());
    let mut next = || words.next()?.parse().ok();
    Some([next()?, next()?, next()?, next()?])
}

fn estimate([live, live_bytes, all, all_bytes]: [u64; 4], interval: u64) -> Counts {
    let (inuse_objects, inuse_bytes) = unbias(live, live_bytes, interval);
    let (alloc_objects, alloc_bytes) = unbias(all, all_bytes, interval);
    Counts {
        alloc_objects,
        alloc_bytes,
        inuse_objects,
        inuse_bytes,
    }
}

/// Each byte begins a sample with probability 1 ÷ interval, so an object of mean size `s` is seen with probability
/// 1 − exp(−s ÷ interval); jemalloc's `jeprof` (`AdjustSamples`) divides by it too.
fn unbias(objects: u64, bytes: u64, interval: u64) -> (i64, i64) {
    if objects == 0 || bytes == 0 {
        return (0, 0);
    }
    let mean = bytes as f64 / objects as f64;
    let scale = 1.0 / -(-mean / interval as f64).exp_m1();
    let scaled = |n: u64| (n as f64 * scale).round() as i64;
    (scaled(objects), scaled(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn read(dump: &str) -> Result<(u64, Vec<Path>), DumpError> {
        let mut reader = Reader::default();
        for line in dump.lines() {
            reader.line(line)?;
        }
        reader.finish()
    }

    #[test]
    fn a_dump_becomes_paths_and_estimates() {
        let dump = "heap_v2/524288\n  t*: 2: 1064960 [3: 1065984]\n  t0: 2: 1064960 [3: 1065984]\n\
            @ 0x10 0xff\n  t*: 1: 1048576 [1: 1048576]\n  t0: 1: 1048576 [1: 1048576]\n\
            @ 0x20\n  t*: 0: 0 [2: 1024]\n\nMAPPED_LIBRARIES:\n@ not read\n";
        let (interval, paths) = read(dump).unwrap();
        assert_eq!((interval, paths.len()), (524_288, 2));
        assert_eq!(paths[0].addresses, [0x10, 0xff]);
        // 1 MiB objects at one sample per 512 KiB are missed with probability e^-2.
        assert_eq!(paths[0].counts.inuse_bytes, 1_212_697);
        // A 512-byte object stands for about a thousand of its kind.
        assert_eq!(paths[1].counts.alloc_objects, 2049);
        assert_eq!(paths[1].counts.inuse_bytes, 0);
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(read(""), Err(DumpError::Header));
        assert_eq!(read("heap_v1/5"), Err(DumpError::Header));
        assert_eq!(read("heap_v2/0"), Err(DumpError::Header));
        assert!(matches!(read("heap_v2/5\n@ 0xzz"), Err(DumpError::Line(_))));
        assert!(matches!(
            read("heap_v2/5\n t*: 1: 2"),
            Err(DumpError::Line(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_never_panics(dump in "(heap_v2/[0-9]{1,3}\n)?([@t*: 0-9x\\[\\]]{0,40}\n){0,10}") {
            let _ = read(&dump);
        }

        #[test]
        fn estimates_are_never_below_what_was_seen(objects in 1i64..1000, size in 1i64..1 << 30) {
            let (count, bytes) = unbias(objects.cast_unsigned(), (objects * size).cast_unsigned(), 524_288);
            prop_assert!(count >= objects && bytes >= objects * size);
        }
    }
}
