//! Effects: the load on a fleet, and the judgement on its audit, one span at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use sluice_client::fixed;
use tokio::task::JoinHandle;

use super::fleet::Fleet;
use super::wait::{self, Look};
use super::{Lab, PUBLISH_NODE_PORT};
use crate::load::{Load, LoadConfig, StepReport};
use crate::progress;

/// Time between two looks of the live view.
const VIEW_EVERY: Duration = Duration::from_secs(1);
/// A span lasts at least this long: shares of a second's publishes would hang on one or two of them.
const SPAN_LEAST: Duration = Duration::from_secs(10);
/// First connections opened per second.
const CONNECTS_PER_SECOND: u32 = 600;

/// Clients, publishers and the auditor on one fleet.
pub struct Traffic {
    load: Arc<Load>,
    reconnect_rate: u32,
    accepted_percent: f64,
}

/// What traffic to make.
pub struct Demand {
    /// Clients, each with a channel of its own and a few topics.
    pub clients: usize,
    /// Notifications published per second.
    pub publishes_per_second: u32,
    /// The fleet's reconnect budget, per second.
    pub reconnect_rate: u32,
    /// Share of publishes that must be accepted within one second, percent.
    pub accepted_percent: f64,
}

/// The audit of a span of traffic.
pub struct Audit {
    /// What was counted.
    pub report: StepReport,
    /// Most welcomes in any 5 s that the reconnect budget allows.
    pub allowed_in_5s: u64,
    /// Share of publishes that must be accepted within one second, percent.
    accepted_percent: f64,
    /// Whether the span's reconnects were paced by the operator; those of a process killed without notice are not.
    paced: bool,
}

/// A progress line that goes on until this value is dropped.
pub struct LiveView(JoinHandle<()>);

impl Drop for LiveView {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Traffic {
    /// Begins to connect the clients and to publish.
    ///
    /// # Errors
    /// When the fleet's addresses or keys cannot be read.
    pub async fn start(lab: &Lab, fleet: &Fleet, demand: &Demand) -> Result<Self> {
        let addresses = lab.node_addresses().await?;
        let port = fleet.node_port().await?;
        let at = |scheme: &str, port: i32| -> Vec<String> {
            addresses
                .iter()
                .map(|a| format!("{scheme}://{a}:{port}"))
                .collect()
        };
        let config = LoadConfig {
            clients: demand.clients,
            client_urls: fixed(at("ws", port)),
            publish_urls: fixed(at("http", PUBLISH_NODE_PORT)),
            publish_key: Some(fleet.key("publish").await?),
            token_key: lab.token_key.clone(),
            publishes_per_second: demand.publishes_per_second,
            connects_per_second: CONNECTS_PER_SECOND,
            ..LoadConfig::default()
        };
        Ok(Self {
            load: Arc::new(Load::start(config).await?),
            reconnect_rate: demand.reconnect_rate,
            accepted_percent: demand.accepted_percent,
        })
    }

    /// Begins a span.
    pub fn begin(&self, name: &str) {
        self.load.mark(name);
    }

    /// Begins to connect more clients.
    pub fn add_clients(&self, more: usize) {
        self.load.add_clients(more);
    }

    /// Clients made so far, and to be made.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.load.snapshot().clients as usize
    }

    /// Clients with a live connection.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.load.snapshot().connected as usize
    }

    /// Waits until every client has a live connection.
    ///
    /// # Errors
    /// When `limit` passes first.
    pub async fn all_connected(&self, limit: Duration) -> Result<()> {
        self.load.all_connected(limit).await?;
        Ok(())
    }

    /// Waits until a client has lost its connection.
    ///
    /// # Errors
    /// When `limit` passes first.
    pub async fn some_lost(&self, limit: Duration) -> Result<()> {
        wait::until("a lost connection", limit, || async {
            let (connected, clients) = (self.connected(), self.clients());
            if connected < clients {
                return Ok(Look::Done(()));
            }
            Ok(Look::NotYet(format!("{connected} of {clients} connected")))
        })
        .await?;
        Ok(())
    }

    /// The audit of the span since [`Self::begin`].
    pub async fn count(&self) -> Audit {
        tokio::time::sleep(SPAN_LEAST.saturating_sub(self.load.since_mark())).await;
        Audit {
            report: self.load.step_report().await,
            allowed_in_5s: u64::from(self.reconnect_rate) * 5 * 11 / 10 + 10,
            accepted_percent: self.accepted_percent,
            paced: true,
        }
    }

    /// The audit of a span whose reconnects nobody could pace.
    pub async fn count_unpaced(&self) -> Audit {
        Audit {
            paced: false,
            ..self.count().await
        }
    }

    /// Shows how the load fares, second by second.
    #[must_use]
    pub fn live_view(&self) -> LiveView {
        let load = Arc::clone(&self.load);
        LiveView(tokio::spawn(async move {
            let mut seconds = tokio::time::interval(VIEW_EVERY);
            loop {
                seconds.tick().await;
                let s = load.snapshot();
                progress::live(&format!(
                    "{}/{} connected, {} welcomes/s, {} published/s, {} delivered/s, {} refused, {} gaps",
                    s.connected,
                    s.clients,
                    s.welcomes_per_second,
                    s.publishes_per_second,
                    s.deliveries_per_second,
                    s.refused,
                    s.gaps
                ));
            }
        }))
    }

    /// Stops publishing and closes the clients.
    pub async fn stop(self) {
        if let Ok(load) = Arc::try_unwrap(self.load) {
            load.stop().await;
        }
    }
}

impl Audit {
    /// What the span promised and did not keep, all of it, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let r = &self.report;
        if r.accepted == 0 {
            return Some("nothing was published".into());
        }
        let mut faults = Vec::new();
        if !r.is_clean() {
            faults.push("not clean".to_owned());
        }
        if r.accepted_within_1s_percent < self.accepted_percent {
            faults.push(format!(
                "only {:.3} % of publishes were accepted within 1 s",
                r.accepted_within_1s_percent
            ));
        }
        if self.paced && r.peak_welcomes_5s > self.allowed_in_5s {
            faults.push(format!(
                "{} reconnects in 5 s, the budget allows {}",
                r.peak_welcomes_5s, self.allowed_in_5s
            ));
        }
        (!faults.is_empty()).then(|| format!("{}: {r}", faults.join("; ")))
    }

    /// The audit again, when it is clean.
    ///
    /// # Errors
    /// With what was not kept.
    pub fn clean(self) -> Result<Self> {
        match self.fault() {
            Some(fault) => bail!(fault),
            None => Ok(self),
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.report;
        write!(
            f,
            "{} delivered of {} due, lost {}, repeated {}, out of order {}, gaps {}, refused {}, {:.2} % in 1 s; {} reconnects ({} moved), peak {} in 5 s of {}; p99 {} ms",
            r.delivered,
            r.expected,
            r.lost,
            r.repeated,
            r.out_of_order,
            r.gaps,
            r.refused,
            r.accepted_within_1s_percent,
            r.reconnects,
            r.migrations,
            r.peak_welcomes_5s,
            self.allowed_in_5s,
            r.delivery_p99_ms
        )?;
        r.write_incidents(f)
    }
}
