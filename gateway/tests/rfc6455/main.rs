//! The rules of RFC 6455 as a table of named cases, run over bare TCP against a whole gateway. Each case names its section;
//! after each one every descriptor it took must be back. All failures of a table are shown together.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod case;
mod closing;
mod control;
mod delivery;
mod fragments;
mod framing;
mod opening;
mod peer;
mod utf8;
mod wire;

use std::net::SocketAddr;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use case::{Case, Step, TOO_BIG};
use peer::{PATIENCE, Peer};
use wire::{Frame, Length, TEXT, binary};

#[test]
fn opening_handshakes() {
    alone(async |address| {
        let mut table = Table::new(address).await;
        for opening in opening::cases() {
            let outcome = peer::open(address, &opening).await;
            table.note(opening.name, opening.section, outcome).await;
        }
        table.close();
    });
}

#[test]
fn masks_reserved_bits_opcodes_lengths_kinds() {
    run(&framing::cases());
}

#[test]
fn fragmentation() {
    run(&fragments::cases());
}

#[test]
fn pings_and_pongs() {
    run(&control::cases());
}

#[test]
fn text_is_utf8() {
    run(&utf8::cases());
}

#[test]
fn close_codes_and_close_handshakes() {
    run(&closing::cases());
}

#[test]
fn bytes_as_they_come() {
    run(&delivery::cases());
}

/// Section 10.4: lengths that are announced and not sent must cost nothing.
#[test]
fn announced_lengths_reserve_no_memory() {
    const PEERS: usize = 50;
    alone(async |address| {
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            peers.push(Peer::welcomed(address).await.unwrap());
        }
        let before = address_space_kib();
        for (peer, length) in peers
            .iter_mut()
            .zip([1 << 24, 1 << 31, 1 << 40].into_iter().cycle())
        {
            let frame = Frame::new(TEXT, "")
                .length(Length::Announced(length))
                .bytes();
            peer.send(&frame).await.unwrap();
            peer.step(&Step::Close(TOO_BIG)).await.unwrap();
        }
        let grown = address_space_kib().saturating_sub(before);
        assert!(
            grown < 16 * 1024,
            "{grown} KiB for {PEERS} announced lengths"
        );
    });
}

/// Section 7.1.1: the server ends the connection first, and does not keep its half for a peer that never ends its own.
#[test]
fn a_peer_that_never_ends_its_side_costs_no_descriptor() {
    alone(async |address| {
        let before = Table::new(address).await.descriptors;
        let mut peers = Vec::new();
        for _ in 0..20 {
            let mut peer = Peer::welcomed(address).await.unwrap();
            peer.send(&binary("x").bytes()).await.unwrap();
            peers.push(peer);
        }
        // Ours stay open.
        descriptors_are(before + peers.len()).await.unwrap();
    });
}

fn run(cases: &[Case]) {
    alone(async |address| {
        let mut table = Table::new(address).await;
        for case in cases {
            let outcome = peer::run(address, case).await;
            table.note(&case.name, case.section, outcome).await;
        }
        table.close();
    });
}

/// Outcomes of a table's cases so far.
struct Table {
    descriptors: usize,
    cases: usize,
    failures: Vec<String>,
}

impl Table {
    /// The first connection opens what stays open.
    async fn new(address: SocketAddr) -> Self {
        let warm = Peer::welcomed(address).await.unwrap();
        drop(warm);
        let mut before = descriptors();
        let begun = Instant::now();
        // Settled: the same for a tenth of a second.
        let mut since = begun;
        while since.elapsed() < Duration::from_millis(100) && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = descriptors();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        Self {
            descriptors: before,
            cases: 0,
            failures: Vec::new(),
        }
    }

    async fn note(&mut self, name: &str, section: &str, outcome: Result<(), String>) {
        self.cases += 1;
        let outcome = outcome.and(descriptors_are(self.descriptors).await);
        if let Err(error) = outcome {
            self.failures.push(format!("{section} {name}: {error}"));
        }
    }

    fn close(self) {
        assert!(
            self.failures.is_empty(),
            "{} of {} cases failed:\n{}",
            self.failures.len(),
            self.cases,
            self.failures.join("\n")
        );
    }
}

/// Runs with a gateway of its own and alone in this process, because descriptors are counted; they must be back at the end.
fn alone(body: impl AsyncFnOnce(SocketAddr)) {
    static ONE: Mutex<()> = Mutex::new(());
    static FIRST: Once = Once::new();
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The process's first runtime and gateway open what stays open, such as the pipe for signals.
    FIRST.call_once(|| with_gateway(async |_| {}));
    let before = descriptors();
    with_gateway(body);
    let after = descriptors();
    assert!(after <= before, "{after} descriptors, {before} before");
}

fn with_gateway(body: impl AsyncFnOnce(SocketAddr)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let gateway = common::alone(&[]);
        common::eventually("ready", || gateway.core().is_ready()).await;
        body(gateway.addresses().client).await;
        gateway.terminate().await;
    });
    runtime.shutdown_timeout(PATIENCE);
}

async fn descriptors_are(expected: usize) -> Result<(), String> {
    let begun = Instant::now();
    while descriptors() != expected {
        if begun.elapsed() > PATIENCE {
            return Err(format!(
                "{} descriptors instead of {expected}",
                descriptors()
            ));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn descriptors() -> usize {
    // One of them is the listing itself, each time.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Memory that the process has asked the kernel for, touched or not.
fn address_space_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmData:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
