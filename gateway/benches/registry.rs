//! Effects (threads, clock): what it costs to enter a connection and to forget it: the shards' tables, each with its own thread,
//! against one table for all threads, as a `DashMap` and as a `RwLock<HashMap>`. `cargo bench-all registry` builds and runs it.
//!
//! Every thread keeps its share of the connections and replaces one after the other: the oldest goes, a new one comes. Prints one
//! line of JSON with the samples of all runs, in replacements per second over all threads.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::{Arc, Barrier, RwLock};
use std::time::Instant;

use clap::Parser;
use dashmap::DashMap;
use serde_json::json;
use sluice_gateway::auth::resume::SessionId;
use sluice_gateway::broker::memory::MemoryBroker;
use sluice_gateway::cli::Cli;
use sluice_gateway::config::Config;
use sluice_gateway::core::Core;
use sluice_gateway::shard::Shard;

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the other tables keep of a connection: as large as a shard's entry.
type Value = [u64; 16];

/// Replacements between two looks at what other shards have sent.
const LETTERS_EVERY: usize = 32;

#[derive(Clone, Copy, Debug, Parser)]
struct Args {
    /// Connections over all threads
    #[arg(long, default_value_t = 18_000)]
    connections: usize,
    /// Replacements of each thread and run
    #[arg(long, default_value_t = 1_000_000)]
    replacements: usize,
    /// Runs of each table, in turn
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let (mut shards, mut dash, mut lock) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.pairs {
        shards.push(sharded(args));
        let table: DashMap<SessionId, Value> = DashMap::new();
        dash.push(shared(
            args,
            |session, value| {
                table.insert(session, value);
            },
            |session| {
                black_box(table.remove(&session));
            },
        ));
        let table: RwLock<HashMap<SessionId, Value>> = RwLock::default();
        lock.push(shared(
            args,
            |session, value| {
                table.write().unwrap().insert(session, value);
            },
            |session| {
                black_box(table.write().unwrap().remove(&session));
            },
        ));
    }
    println!(
        "{}",
        json!({"shards": shards, "dashmap": dash, "rwlock": lock})
    );
}

/// The gateway's own: a shard per thread, sessions kept by whichever shard their bytes name.
fn sharded(args: Args) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let threads = args.threads.to_string();
    let flags = ["sluice-gateway", "--dev", "--shards", &threads];
    let config = Config::from_cli(&Cli::parse_from(flags).serve).unwrap();
    let broker = Arc::new(MemoryBroker::new(config.broker.history));
    let core = Core::new(config, broker).unwrap();
    on_threads(args, |index, ready| {
        let shard = Shard::new(Arc::clone(&core), index as u16);
        let mut live: VecDeque<_> = (0..args.connections / args.threads)
            .map(|_| shard.enter(session()).0)
            .collect();
        ready.wait();
        shard.read_letters();
        ready.wait();
        let begun = Instant::now();
        for n in 0..args.replacements {
            if let Some(oldest) = live.pop_front() {
                shard.forget(oldest);
            }
            live.push_back(shard.enter(session()).0);
            if n.is_multiple_of(LETTERS_EVERY) {
                shard.read_letters();
            }
        }
        // Those of the other thread are work of this one.
        ready.wait();
        shard.read_letters();
        begun.elapsed().as_secs_f64()
    })
}

/// One table for all threads.
fn shared(
    args: Args,
    enter: impl Fn(SessionId, Value) + Sync,
    forget: impl Fn(SessionId) + Sync,
) -> f64 {
    on_threads(args, |_, ready| {
        let one = || {
            let session = session();
            enter(session, [0; 16]);
            session
        };
        let mut live: VecDeque<_> = (0..args.connections / args.threads)
            .map(|_| one())
            .collect();
        ready.wait();
        ready.wait();
        let begun = Instant::now();
        for _ in 0..args.replacements {
            if let Some(oldest) = live.pop_front() {
                forget(oldest);
            }
            live.push_back(one());
        }
        ready.wait();
        begun.elapsed().as_secs_f64()
    })
}

/// Runs `work` on every thread; replacements per second over all of them.
fn on_threads(args: Args, work: impl Fn(usize, &Barrier) -> f64 + Sync) -> f64 {
    let ready = Barrier::new(args.threads);
    let slowest = std::thread::scope(|scope| {
        let running: Vec<_> = (0..args.threads)
            .map(|index| {
                let (work, ready) = (&work, &ready);
                scope.spawn(move || work(index, ready))
            })
            .collect();
        let seconds = running.into_iter().map(|thread| thread.join().unwrap());
        seconds.fold(0.0, f64::max)
    });
    (args.threads * args.replacements) as f64 / slowest
}

fn session() -> SessionId {
    SessionId(rand::random())
}
