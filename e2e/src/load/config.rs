//! Pure: what load to make.

use std::time::Duration;

use tokio::sync::watch;

/// What load to make, and where.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Clients at the start, each with its own user.
    pub clients: usize,
    /// Number of the first client's user; several generators against one fleet take different ranges.
    pub first_client: usize,
    /// Start of user names; the client's number follows.
    pub user_prefix: String,
    /// Base URLs for clients, `ws://host:port`. May change at run time.
    pub client_urls: watch::Receiver<Vec<String>>,
    /// Base URLs for publishers, `http://host:port`. May change at run time.
    pub publish_urls: watch::Receiver<Vec<String>>,
    /// Bearer key of the publish port; `None` for a server in development mode.
    pub publish_key: Option<String>,
    /// HS256 key that signs the users' tokens; empty for a server in development mode, which takes names.
    pub token_key: Vec<u8>,
    /// Lifetime of those tokens.
    pub token_lifetime: Duration,
    /// `iss` of those tokens, if any.
    pub token_issuer: Option<String>,
    /// `aud` of those tokens, if any.
    pub token_audience: Option<String>,
    /// Number of topics.
    pub topics: usize,
    /// Start of topic names; the topic's number follows.
    pub topic_prefix: String,
    /// Topics that each client follows, beside its own channel.
    pub topics_per_client: usize,
    /// Notifications published per second, over all channels.
    pub publishes_per_second: u32,
    /// Share of publishes that go to users' own channels, percent; the rest goes to topics.
    pub user_share_percent: u32,
    /// Bytes of padding in each notification.
    pub padding_bytes: usize,
    /// After this long without an answer a publish counts as refused.
    pub publish_give_up: Duration,
    /// First connections opened per second.
    pub connects_per_second: u32,
    /// Local addresses 127.0.1.1, 127.0.2.1, … to spread clients over; 0 leaves the address to the system.
    pub loopback_sources: u8,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            clients: 100,
            first_client: 0,
            user_prefix: "load-".into(),
            client_urls: watch::channel(Vec::new()).1,
            publish_urls: watch::channel(Vec::new()).1,
            publish_key: None,
            token_key: Vec::new(),
            token_lifetime: Duration::from_hours(6),
            token_issuer: None,
            token_audience: None,
            topics: 500,
            topic_prefix: "topic-".into(),
            topics_per_client: 2,
            publishes_per_second: 120,
            user_share_percent: 50,
            padding_bytes: 0,
            publish_give_up: Duration::from_secs(15),
            connects_per_second: 400,
            loopback_sources: 0,
        }
    }
}
