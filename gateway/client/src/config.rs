//! Pure: what an application says about its session before it starts.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sluice_protocol::channel::NameError;
use sluice_protocol::session::Resume;
use sluice_protocol::{ChannelName, UserId};
use tokio::sync::watch;

use crate::limits;

/// How the client proves who it is when it has no resume token.
#[derive(Clone)]
pub enum Credentials {
    /// Asked for a token at each full login, so that it may be made anew.
    Token(Arc<dyn Fn() -> String + Send + Sync>),
    /// `?user=NAME`, which only a server in development mode takes.
    DevUser(UserId),
}

impl Credentials {
    /// A token that never changes.
    pub fn token(token: &str) -> Self {
        let token = token.to_owned();
        Self::Token(Arc::new(move || token.clone()))
    }

    /// A user of a server in development mode.
    ///
    /// # Errors
    /// When the name is no user id.
    pub fn dev_user(name: &str) -> Result<Self, NameError> {
        Ok(Self::DevUser(UserId::new(name)?))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(…)"),
            Self::DevUser(user) => write!(f, "DevUser({user})"),
        }
    }
}

/// A client's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URLs, `ws://host:port`, each tried in turn. May change while the client runs.
    pub urls: watch::Receiver<Vec<String>>,
    /// Which of them is tried first; give clients different numbers to spread them.
    pub first_url: usize,
    /// Who the client is.
    pub credentials: Credentials,
    /// The session to go on with: what [`Resume::apply`] kept, or channels without positions.
    pub resume: Resume,
    /// Local address to connect from; `None` leaves it to the system.
    pub source: Option<IpAddr>,
    /// Events that may wait for the application, see [`limits::EVENTS`].
    pub events: usize,
}

impl Config {
    /// A new session without topics; the user's own channel is always followed.
    pub fn new(urls: watch::Receiver<Vec<String>>, credentials: Credentials) -> Self {
        Self {
            urls,
            first_url: 0,
            credentials,
            resume: Resume::default(),
            source: None,
            events: limits::EVENTS,
        }
    }

    /// Follows a channel from the start.
    ///
    /// # Errors
    /// When it is no channel name.
    pub fn follow(&mut self, channel: &str) -> Result<(), NameError> {
        self.resume
            .channels
            .push((ChannelName::new(channel)?, None));
        Ok(())
    }
}

/// URLs that never change.
pub fn fixed<T: Into<String>>(urls: impl IntoIterator<Item = T>) -> watch::Receiver<Vec<String>> {
    watch::channel(urls.into_iter().map(Into::into).collect()).1
}
