//! Effects (clock): login tokens for the load's users.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;

/// The claims that a gateway looks at.
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// Makes an HS256 token for `user` that is valid from now on for `lifetime`.
///
/// # Errors
/// When the clock is before 1970 or the token cannot be signed.
pub fn mint(
    key: &[u8],
    user: &str,
    lifetime: Duration,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        sub: user,
        iat: now,
        exp: now + lifetime.as_secs(),
        iss: issuer,
        aud: audience,
    };
    encode(&Header::default(), &claims, &EncodingKey::from_secret(key)).context("signing a token")
}
