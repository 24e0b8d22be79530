//! Effects: `cargo bench-all`: every benchmark, side by side with its floor in the same run.
//!
//! ```text
//! args ─► context (sizes, programs, keys) ─► benches/* ─► figure ─► table, JSON, SVG
//!                                              │
//!              server's core: gateway | floor ◄┴► load's core: swarm (raw clients on one epoll), brokers
//! ```

pub mod benches;
pub mod context;
pub mod figure;
pub mod floor;
pub mod gateway;
pub mod http;
pub mod limits;
pub mod link;
pub mod machine;
pub mod nats;
pub mod peer;
pub mod process;
pub mod scale;
pub mod subject;
pub mod svg;
pub mod swarm;
pub mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::cluster::tools::Tools;
use crate::images::product;
use crate::progress;
use benches::{
    churn, decay, deflate, fanout, handshake, idle, memory, peers, registry, slow, soak, stall,
    writer, zerocopy,
};
use context::{Context, Programs};
use figure::Findings;
use machine::Machine;
use scale::Scale;
use table::Report;

/// A benchmark by its name.
type Bench = (&'static str, fn(&Context) -> Result<Findings>);

/// All of them, in the order in which they run.
const BENCHES: [Bench; 14] = [
    ("memory", memory::run),
    ("idle", idle::run),
    ("fanout", fanout::run),
    ("handshake", handshake::run),
    ("churn", churn::run),
    ("slow", slow::run),
    ("stall", stall::run),
    ("registry", registry::run),
    ("writer", writer::run),
    ("zerocopy", zerocopy::run),
    ("deflate", deflate::run),
    ("decay", decay::run),
    ("peers", peers::run),
    ("soak", soak::run),
];

/// Options of `cargo bench-all`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Only these benchmarks
    #[arg(value_parser = BENCHES.map(|(name, _)| name))]
    pub names: Vec<String>,
    /// Print the named figures as JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// A small run: fewer connections, pairs and rounds
    #[arg(long)]
    pub quick: bool,
    /// Runs of floor and ours, in turn [default: 7, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub pairs: Option<u16>,
    /// Connections of the large benchmarks [default: 18000, with --quick 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..))]
    pub connections: Option<u32>,
    /// How long the soak lasts, minutes [default: 30, with --quick 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=300))]
    pub soak_minutes: Option<u16>,
    /// Write plots as SVG files to this folder
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Measure this gateway program instead of building one
    #[arg(long, value_name = "FILE")]
    pub gateway: Option<PathBuf>,
}

impl BenchArgs {
    /// True when this benchmark is to run.
    fn asks_for(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == name)
    }
}

/// Runs the benchmarks; true when every limit holds.
///
/// # Errors
/// When nothing can be measured: programs missing, too few descriptors or cores.
pub fn main(args: &BenchArgs) -> Result<bool> {
    let scale = if args.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    }
    .with(
        args.connections.map(|n| n as usize),
        args.pairs.map(usize::from),
        args.soak_minutes.map(|n| Duration::from_mins(n.into())),
    );
    machine::descriptors_for(scale.connections)?;
    let programs = programs(args)?;
    let machine = Machine::here();
    ensure!(
        machine.cores >= 2,
        "two cores are needed: one for the server, one for the load"
    );
    // From here on everything but the servers is on the load's core.
    machine::pin(machine::LOAD_CORE)?;
    let folder = tempfile::tempdir()?;
    let context = Context::new(scale, programs, folder.path().to_owned())?;
    let mut report = Report {
        machine,
        quick: args.quick,
        benches: Vec::new(),
    };
    if !args.json {
        progress::say(&report.heading());
    }
    for (name, bench) in BENCHES.iter().filter(|(name, _)| args.asks_for(name)) {
        let begun = Instant::now();
        progress::note(&format!("{name} …"));
        let outcome = bench(&context).map_err(|error| format!("{error:#}"));
        progress::note(&format!("{name}: {:.0} s", begun.elapsed().as_secs_f32()));
        if !args.json {
            progress::say(&Report::table(name, &outcome));
        }
        if let (Some(folder), Ok(found)) = (&args.plots, &outcome) {
            draw(folder, found)?;
        }
        report.benches.push((name, outcome));
    }
    if args.json {
        progress::say(&serde_json::to_string_pretty(&report.json())?);
    } else {
        progress::say(if report.holds() {
            "every limit holds"
        } else {
            "not every limit holds"
        });
    }
    Ok(report.holds())
}

fn draw(folder: &Path, found: &Findings) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for plot in &found.plots {
        std::fs::write(folder.join(plot.file), &plot.svg)?;
    }
    Ok(())
}

/// The gateway, built unless named, nats-server, built unless `SLUICE_NATS_SERVER` names one, and what else is asked for.
fn programs(args: &BenchArgs) -> Result<Programs> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let gateway = match &args.gateway {
            Some(path) => path.clone(),
            None => product::build_gateway().await?,
        };
        let named = std::env::var_os("SLUICE_NATS_SERVER").filter(|v| !v.is_empty());
        let nats = match named {
            Some(path) => Some(PathBuf::from(path)),
            None => match Tools::only(&["nats"]).await {
                Ok(tools) => Some(tools.binary("nats-server")),
                Err(error) => {
                    progress::note(&format!("no nats-server: {error:#}"));
                    None
                }
            },
        };
        let registry = if args.asks_for("registry") {
            Some(product::build_gateway_bench("registry").await?)
        } else {
            None
        };
        Ok(Programs {
            gateway,
            nats,
            registry,
        })
    })
}
