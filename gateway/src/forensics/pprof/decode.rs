//! Pure: from the bytes of a file to a profile. Whatever the bytes are, the answer is a profile or an error.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use thiserror::Error;

use super::{
    ALLOC_BYTES, ALLOC_OBJECTS, Counts, Frame, INUSE_BYTES, INUSE_OBJECTS, Kind, Location, Profile,
    Sample,
};
use crate::forensics::wire::{Fields, WireError};
use crate::limits;

/// Why a file is not a heap snapshot.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// The compression is broken.
    #[error("the gzip data is broken or cut off: {0}")]
    Gzip(String),
    /// Unpacked larger than any snapshot.
    #[error("unpacked it has more than {0} bytes, no snapshot is that large")]
    TooLarge(u64),
    /// Not protobuf.
    #[error("not a pprof file: {0}")]
    Wire(#[from] WireError),
    /// A number that names nothing.
    #[error("{what} {id} is named but not in the file")]
    Dangling {
        /// Kind of thing.
        what: &'static str,
        /// Its number.
        id: u64,
    },
    /// A profile of something else.
    #[error("this profile has no column `inuse_space`, it is not of a heap; its columns: {0}")]
    NotHeap(String),
}

/// The snapshot in a file; plain protobuf is read too.
pub fn decode(file: &[u8]) -> Result<Profile, DecodeError> {
    if file.is_empty() {
        return Err(DecodeError::Empty);
    }
    if !file.starts_with(&[0x1f, 0x8b]) {
        return decode_plain(file);
    }
    let mut plain = Vec::new();
    let most = limits::HEAP_UNPACKED_BYTES;
    GzDecoder::new(file)
        .take(most + 1)
        .read_to_end(&mut plain)
        .map_err(|error| DecodeError::Gzip(error.to_string()))?;
    if plain.len() as u64 > most {
        return Err(DecodeError::TooLarge(most));
    }
    decode_plain(&plain)
}

/// The file's tables as they stand in it.
#[derive(Default)]
struct Tables<'a> {
    columns: Vec<u64>,
    samples: Vec<(Vec<u64>, Vec<u64>)>,
    program: Option<u64>,
    locations: Vec<RawLocation>,
    functions: HashMap<u64, (u64, u64)>,
    strings: Vec<&'a [u8]>,
    time_nanos: u64,
    interval: u64,
    default_column: u64,
}

#[derive(Default)]
struct RawLocation {
    id: u64,
    address: u64,
    /// Function and line.
    lines: Vec<(u64, u64)>,
}

impl<'a> Tables<'a> {
    fn read(plain: &'a [u8]) -> Result<Self, WireError> {
        let mut tables = Self::default();
        for field in Fields::of(plain) {
            let (field, value) = field?;
            let bytes = value.bytes();
            match field {
                1 => tables.columns.push(numbers::<3>(bytes)?[1]),
                2 => tables.samples.push(read_sample(bytes)?),
                3 if tables.program.is_none() => tables.program = Some(numbers::<6>(bytes)?[5]),
                4 => tables.locations.push(read_location(bytes)?),
                5 => {
                    let [_, id, name, _, file] = numbers::<5>(bytes)?;
                    tables.functions.insert(id, (name, file));
                }
                6 => tables.strings.push(bytes),
                9 => tables.time_nanos = value.number(),
                12 => tables.interval = value.number(),
                14 => tables.default_column = value.number(),
                _ => {}
            }
        }
        Ok(tables)
    }

    fn text(&self, id: u64) -> Result<String, DecodeError> {
        let text = usize::try_from(id)
            .ok()
            .and_then(|index| self.strings.get(index));
        match text {
            Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            // A file without any text may leave the empty one out.
            None if id == 0 => Ok(String::new()),
            None => Err(DecodeError::Dangling { what: "text", id }),
        }
    }

    fn frames(&self, raw: &RawLocation) -> Result<Vec<Frame>, DecodeError> {
        let frame = |&(id, line): &(u64, u64)| {
            let &(name, file) = self.functions.get(&id).ok_or(DecodeError::Dangling {
                what: "function",
                id,
            })?;
            Ok(Frame {
                function: self.text(name)?,
                file: self.text(file)?,
                line,
            })
        };
        raw.lines.iter().map(frame).collect()
    }
}

/// The number fields below `N` of a message, by field number.
fn numbers<const N: usize>(message: &[u8]) -> Result<[u64; N], WireError> {
    let mut found = [0; N];
    for field in Fields::of(message) {
        let (field, value) = field?;
        if let Some(slot) = found.get_mut(field as usize) {
            *slot = value.number();
        }
    }
    Ok(found)
}

fn read_sample(message: &[u8]) -> Result<(Vec<u64>, Vec<u64>), WireError> {
    let (mut stack, mut values) = (Vec::new(), Vec::new());
    for field in Fields::of(message) {
        match field? {
            (1, value) => value.numbers(&mut stack)?,
            (2, value) => value.numbers(&mut values)?,
            _ => {}
        }
    }
    Ok((stack, values))
}

fn read_location(message: &[u8]) -> Result<RawLocation, WireError> {
    let mut location = RawLocation::default();
    for field in Fields::of(message) {
        match field? {
            (1, value) => location.id = value.number(),
            (3, value) => location.address = value.number(),
            (4, value) => {
                let [_, function, line] = numbers::<3>(value.bytes())?;
                location.lines.push((function, line));
            }
            _ => {}
        }
    }
    Ok(location)
}

fn decode_plain(plain: &[u8]) -> Result<Profile, DecodeError> {
    let tables = Tables::read(plain)?;
    let columns: Vec<String> = tables
        .columns
        .iter()
        .map(|&id| tables.text(id))
        .collect::<Result<_, _>>()?;
    let column = |name: &str| columns.iter().position(|c| c == name);
    if column(INUSE_BYTES).is_none() {
        return Err(DecodeError::NotHeap(columns.join(", ")));
    }
    let order = [ALLOC_OBJECTS, ALLOC_BYTES, INUSE_OBJECTS, INUSE_BYTES].map(column);
    let mut places = HashMap::new();
    let mut locations = Vec::with_capacity(tables.locations.len());
    for raw in &tables.locations {
        places.insert(raw.id, locations.len());
        locations.push(Location {
            address: raw.address,
            frames: tables.frames(raw)?,
        });
    }
    let mut samples = Vec::with_capacity(tables.samples.len());
    for (stack, values) in &tables.samples {
        let place = |&id: &u64| {
            places.get(&id).copied().ok_or(DecodeError::Dangling {
                what: "location",
                id,
            })
        };
        // A column that the file does not have counts as 0.
        let [alloc_objects, alloc_bytes, inuse_objects, inuse_bytes] = order.map(|index| {
            index
                .and_then(|i| values.get(i))
                .map_or(0, |n| n.cast_signed())
        });
        samples.push(Sample {
            stack: stack.iter().map(place).collect::<Result<_, _>>()?,
            counts: Counts {
                alloc_objects,
                alloc_bytes,
                inuse_objects,
                inuse_bytes,
            },
        });
    }
    let first = tables.text(tables.default_column)?;
    Ok(Profile {
        kind: if first == ALLOC_BYTES {
            Kind::Allocs
        } else {
            Kind::Inuse
        },
        time_nanos: tables.time_nanos,
        interval: tables.interval,
        program: tables.text(tables.program.unwrap_or_default())?,
        locations,
        samples,
    })
}
