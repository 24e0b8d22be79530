//! Effects: `cargo cluster load` and its like: a load from command line options, with a progress line per second.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use sluice_client::fixed;

use super::config::LoadConfig;
use super::handle::Load;
use super::report::{AuditReport, Snapshot};

/// Options of a load.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Clients, each with a user of its own
    #[arg(long, default_value_t = 1000)]
    pub clients: usize,
    /// Base URLs for clients
    #[arg(long, value_delimiter = ',', default_value = "ws://127.0.0.1:8080")]
    pub url: Vec<String>,
    /// Base URLs for publishers
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:8081")]
    pub publish_url: Vec<String>,
    /// File with the bearer key of the publish port; without it none is sent, as --dev servers allow
    #[arg(long, value_name = "FILE")]
    pub publish_key_file: Option<PathBuf>,
    /// File with the HS256 key for users' tokens; without it clients give their names, as --dev servers allow
    #[arg(long, value_name = "FILE")]
    pub token_key_file: Option<PathBuf>,
    /// Topics in all
    #[arg(long, default_value_t = 500)]
    pub topics: usize,
    /// Topics that each client follows beside its own channel
    #[arg(long, default_value_t = 2)]
    pub topics_per_client: usize,
    /// Notifications published per second
    #[arg(long, default_value_t = 120)]
    pub rate: u32,
    /// Padding in each notification, bytes
    #[arg(long, default_value_t = 0)]
    pub padding_bytes: usize,
    /// First connections opened per second
    #[arg(long, default_value_t = 400)]
    pub connect_rate: u32,
    /// Spread clients over this many loopback source addresses
    #[arg(long, default_value_t = 0)]
    pub loopback_sources: u8,
    /// How long to publish after all clients are connected, seconds
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// How long connecting all clients may take, seconds
    #[arg(long, default_value_t = 120)]
    pub connect_timeout: u64,
}

impl LoadArgs {
    /// The load that these options ask for.
    ///
    /// # Errors
    /// When a key file cannot be read.
    pub fn config(&self) -> Result<LoadConfig> {
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("reading the key {}", path.display()))
        };
        let publish_key = self.publish_key_file.as_ref().map(read).transpose()?;
        let publish_key = publish_key.map(String::from_utf8).transpose()?;
        let token_key = self.token_key_file.as_ref().map(read).transpose()?;
        Ok(LoadConfig {
            clients: self.clients,
            client_urls: fixed(self.url.clone()),
            publish_urls: fixed(self.publish_url.clone()),
            publish_key: publish_key.map(|key| key.trim().to_owned()),
            token_key: token_key.unwrap_or_default(),
            topics: self.topics,
            topics_per_client: self.topics_per_client,
            publishes_per_second: self.rate,
            padding_bytes: self.padding_bytes,
            connects_per_second: self.connect_rate,
            loopback_sources: self.loopback_sources,
            ..LoadConfig::default()
        })
    }
}

/// Runs a load and audits it; `progress` is called once a second. The first Ctrl-C ends the publishing early.
///
/// # Errors
/// When the options make no sense or the clients cannot be connected.
pub async fn run(args: &LoadArgs, mut progress: impl FnMut(&Snapshot)) -> Result<AuditReport> {
    let load = Load::start(args.config()?).await?;
    with_progress(&load, args, &mut progress).await?;
    Ok(load.stop().await)
}

async fn with_progress(
    load: &Load,
    args: &LoadArgs,
    progress: &mut impl FnMut(&Snapshot),
) -> Result<()> {
    let work = async {
        load.mark("connect");
        load.all_connected(Duration::from_secs(args.connect_timeout))
            .await?;
        load.step_report().await;
        load.mark("publish");
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        load.step_report().await;
        Ok(())
    };
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = seconds.tick() => progress(&load.snapshot()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
