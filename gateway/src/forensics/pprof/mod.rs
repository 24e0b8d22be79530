//! Pure: heap profiles in pprof's format (`profile.proto` of github.com/google/pprof): gzip around one protobuf message.
//!
//! Every snapshot has Go's four columns, so that `go tool pprof` and its relatives read it without options.

mod decode;
mod encode;

pub use decode::{DecodeError, decode};
pub use encode::encode;

/// Which question a profile answers first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Who holds memory now.
    #[default]
    Inuse,
    /// Who asked for memory since the start, given back or not.
    Allocs,
}

impl Kind {
    /// The word in queries and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inuse => "inuse",
            Self::Allocs => "allocs",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Inuse => INUSE_BYTES,
            Self::Allocs => ALLOC_BYTES,
        }
    }
}

const ALLOC_OBJECTS: &str = "alloc_objects";
const ALLOC_BYTES: &str = "alloc_space";
const INUSE_OBJECTS: &str = "inuse_objects";
const INUSE_BYTES: &str = "inuse_space";

/// Estimates for one call path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations since the start.
    pub alloc_objects: i64,
    /// Their bytes.
    pub alloc_bytes: i64,
    /// Allocations not given back.
    pub inuse_objects: i64,
    /// Their bytes.
    pub inuse_bytes: i64,
}

/// One function at one place, perhaps inlined into the next frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Demangled name.
    pub function: String,
    /// Source file; may be empty.
    pub file: String,
    /// Line in it; 0 when unknown.
    pub line: u64,
}

/// One address in the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Where the call was made from.
    pub address: u64,
    /// Innermost inlined function first; empty when the program has no names.
    pub frames: Vec<Frame>,
}

/// One call path and what it allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Indexes into [`Profile::locations`], the allocation itself first.
    pub stack: Vec<usize>,
    /// What it allocated.
    pub counts: Counts,
}

/// A heap snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What a viewer shows first.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub time_nanos: u64,
    /// Bytes of allocation between two samples, on average.
    pub interval: u64,
    /// The program's file.
    pub program: String,
    /// Every address that occurs.
    pub locations: Vec<Location>,
    /// Every call path.
    pub samples: Vec<Sample>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn profiles() -> impl Strategy<Value = Profile> {
        let frame =
            ("[a-c:]{1,6}", "[a-c/]{0,4}", 0..900u64).prop_map(|(function, file, line)| Frame {
                function,
                file,
                line,
            });
        let location = (1..u64::MAX, prop::collection::vec(frame, 0..4))
            .prop_map(|(address, frames)| Location { address, frames });
        let counts = any::<[i64; 4]>().prop_map(|n| Counts {
            alloc_objects: n[0],
            alloc_bytes: n[1],
            inuse_objects: n[2],
            inuse_bytes: n[3],
        });
        prop::collection::vec(location, 1..8).prop_flat_map(move |locations| {
            let stack = prop::collection::vec(0..locations.len(), 0..6);
            let sample =
                (stack, counts.clone()).prop_map(|(stack, counts)| Sample { stack, counts });
            let samples = prop::collection::vec(sample, 0..8);
            (samples, any::<u64>(), any::<bool>()).prop_map(move |(samples, time_nanos, inuse)| {
                Profile {
                    kind: if inuse { Kind::Inuse } else { Kind::Allocs },
                    time_nanos,
                    interval: 1 << 19,
                    program: "/sluice-gateway".to_owned(),
                    locations: locations.clone(),
                    samples,
                }
            })
        })
    }

    proptest! {
        #[test]
        fn a_profile_comes_back_as_it_was(profile in profiles()) {
            prop_assert_eq!(decode(&encode(&profile)).unwrap(), profile);
        }

        #[test]
        fn a_file_cut_anywhere_is_an_error(profile in profiles(), at in any::<prop::sample::Index>()) {
            let file = encode(&profile);
            prop_assert!(decode(&file[..at.index(file.len())]).is_err());
        }

        #[test]
        fn plain_data_cut_or_changed_anywhere_never_panics(
            profile in profiles(), at in any::<prop::sample::Index>(), bits in 0..=255u8, cut in any::<bool>(),
        ) {
            let mut plain = encode::encode_plain(&profile);
            let at = at.index(plain.len());
            if cut {
                plain.truncate(at);
            } else {
                plain[at] ^= bits;
            }
            let _ = decode(&plain);
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        assert_eq!(decode(b""), Err(DecodeError::Empty));
        let text = |file: &[u8]| decode(file).unwrap_err().to_string();
        assert!(text(b"\x1f\x8bnonsense").starts_with("the gzip data is broken"));
        assert!(text(b"heap_v2/524288\n").starts_with("not a pprof file"));
        let mut cpu = Vec::new();
        for name in ["", "cpu"] {
            super::super::wire::put_bytes(&mut cpu, 6, name.as_bytes());
        }
        super::super::wire::put_bytes(&mut cpu, 1, &[1 << 3, 1]);
        assert_eq!(decode(&cpu), Err(DecodeError::NotHeap("cpu".to_owned())));
    }
}
