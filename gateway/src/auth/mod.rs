//! Effects (clock, key sources): who a client is. Login tokens are JWTs; a resume token stands for the login it came from.

pub mod jwt;
pub mod keys;
pub mod resume;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_protocol::{ErrorCode, UserId};

use crate::config::{Config, ConfigError};
use crate::limits;
use jwt::Verifier;
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
}

impl Auth {
    /// Reads key files; a key set behind a URL is fetched with the first token.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let verifier = config.tokens.as_ref().map(Verifier::new).transpose()?;
        Ok(Self {
            dev: config.dev,
            verifier,
            resume: ResumeKey::new(&config.keys.resume),
        })
    }

    /// Checks credentials. A resume token goes before a login token, and that before a name.
    pub async fn check(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        let now = now_seconds();
        if let Some(token) = &credentials.resume {
            let ticket = self.resume.open(token, now)?;
            return Ok(Identity {
                user: ticket.user,
                session: ticket.session,
                login: ticket.login,
                expires: ticket.expires,
                resumed: true,
            });
        }
        if let Some(token) = &credentials.token {
            return self.login(token, now).await;
        }
        match &credentials.user {
            Some(user) if self.dev => Ok(fresh(
                user.clone(),
                now,
                now + limits::SESSION_AGE.as_secs(),
            )),
            Some(_) => Err(AuthError::DevOnly),
            None => Err(AuthError::Missing),
        }
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

    async fn login(&self, token: &str, now: u64) -> Result<Identity, AuthError> {
        if token.len() > limits::TOKEN_BYTES {
            return Err(AuthError::Invalid(format!(
                "longer than {} bytes",
                limits::TOKEN_BYTES
            )));
        }
        let Some(verifier) = &self.verifier else {
            return Err(AuthError::Invalid(
                "this gateway checks no tokens: use ?user=NAME".into(),
            ));
        };
        let claims = verifier.verify(token).await?;
        let expires = claims.expires.min(now + limits::SESSION_AGE.as_secs());
        Ok(fresh(claims.user, now, expires))
    }
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
