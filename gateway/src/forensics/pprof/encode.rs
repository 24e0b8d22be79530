//! Pure: from a profile to the bytes of a file.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{ALLOC_BYTES, ALLOC_OBJECTS, INUSE_BYTES, INUSE_OBJECTS, Profile, Sample};
use crate::forensics::wire::{put_bytes, put_number, put_numbers};

/// The file.
pub fn encode(profile: &Profile) -> Vec<u8> {
    let plain = encode_plain(profile);
    let mut packed = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = packed.write_all(&plain);
    packed.finish().unwrap_or_default()
}

#[derive(Default)]
struct Strings<'a> {
    ids: HashMap<&'a str, u64>,
    all: Vec<&'a str>,
}

impl<'a> Strings<'a> {
    fn id(&mut self, text: &'a str) -> u64 {
        let next = self.all.len() as u64;
        *self.ids.entry(text).or_insert_with(|| {
            self.all.push(text);
            next
        })
    }
}

/// The message without compression.
pub(super) fn encode_plain(profile: &Profile) -> Vec<u8> {
    let mut out = Vec::new();
    let mut strings = Strings::default();
    strings.id("");
    for (name, unit) in [
        (ALLOC_OBJECTS, "count"),
        (ALLOC_BYTES, "bytes"),
        (INUSE_OBJECTS, "count"),
        (INUSE_BYTES, "bytes"),
    ] {
        put_bytes(&mut out, 1, &value_type(&mut strings, name, unit));
    }
    for sample in &profile.samples {
        put_bytes(&mut out, 2, &encode_sample(sample));
    }
    put_bytes(&mut out, 3, &mapping(&mut strings, &profile.program));
    let mut functions: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (location, id) in profile.locations.iter().zip(1..) {
        let mut message = Vec::new();
        put_number(&mut message, 1, id);
        put_number(&mut message, 2, 1);
        put_number(&mut message, 3, location.address);
        for frame in &location.frames {
            let next = functions.len() as u64 + 1;
            let function = *functions
                .entry((&frame.function, &frame.file))
                .or_insert(next);
            let mut line = Vec::new();
            put_number(&mut line, 1, function);
            put_number(&mut line, 2, frame.line);
            put_bytes(&mut message, 4, &line);
        }
        put_bytes(&mut out, 4, &message);
    }
    for ((name, file), id) in functions {
        let mut message = Vec::new();
        put_number(&mut message, 1, id);
        put_number(&mut message, 2, strings.id(name));
        put_number(&mut message, 3, strings.id(name));
        put_number(&mut message, 4, strings.id(file));
        put_bytes(&mut out, 5, &message);
    }
    put_number(&mut out, 9, profile.time_nanos);
    put_bytes(&mut out, 11, &value_type(&mut strings, "space", "bytes"));
    put_number(&mut out, 12, profile.interval);
    put_number(&mut out, 14, strings.id(profile.kind.column()));
    for text in strings.all {
        put_bytes(&mut out, 6, text.as_bytes());
    }
    out
}

fn value_type<'a>(strings: &mut Strings<'a>, name: &'a str, unit: &'a str) -> Vec<u8> {
    let mut message = Vec::new();
    put_number(&mut message, 1, strings.id(name));
    put_number(&mut message, 2, strings.id(unit));
    message
}

fn encode_sample(sample: &Sample) -> Vec<u8> {
    let mut message = Vec::new();
    put_numbers(&mut message, 1, sample.stack.iter().map(|&i| i as u64 + 1));
    let c = sample.counts;
    let columns = [
        c.alloc_objects,
        c.alloc_bytes,
        c.inuse_objects,
        c.inuse_bytes,
    ];
    put_numbers(&mut message, 2, columns.iter().map(|&n| n as u64));
    message
}

/// One mapping over everything, marked as named, so that viewers do not look for the program's file.
fn mapping<'a>(strings: &mut Strings<'a>, program: &'a str) -> Vec<u8> {
    let mut message = Vec::new();
    put_number(&mut message, 1, 1);
    put_number(&mut message, 3, u64::MAX);
    put_number(&mut message, 5, strings.id(program));
    for named in 7..=10 {
        put_number(&mut message, named, 1);
    }
    message
}
