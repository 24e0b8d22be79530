//! Effects: makes the clients, at a rate.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluice_client::{Client, Config, Credentials};
use sluice_protocol::{ChannelName, UserId};

use super::audit::{Auditor, Channel};
use super::config::LoadConfig;
use super::limits;
use super::publish::Targets;
use super::tally::lock;
use super::token::mint;

/// Makes clients, each with its own user.
pub(super) struct Factory {
    config: LoadConfig,
    auditor: Arc<Auditor>,
    targets: Arc<Targets>,
    made: Mutex<Vec<Client>>,
}

impl Factory {
    pub(super) fn new(config: LoadConfig, auditor: &Arc<Auditor>, targets: &Arc<Targets>) -> Self {
        Self {
            config,
            auditor: auditor.clone(),
            targets: targets.clone(),
            made: Mutex::default(),
        }
    }

    /// Makes the clients with these numbers at the configured rate.
    pub(super) async fn make(self: Arc<Self>, numbers: std::ops::Range<usize>) -> Result<()> {
        let per_batch =
            f64::from(self.config.connects_per_second) * limits::CONNECT_BATCH.as_secs_f64();
        let mut turns = tokio::time::interval(limits::CONNECT_BATCH);
        let mut due = 0.0;
        for number in numbers {
            while due < 1.0 {
                turns.tick().await;
                due += per_batch.max(0.001);
            }
            due -= 1.0;
            let client = self.client(number)?;
            lock(&self.made).push(client);
        }
        Ok(())
    }

    /// Takes the clients out, to stop them.
    pub(super) fn take(&self) -> Vec<Client> {
        std::mem::take(&mut lock(&self.made))
    }

    fn client(&self, number: usize) -> Result<Client> {
        let config = &self.config;
        let number = config.first_client + number;
        let user = UserId::new(&format!("{}{number}", config.user_prefix))?;
        let own = Channel::new(user.channel());
        let mut followed = vec![own.clone()];
        let mut client = Config::new(config.client_urls.clone(), self.credentials(&user));
        client.first_url = number;
        client.source = self.source(number);
        for topic in self.topics(number) {
            client.follow(topic.name.as_str())?;
            followed.push(topic.clone());
        }
        let ear = self.auditor.listen(followed);
        lock(&self.targets.users).push(own);
        Ok(Client::start_with(client, ear.clone(), ear))
    }

    /// The topics of one client: neighbours on a ring, so that each topic has about as many followers as any other.
    fn topics(&self, number: usize) -> impl Iterator<Item = &Arc<Channel>> {
        let topics = &self.targets.topics;
        let wanted = self.config.topics_per_client.min(topics.len());
        let first = number * wanted;
        (first..first + wanted).map(|at| &topics[at % topics.len()])
    }

    fn credentials(&self, user: &UserId) -> Credentials {
        if self.config.token_key.is_empty() {
            return Credentials::DevUser(user.clone());
        }
        let (config, user) = (self.config.clone(), user.clone());
        Credentials::Token(Arc::new(move || {
            let (issuer, audience) = (
                config.token_issuer.as_deref(),
                config.token_audience.as_deref(),
            );
            // An empty token is refused, and the client stops with that reason.
            mint(
                &config.token_key,
                user.as_str(),
                config.token_lifetime,
                issuer,
                audience,
            )
            .unwrap_or_default()
        }))
    }

    fn source(&self, number: usize) -> Option<IpAddr> {
        let sources = usize::from(self.config.loopback_sources);
        let subnet = number.checked_rem(sources)? + 1;
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, subnet as u8, 1)))
    }
}

/// The topics of a load.
pub(super) fn topics(config: &LoadConfig) -> Result<Vec<Arc<Channel>>> {
    if config.client_urls.borrow().is_empty() {
        bail!("no base URL for clients is given");
    }
    if config.connects_per_second == 0 && config.clients > 0 {
        bail!("connects per second must be above 0");
    }
    let names = (0..config.topics).map(|n| format!("{}{n}", config.topic_prefix));
    names
        .map(|name| {
            Ok(Channel::new(
                ChannelName::new(&name).context("topic prefix")?,
            ))
        })
        .collect()
}

/// Stops clients, some at a time, within a limit for all.
pub(super) async fn stop(clients: Vec<Client>, limit: Duration) {
    use futures::StreamExt;
    let stops =
        futures::stream::iter(clients).for_each_concurrent(limits::STOPS_AT_ONCE, Client::stop);
    // Those that do not end in time are dropped, which ends them, too.
    let _ = tokio::time::timeout(limit, stops).await;
}
