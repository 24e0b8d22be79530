//! Effects (sockets): queued messages in one vectored call, as the gateway writes them, against what comes to mind first: one lock,
//! one copy and one write per message.

use std::io::{IoSlice, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use sluice_protocol::{Seq, message_prefix};

use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure, Findings};
use crate::bench::limits;
use crate::bench::link::Link;
use crate::bench::swarm::frames::{self, TEXT};

/// Messages that are queued when the socket is written.
const QUEUED: usize = 32;

/// The shared part of a message, bytes: 256 of data and what is around it.
const SHARED: usize = 350;

/// Both ways, in turn.
///
/// # Errors
/// When a socket fails.
pub fn run(bench: &Context) -> Result<Findings> {
    let shared = vec![b'x'; SHARED];
    // A message is small; enough of them for a second or so of CPU time.
    let rounds = bench.scale.writer_bytes / 8 / (QUEUED * SHARED);
    let messages = (rounds * QUEUED) as f64;
    let (mut one_by_one, mut vectored) = (Vec::new(), Vec::new());
    for _ in 0..bench.scale.pairs {
        let spent = Link::new()?.cpu_of(|stream| single(stream, &shared, rounds))?;
        one_by_one.push(messages / spent);
        let spent = Link::new()?.cpu_of(|stream| together(stream, &shared, rounds))?;
        vectored.push(messages / spent);
    }
    let ratios: Vec<f64> = vectored
        .iter()
        .zip(&one_by_one)
        .map(|(v, s)| v / s)
        .collect();
    let unit = "msg/core-s";
    Ok(Findings {
        figures: vec![
            Figure::of("ratio", "×", &ratios)
                .must(Bound::AtLeast(limits::WRITER_RATIO))
                .note(format!("{QUEUED} queued messages of 256 B")),
            Figure::of("vectored_messages_per_core_second", unit, &vectored),
            Figure::of("one_write_each_messages_per_core_second", unit, &one_by_one)
                .note("lock, copy, write"),
        ],
        ..Findings::default()
    })
}

fn single(stream: &TcpStream, shared: &[u8], rounds: usize) -> Result<()> {
    let locked = Mutex::new((stream, Vec::new()));
    let mut seq = Seq::START;
    for _ in 0..rounds * QUEUED {
        seq = seq.next();
        let prefix = message_prefix(seq);
        let (head, size) = frames::server_head(TEXT, prefix.as_bytes().len() + shared.len());
        let mut guard = locked.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, buffer) = &mut *guard;
        buffer.clear();
        buffer.extend_from_slice(&head[..size]);
        buffer.extend_from_slice(prefix.as_bytes());
        buffer.extend_from_slice(shared);
        stream.write_all(buffer)?;
    }
    Ok(())
}

fn together(mut stream: &TcpStream, shared: &[u8], rounds: usize) -> Result<()> {
    let mut seq = Seq::START;
    for _ in 0..rounds {
        let own: [_; QUEUED] = std::array::from_fn(|_| {
            seq = seq.next();
            let prefix = message_prefix(seq);
            let whole = prefix.as_bytes().len() + shared.len();
            (frames::server_head(TEXT, whole), prefix)
        });
        let mut slices = [IoSlice::new(&[]); QUEUED * 3];
        for (three, ((head, size), prefix)) in slices.chunks_exact_mut(3).zip(&own) {
            three[0] = IoSlice::new(&head[..*size]);
            three[1] = IoSlice::new(prefix.as_bytes());
            three[2] = IoSlice::new(shared);
        }
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let sent = stream.write_vectored(rest)?;
            ensure!(sent > 0, "the reader is gone");
            IoSlice::advance_slices(&mut rest, sent);
        }
    }
    Ok(())
}
