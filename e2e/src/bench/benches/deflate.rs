//! Effects (sockets): what permessage-deflate (RFC 7692) would cost and save: bytes of a message that is compressed once and
//! shared, the CPU of one compression against that of one delivery, and the memory of a connection that keeps its contexts.
//!
//! The number of a message is each connection's own and stands before the shared part, so it would go out as a stored block
//! (RFC 1951, section 3.2.4) in front of the compressed one.

use std::io::{IoSlice, Write};
use std::net::TcpStream;

use anyhow::{Result, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use sluice_protocol::{ChannelName, Epoch, Offset, Seq, message_prefix, message_suffix};

use crate::bench::context::Context;
use crate::bench::figure::{Figure, Findings, median};
use crate::bench::floor::allocator;
use crate::bench::link::{Link, cpu_of_thread};
use crate::bench::swarm::frames::{self, TEXT};

/// Data of a message, bytes.
const SIZES: [usize; 3] = [256, 1024, 4096];

/// Compressions per size and run.
const COMPRESSIONS: usize = 2000;

/// Contexts that are held at once to see what one takes up.
const CONTEXTS: usize = 64;

/// Head of a stored block: three bits, filled up to a byte, and its length twice.
const STORED_HEAD: usize = 5;

/// Every compressed message leaves out the empty block that a flush ends with (RFC 7692, section 7.2.1).
const FLUSHED: usize = 4;

/// Measures all sizes.
///
/// # Errors
/// When a socket or the allocator fails.
pub fn run(bench: &Context) -> Result<Findings> {
    let mut figures = Vec::new();
    for size in SIZES {
        let suffix = suffix(size)?;
        let packed = pack(&mut fresh(), suffix.as_bytes())?;
        ensure!(unpack(&packed)? == suffix.as_bytes(), "it does not unpack");
        let prefix = message_prefix(Seq::START).as_bytes().len();
        let whole = (prefix + suffix.len()) as f64;
        let wire = STORED_HEAD + prefix + packed.len() - FLUSHED;
        let (mut packing, mut plain, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.scale.pairs {
            packing.push(packing_us(suffix.as_bytes())?);
            let rounds = bench.scale.writer_bytes / 16 / whole as usize;
            plain.push(delivery_us(suffix.as_bytes(), rounds)?);
            sent.push(delivery_us(&packed, rounds)?);
        }
        let ratio = median(&packing).zip(median(&plain)).map(|(p, d)| p / d);
        let saved = Figure::new(
            format!("saved_{size}"),
            "%",
            (1.0 - wire as f64 / whole) * 100.0,
        );
        figures.extend([
            saved.note(format!("of {whole} B, the number as a stored block")),
            Figure::of(format!("compress_us_{size}"), "µs", &packing)
                .note("level 1, fresh context"),
            Figure::of(format!("delivery_us_{size}"), "µs", &plain).note("one vectored write"),
            Figure::of(format!("delivery_compressed_us_{size}"), "µs", &sent),
            Figure::maybe(format!("deliveries_per_compression_{size}"), "", ratio)
                .note("what a message for one client would cost more"),
        ]);
    }
    let (packer, unpacker) = (bytes_of(fresh)?, bytes_of(|| Decompress::new(false))?);
    figures.extend([
        Figure::new("compressor_bytes", "B", packer)
            .note("of each connection that keeps its context"),
        Figure::new("decompressor_bytes", "B", unpacker),
    ]);
    Ok(Findings {
        figures,
        ..Findings::default()
    })
}

fn fresh() -> Compress {
    Compress::new(Compression::fast(), false)
}

/// A notification as applications send them: some structure, some prose, some numbers that never repeat.
fn data(length: usize) -> String {
    const WORDS: [&str; 16] = [
        "order",
        "shipped",
        "from",
        "warehouse",
        "your",
        "invoice",
        "arrives",
        "tomorrow",
        "between",
        "carrier",
        "delayed",
        "because",
        "reply",
        "message",
        "account",
        "updated",
    ];
    let mut text = String::from(
        "{\"kind\":\"order.shipped\",\"order\":\"8f3a91c2-77d0\",\"at\":\"2026-05-04T09:17:33Z\",\"text\":\"",
    );
    // A fixed sequence (Numerical Recipes' generator), so that every run packs the same bytes.
    let mut state = 7_u32;
    while text.len() < length.saturating_sub(2) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(WORDS[(state >> 28) as usize]);
        if state.is_multiple_of(5) {
            text.push(' ');
            text.push_str(&(state >> 12).to_string());
        }
        text.push(' ');
    }
    text.truncate(length.saturating_sub(2));
    text + "\"}"
}

/// The shared part of a message with so much data.
fn suffix(length: usize) -> Result<String> {
    let (channel, epoch) = (ChannelName::new("news")?, Epoch::new("m-0123456789ab")?);
    let offset = Offset::new(1_234_567)?;
    Ok(message_suffix(
        &channel,
        &epoch,
        offset,
        1_777_886_253_000,
        &data(length),
    ))
}

fn pack(packer: &mut Compress, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(bytes.len() + 64);
    packer.compress_vec(bytes, &mut packed, FlushCompress::Sync)?;
    Ok(packed)
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(16 * 1024);
    Decompress::new(false).decompress_vec(packed, &mut bytes, FlushDecompress::Sync)?;
    Ok(bytes)
}

/// CPU time of one compression, microseconds. The context is used again, but knows nothing of the message before.
fn packing_us(bytes: &[u8]) -> Result<f64> {
    let mut packer = fresh();
    let before = cpu_of_thread()?;
    for _ in 0..COMPRESSIONS {
        packer.reset();
        std::hint::black_box(pack(&mut packer, bytes)?);
    }
    Ok((cpu_of_thread()? - before) / COMPRESSIONS as f64 * 1e6)
}

/// CPU time of one delivery, microseconds: head, number and shared part in one vectored call.
fn delivery_us(shared: &[u8], rounds: usize) -> Result<f64> {
    let spent = Link::new()?.cpu_of(|stream| deliver(stream, shared, rounds))?;
    Ok(spent / rounds as f64 * 1e6)
}

fn deliver(mut stream: &TcpStream, shared: &[u8], rounds: usize) -> Result<()> {
    let mut seq = Seq::START;
    for _ in 0..rounds {
        seq = seq.next();
        let prefix = message_prefix(seq);
        let (head, size) = frames::server_head(TEXT, prefix.as_bytes().len() + shared.len());
        let mut slices = [
            IoSlice::new(&head[..size]),
            IoSlice::new(prefix.as_bytes()),
            IoSlice::new(shared),
        ];
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let sent = stream.write_vectored(rest)?;
            ensure!(sent > 0, "the reader is gone");
            IoSlice::advance_slices(&mut rest, sent);
        }
    }
    Ok(())
}

/// What one of these takes up, bytes.
fn bytes_of<T>(make: impl Fn() -> T) -> Result<f64> {
    let before = allocator::held()?;
    let all: Vec<T> = (0..CONTEXTS).map(|_| make()).collect();
    let bytes = (allocator::held()? - before) / CONTEXTS as f64;
    drop(all);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_have_their_size_and_are_json() {
        for size in super::SIZES {
            let data = super::data(size);
            assert_eq!(data.len(), size);
            assert!(
                serde_json::from_str::<serde_json::Value>(&data).is_ok(),
                "{data}"
            );
        }
    }

    #[test]
    fn what_is_packed_unpacks() {
        let packed =
            super::pack(&mut super::fresh(), b"again and again and again").unwrap_or_default();
        assert_eq!(
            super::unpack(&packed).unwrap_or_default(),
            b"again and again and again"
        );
    }
}
