//! Effects (key lookup): checks login tokens, JWTs signed with HS256 (one secret) or EdDSA and RS256 (a key set).

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use sluice_protocol::UserId;

use super::AuthError;
use super::keys::KeySet;
use crate::config::{ConfigError, KeySource, TokenConfig};
use crate::limits;

/// What a login token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub user: UserId,
    /// `exp`, seconds since the Unix epoch.
    pub expires: u64,
}

#[derive(Deserialize)]
struct RawClaims {
    sub: String,
    exp: f64,
}

/// Checks login tokens.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
}

enum Keys {
    Secret(DecodingKey),
    Set(KeySet),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(..)",
            Self::Set(_) => "Set(..)",
        })
    }
}

impl Verifier {
    /// Reads a key file; a URL is fetched with the first token.
    pub fn new(config: &TokenConfig) -> Result<Self, ConfigError> {
        let keys = match &config.source {
            KeySource::Hmac(secret) => Keys::Secret(DecodingKey::from_secret(secret)),
            KeySource::JwksFile(path) => Keys::Set(KeySet::file(path.clone())?),
            KeySource::JwksUrl(url) => Keys::Set(KeySet::url(url.clone())),
        };
        Ok(Self {
            keys,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        })
    }

    /// Checks signature, time, issuer and audience.
    pub async fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        let header = decode_header(token).map_err(|error| AuthError::Invalid(error.to_string()))?;
        match &self.keys {
            Keys::Secret(key) => self.decode(token, key, Algorithm::HS256),
            Keys::Set(set) => {
                let key = set.find(header.kid.as_deref(), header.alg).await?;
                self.decode(token, &key.key, key.algorithm)
            }
        }
    }

    /// The algorithm comes from the key, never from the token.
    fn decode(
        &self,
        token: &str,
        key: &DecodingKey,
        algorithm: Algorithm,
    ) -> Result<Claims, AuthError> {
        let mut rules = Validation::new(algorithm);
        rules.leeway = limits::TOKEN_LEEWAY.as_secs();
        rules.validate_nbf = true;
        rules.set_required_spec_claims(&["exp", "sub"]);
        match &self.audience {
            Some(audience) => rules.set_audience(&[audience]),
            None => rules.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            rules.set_issuer(&[issuer]);
        }
        if self.audience.is_some() {
            rules.required_spec_claims.insert("aud".into());
        }
        if self.issuer.is_some() {
            rules.required_spec_claims.insert("iss".into());
        }
        let claims =
            decode::<RawClaims>(token, key, &rules).map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => AuthError::Expired("token"),
                _ => AuthError::Invalid(error.to_string()),
            })?;
        let user = UserId::new(&claims.claims.sub)
            .map_err(|error| AuthError::Invalid(format!("sub: {error}")))?;
        Ok(Claims {
            user,
            expires: claims.claims.exp as u64,
        })
    }
}
