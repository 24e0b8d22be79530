//! Effects (key lookup): checks login tokens, JWTs signed with HS256 (one secret) or EdDSA and RS256 (a key set).

use std::sync::{Mutex, MutexGuard, PoisonError};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use sluice_protocol::UserId;
use tokio::runtime::Handle;

use super::AuthError;
use super::cache::{TokenCache, TokenHash};
use super::keys::KeySet;
use crate::config::{ConfigError, KeySource, TokenConfig};
use crate::handshake::metrics::{Check, HandshakeMetrics};
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
pub struct Verifier {
    keys: Keys,
    rules: Rules,
    /// Tokens whose signature was checked before.
    seen: Mutex<TokenCache>,
    /// Makes the cache's hashes this process' own.
    salt: [u8; 32],
    metrics: HandshakeMetrics,
}

enum Keys {
    Secret(DecodingKey),
    Set(KeySet),
}

/// What tokens must say, by the algorithm of the key.
struct Rules {
    hs256: Validation,
    eddsa: Validation,
    rs256: Validation,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.keys {
            Keys::Secret(_) => "Verifier(secret)",
            Keys::Set(_) => "Verifier(key set)",
        })
    }
}

impl Verifier {
    /// Reads a key file; a URL is fetched with the first token, by `runtime`.
    pub fn new(
        config: &TokenConfig,
        metrics: HandshakeMetrics,
        runtime: Handle,
    ) -> Result<Self, ConfigError> {
        let keys = match &config.source {
            KeySource::Hmac(secret) => Keys::Secret(DecodingKey::from_secret(secret)),
            KeySource::JwksFile(path) => Keys::Set(KeySet::file(path.clone(), runtime)?),
            KeySource::JwksUrl(url) => Keys::Set(KeySet::url(url.clone(), runtime)),
        };
        Ok(Self {
            keys,
            rules: Rules {
                hs256: rules(config, Algorithm::HS256),
                eddsa: rules(config, Algorithm::EdDSA),
                rs256: rules(config, Algorithm::RS256),
            },
            seen: Mutex::new(TokenCache::new(limits::TOKEN_CACHE_ENTRIES)),
            salt: rand::random(),
            metrics,
        })
    }

    /// Checks signature, time, issuer and audience, with what is at hand. `None` when keys have to be read first.
    pub fn check(&self, token: &str, now: u64) -> Option<Result<Claims, AuthError>> {
        let hash = self.hash(token);
        let version = match &self.keys {
            Keys::Secret(_) => 0,
            Keys::Set(set) => set.version(),
        };
        if let Some(claims) = self.seen().get(&hash, version, now) {
            self.metrics.check(Check::Cached);
            return Some(Ok(claims));
        }
        let header = match header(token) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        match &self.keys {
            Keys::Secret(key) => Some(self.verify(token, hash, key, Algorithm::HS256, 0)),
            Keys::Set(set) => {
                let (key, version) = set.known(header.kid.as_deref(), header.alg)?;
                Some(self.verify(token, hash, &key.key, key.algorithm, version))
            }
        }
    }

    /// The same, and waits for keys.
    pub async fn check_with_new_keys(&self, token: &str, now: u64) -> Result<Claims, AuthError> {
        if let Some(checked) = self.check(token, now) {
            return checked;
        }
        let Keys::Set(set) = &self.keys else {
            return Err(AuthError::Unavailable("there are no keys".into()));
        };
        let header = header(token)?;
        let (key, version) = set.find(header.kid.as_deref(), header.alg).await?;
        let hash = self.hash(token);
        self.verify(token, hash, &key.key, key.algorithm, version)
    }

    /// Drops tokens that have expired; says how many are left.
    pub fn sweep(&self, now: u64) -> usize {
        let mut seen = self.seen();
        seen.sweep(now);
        seen.len()
    }

    /// The algorithm comes from the key, never from the token.
    fn verify(
        &self,
        token: &str,
        hash: TokenHash,
        key: &DecodingKey,
        algorithm: Algorithm,
        version: u64,
    ) -> Result<Claims, AuthError> {
        self.metrics.check(Check::Signature);
        let rules = match algorithm {
            Algorithm::HS256 => &self.rules.hs256,
            Algorithm::EdDSA => &self.rules.eddsa,
            _ => &self.rules.rs256,
        };
        let claims =
            decode::<RawClaims>(token, key, rules).map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => AuthError::Expired("token"),
                _ => AuthError::Invalid(error.to_string()),
            })?;
        let user = UserId::new(&claims.claims.sub)
            .map_err(|error| AuthError::Invalid(format!("sub: {error}")))?;
        let claims = Claims {
            user,
            expires: claims.claims.exp as u64,
        };
        self.seen().put(hash, version, &claims);
        Ok(claims)
    }

    fn hash(&self, token: &str) -> TokenHash {
        Sha256::new()
            .chain_update(self.salt)
            .chain_update(token)
            .finalize()
            .into()
    }

    fn seen(&self) -> MutexGuard<'_, TokenCache> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn header(token: &str) -> Result<Header, AuthError> {
    decode_header(token).map_err(|error| AuthError::Invalid(error.to_string()))
}

fn rules(config: &TokenConfig, algorithm: Algorithm) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.leeway = limits::TOKEN_LEEWAY.as_secs();
    rules.validate_nbf = true;
    rules.set_required_spec_claims(&["exp", "sub"]);
    match &config.audience {
        Some(audience) => {
            rules.set_audience(&[audience]);
            rules.required_spec_claims.insert("aud".into());
        }
        None => rules.validate_aud = false,
    }
    if let Some(issuer) = &config.issuer {
        rules.set_issuer(&[issuer]);
        rules.required_spec_claims.insert("iss".into());
    }
    rules
}
