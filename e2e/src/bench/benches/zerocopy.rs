//! Effects (sockets): plain write, vectored write and `MSG_ZEROCOPY` at three sizes. Zero-copy completions are read from the socket's
//! error queue until nothing is pinned, and their code says whether the kernel copied after all: on loopback and veth it always
//! does, so that the figure shows what asking for it costs, not what a network card would save.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt};
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::SockRef;

use crate::bench::context::Context;
use crate::bench::figure::{Figure, Findings, Plot, median};
use crate::bench::link::Link;
use crate::bench::svg;
use crate::bench::swarm::frames::{self, TEXT};

/// Sizes of the shared part, bytes.
const SIZES: [(usize, &str); 3] = [(256, "256B"), (4096, "4KiB"), (65_536, "64KiB")];

/// Most sends whose completion was not read yet; the kernel charges each to the socket's option memory.
const PINNED: u32 = 64;

/// Longest wait for completions.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// `ee_code` of a completion whose data was copied (linux/errqueue.h).
const COPIED: u8 = 1;

/// `ee_origin` of a zero-copy completion (linux/errqueue.h).
const ORIGIN_ZEROCOPY: u8 = 5;

sockopt_impl!(
    /// Lets `MSG_ZEROCOPY` take effect.
    ZeroCopy,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_ZEROCOPY,
    bool
);

/// What the error queue said.
#[derive(Clone, Copy, Debug, Default)]
struct Completions {
    sent: u32,
    completed: u32,
    copied: u32,
}

/// All sizes and ways, in turn.
///
/// # Errors
/// When a socket fails or a completion does not come.
pub fn run(bench: &Context) -> Result<Findings> {
    let mut found = Findings::default();
    let mut bars = Vec::new();
    let mut seen = Completions::default();
    for (size, name) in SIZES {
        // The small size would take minutes for the same number of bytes.
        let count = (bench.scale.writer_bytes / size).min(bench.scale.writer_bytes / 4096);
        let payload = vec![b'x'; size];
        let (mut plain, mut vectored, mut zero) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.scale.pairs {
            let each = |spent: f64| spent * 1e6 / count as f64;
            plain.push(each(
                Link::new()?.cpu_of(|s| write_plain(s, &payload, count))?,
            ));
            vectored.push(each(
                Link::new()?.cpu_of(|s| write_vectored(s, &payload, count))?,
            ));
            let mut completions = Completions::default();
            let spent = Link::new()?.cpu_of(|s| {
                completions = write_zerocopy(s, &payload, count)?;
                Ok(())
            })?;
            zero.push(each(spent));
            seen.sent += completions.sent;
            seen.completed += completions.completed;
            seen.copied += completions.copied;
        }
        for (way, samples) in [
            ("plain", &plain),
            ("vectored", &vectored),
            ("zerocopy", &zero),
        ] {
            found
                .figures
                .push(Figure::of(format!("{way}_{name}"), "µs/msg", samples));
            bars.push((format!("{way} {name}"), median(samples).unwrap_or(0.0)));
        }
        found.figures.extend(winner(
            name,
            &[
                ("plain", &plain),
                ("vectored", &vectored),
                ("zerocopy", &zero),
            ],
        ));
    }
    found.figures.push(
        Figure::new(
            "copied_share",
            "",
            f64::from(seen.copied) / f64::from(seen.completed),
        )
        .note(format!(
            "completion code: {} of {} completions say that the kernel copied",
            seen.copied, seen.completed
        )),
    );
    found.figures.push(
        Figure::new("left_pinned", "", f64::from(seen.sent - seen.completed))
            .must(crate::bench::figure::Bound::AtMost(0.0))
            .note("sends without a completion after the queue was drained"),
    );
    found.plots.push(Plot {
        file: "zerocopy.svg",
        svg: svg::bars("Ways of writing", "µs of CPU per message", &bars),
    });
    Ok(found)
}

