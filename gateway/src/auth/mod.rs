//! Effects (clock, key sources): who a client is. Login tokens are JWTs; a resume token stands for the login it came from.

pub mod cache;
pub mod jwt;
pub mod keys;
pub mod resume;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_protocol::{ErrorCode, UserId};
use tokio::runtime::Handle;

use crate::config::{Config, ConfigError};
use crate::handshake::metrics::{Check, HandshakeMetrics};
use crate::limits;
use crate::metrics::level;
use jwt::{Claims, Verifier};
use resume::{ResumeKey, SessionId, Ticket};

/// Someone whose credentials were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user: UserId,
    /// The session, the same for all its connections.
    pub session: SessionId,
    /// When the user logged in with full credentials, seconds since the Unix epoch.
    pub login: u64,
    /// When the credentials end, seconds since the Unix epoch.
    pub expires: u64,
    /// True when a resume token proved it.
    pub resumed: bool,
}

/// Why credentials were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There are none.
    #[error(
        "no credentials: pass ?token=…, an Authorization header or a bearer.<token> subprotocol"
    )]
    Missing,
    /// `?user=` outside of development mode.
    #[error("?user= works with --dev only: pass a token")]
    DevOnly,
    /// They were right once.
    #[error("the {0} has expired: log in again")]
    Expired(&'static str),
    /// They are wrong.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// The key set cannot be read, so nothing can be said about them.
    #[error("tokens cannot be checked at the moment: {0}")]
    Unavailable(String),
}

impl AuthError {
    /// Its code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Expired(_) => ErrorCode::Expired,
            Self::Unavailable(_) => ErrorCode::Overload,
            Self::Missing | Self::DevOnly | Self::Invalid(_) => ErrorCode::Unauthorized,
        }
    }
}

/// What a client showed.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A login token.
    pub token: Option<String>,
    /// A resume token.
    pub resume: Option<String>,
    /// A name, in development mode.
    pub user: Option<UserId>,
}

/// Checks credentials and issues resume tokens.
#[derive(Debug)]
pub struct Auth {
    dev: bool,
    verifier: Option<Verifier>,
    resume: ResumeKey,
    metrics: HandshakeMetrics,
}

impl Auth {
    /// Reads key files; a key set behind a URL is fetched with the first token. What has to be read later is read by `runtime`.
    pub fn new(
        config: &Config,
        metrics: HandshakeMetrics,
        runtime: Handle,
    ) -> Result<Self, ConfigError> {
        let verifier = config
            .tokens
            .as_ref()
            .map(|tokens| Verifier::new(tokens, metrics.clone(), runtime))
            .transpose()?;
        Ok(Self {
            dev: config.dev,
            verifier,
            resume: ResumeKey::new(&config.keys.resume),
            metrics,
        })
    }

    /// Checks credentials. A resume token goes before a login token, and that before a name.
    pub async fn check(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        match (self.check_at_once(credentials), &credentials.token) {
            (Some(checked), _) => checked,
            (None, Some(token)) => {
                let now = now_seconds();
                let claims = self
                    .verifier(token)?
                    .check_with_new_keys(token, now)
                    .await?;
                Ok(login(claims, now))
            }
            (None, None) => Err(AuthError::Missing),
        }
    }

    /// The same without waiting; `None` when keys have to be read first, which only a login token can make necessary.
    fn check_at_once(&self, credentials: &Credentials) -> Option<Result<Identity, AuthError>> {
        let now = now_seconds();
        if let Some(token) = &credentials.resume {
            return Some(self.resume(token, now));
        }
        if let Some(token) = &credentials.token {
            let checked = match self.verifier(token) {
                Ok(verifier) => verifier.check(token, now)?,
                Err(error) => Err(error),
            };
            return Some(checked.map(|claims| login(claims, now)));
        }
        Some(match &credentials.user {
            Some(user) if self.dev => {
                self.metrics.check(Check::Name);
                let expires = now + limits::SESSION_AGE.as_secs();
                Ok(fresh(user.clone(), now, expires))
            }
            Some(_) => Err(AuthError::DevOnly),
            None => Err(AuthError::Missing),
        })
    }

    /// Drops what has expired.
    pub fn sweep(&self) {
        if let Some(verifier) = &self.verifier {
            let tokens = verifier.sweep(now_seconds());
            self.metrics.cached_tokens.set(level(tokens));
        }
    }

    fn resume(&self, token: &str, now: u64) -> Result<Identity, AuthError> {
        self.metrics.check(Check::Resume);
        let ticket = self.resume.open(token, now)?;
        Ok(Identity {
            user: ticket.user,
            session: ticket.session,
            login: ticket.login,
            expires: ticket.expires,
            resumed: true,
        })
    }

    /// A token for the next connect of this session.
    pub fn ticket(&self, identity: &Identity) -> String {
        self.resume.seal(&Ticket {
            user: identity.user.clone(),
            session: identity.session,
            login: identity.login,
            expires: identity.expires,
        })
    }

    fn verifier(&self, token: &str) -> Result<&Verifier, AuthError> {
        if token.len() > limits::TOKEN_BYTES {
            let text = format!("longer than {} bytes", limits::TOKEN_BYTES);
            return Err(AuthError::Invalid(text));
        }
        let none = "this gateway checks no tokens: use ?user=NAME";
        self.verifier
            .as_ref()
            .ok_or_else(|| AuthError::Invalid(none.into()))
    }
}

fn login(claims: Claims, now: u64) -> Identity {
    let expires = claims.expires.min(now + limits::SESSION_AGE.as_secs());
    fresh(claims.user, now, expires)
}

fn fresh(user: UserId, now: u64, expires: u64) -> Identity {
    Identity {
        user,
        session: SessionId(rand::random()),
        login: now,
        expires,
        resumed: false,
    }
}

/// Seconds since the Unix epoch.
pub fn now_seconds() -> u64 {
    since_epoch().as_secs()
}

/// Milliseconds since the Unix epoch.
pub fn now_millis() -> u64 {
    since_epoch().as_millis() as u64
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
