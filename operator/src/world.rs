//! What one term of leading works with (effects): clients, caches and memories. Dropped as a whole
//! when the term ends.

use crate::admin::AdminClient;
use crate::events::Facts;
use crate::fleet::memory::Memories;
use crate::fleet::observed::Defaults;
use crate::lease::{Tenure, Term};
use crate::prometheus::Prometheus;
use crate::watch::{Stores, Watches, open};
use kube::Client;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Everything the controllers share.
pub struct World {
    /// The API server.
    pub client: Client,
    /// What is watched.
    pub stores: Stores,
    /// The gateways.
    pub admin: AdminClient,
    /// Prometheus servers.
    pub prometheus: Prometheus,
    /// What is reported.
    pub facts: Arc<Facts>,
    /// What is remembered of fleets.
    pub memories: Memories,
    /// The operator's own settings that reach pods.
    pub defaults: Defaults,
    /// How long this process leads.
    pub tenure: Arc<Tenure>,
    /// Cancelled when a gateway says that there is a newer leader.
    pub superseded: CancellationToken,
}

impl World {
    /// The world of a new term, and the streams that must be polled for it to be seen.
    pub fn begin(
        client: Client,
        term: Term,
        tenure: Arc<Tenure>,
        facts: Arc<Facts>,
        defaults: Defaults,
    ) -> Result<(Arc<Self>, Watches), reqwest::Error> {
        let (stores, watches) = open(&client);
        let world = Self {
            client,
            stores,
            admin: AdminClient::new(term)?,
            prometheus: Prometheus::new()?,
            facts,
            memories: Memories::default(),
            defaults,
            tenure,
            superseded: CancellationToken::new(),
        };
        Ok((Arc::new(world), watches))
    }
}