/// The way with the least CPU time at one size, as its advantage over the next.
fn winner(name: &str, ways: &[(&str, &[f64])]) -> Option<Figure> {
    let mut medians: Vec<(f64, &str)> = ways
        .iter()
        .filter_map(|(way, samples)| Some((median(samples)?, *way)))
        .collect();
    medians.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [(first, way), (second, next), ..] = medians[..] else {
        return None;
    };
    let figure = Figure::new(format!("advantage_{name}"), "×", second / first);
    Some(figure.note(format!("{way} wins, before {next}")))
}

/// What the gateway would have to do without vectored writes: put head, prefix and payload together.
fn write_plain(mut stream: &TcpStream, payload: &[u8], count: usize) -> Result<()> {
    let prefix = prefix();
    let mut buffer = Vec::with_capacity(payload.len() + 64);
    for _ in 0..count {
        let (head, size) = frames::server_head(TEXT, prefix.len() + payload.len());
        buffer.clear();
        buffer.extend_from_slice(&head[..size]);
        buffer.extend_from_slice(prefix);
        buffer.extend_from_slice(payload);
        stream.write_all(&buffer)?;
    }
    Ok(())
}

fn write_vectored(mut stream: &TcpStream, payload: &[u8], count: usize) -> Result<()> {
    let prefix = prefix();
    for _ in 0..count {
        let (head, size) = frames::server_head(TEXT, prefix.len() + payload.len());
        let mut slices = [&head[..size], prefix, payload].map(IoSlice::new);
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let sent = stream.write_vectored(rest)?;
            ensure!(sent > 0, "the reader is gone");
            IoSlice::advance_slices(&mut rest, sent);
        }
    }
    Ok(())
}

fn write_zerocopy(stream: &TcpStream, payload: &[u8], count: usize) -> Result<Completions> {
    setsockopt(stream, ZeroCopy, &true).context("SO_ZEROCOPY")?;
    let socket = SockRef::from(stream);
    let prefix = prefix();
    // Pinned pages must not change before their completion: one head for all.
    let (head, size) = frames::server_head(TEXT, prefix.len() + payload.len());
    let mut books = Completions::default();
    let mut open = BTreeSet::new();
    for _ in 0..count {
        let mut slices = [&head[..size], prefix, payload].map(IoSlice::new);
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match socket.send_vectored_with_flags(rest, libc::MSG_ZEROCOPY) {
                Ok(sent) => {
                    ensure!(sent > 0, "the reader is gone");
                    open.insert(books.sent);
                    books.sent += 1;
                    IoSlice::advance_slices(&mut rest, sent);
                }
                // Too much is pinned: completions make room.
                Err(error)
                    if error.kind() == ErrorKind::OutOfMemory
                        || error.raw_os_error() == Some(Errno::ENOBUFS as i32) =>
                {
                    drain(stream, &mut open, &mut books)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if open.len() as u32 >= PINNED {
            drain(stream, &mut open, &mut books)?;
        }
    }
    let begun = Instant::now();
    while !open.is_empty() && begun.elapsed() < DRAIN_WITHIN {
        drain(stream, &mut open, &mut books)?;
        std::thread::yield_now();
    }
    Ok(books)
}

/// Reads what the error queue holds. One completion covers a range of sends, and its code says whether they were copied.
fn drain(stream: &TcpStream, open: &mut BTreeSet<u32>, books: &mut Completions) -> Result<()> {
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in);
    loop {
        let mut nothing = [IoSliceMut::new(&mut [])];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrIn>(stream.as_raw_fd(), &mut nothing, Some(&mut control), flags);
        let message = match message {
            Err(Errno::EAGAIN) => return Ok(()),
            other => other.context("reading the error queue")?,
        };
        for part in message.cmsgs()? {
            let ControlMessageOwned::Ipv4RecvErr(report, _) = part else {
                continue;
            };
            if report.ee_origin != ORIGIN_ZEROCOPY {
                continue;
            }
            for id in report.ee_info..=report.ee_data {
                if open.remove(&id) {
                    books.completed += 1;
                    books.copied += u32::from(report.ee_code == COPIED);
                }
            }
        }
    }
}

fn prefix() -> &'static [u8] {
    b"{\"type\":\"message\",\"seq\":1234"
}
