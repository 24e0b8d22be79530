//! Effects (files, HTTP): a JSON Web Key Set, kept in memory, read again when it ages or a token names a key it lacks.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;

use super::AuthError;
use crate::config::ConfigError;
use crate::limits;

/// One public key and the only algorithm it is used with.
#[derive(Clone)]
pub struct PublicKey {
    /// Key id, when the set gives one.
    pub id: Option<String>,
    /// Decided by the key's type.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

/// The keys of one moment.
#[derive(Clone, Default)]
struct Snapshot {
    keys: Vec<Arc<PublicKey>>,
    read: Option<Instant>,
}

enum Source {
    File(PathBuf),
    Url {
        url: String,
        client: reqwest::Client,
    },
}

/// A key set and where it comes from.
pub struct KeySet {
    source: Source,
    current: RwLock<Snapshot>,
    /// Held while reading, so that a thousand tokens with a new key cause one read.
    reading: Mutex<Option<Instant>>,
}

impl KeySet {
    /// From a file, which must be readable now.
    pub fn file(path: PathBuf) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::File {
            path: path.clone(),
            source,
        })?;
        let keys = parse(&text).map_err(|reason| ConfigError::File {
            path: path.clone(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason),
        })?;
        let set = Self::new(Source::File(path));
        set.replace(keys);
        Ok(set)
    }

    /// From a URL, fetched when first needed.
    pub fn url(url: String) -> Self {
        let client = reqwest::Client::builder()
            .timeout(limits::JWKS_REQUEST)
            .build()
            .unwrap_or_default();
        Self::new(Source::Url { url, client })
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            current: RwLock::default(),
            reading: Mutex::new(None),
        }
    }

    /// The key a token names; without a key id, the only one of that algorithm.
    pub async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<PublicKey>, AuthError> {
        let now = Instant::now();
        let fresh = |read: Option<Instant>| {
            read.is_some_and(|at| now.duration_since(at) < limits::JWKS_REFRESH)
        };
        let snapshot = self.snapshot();
        if let Some(key) = choose(&snapshot.keys, id, algorithm)
            && fresh(snapshot.read)
        {
            return Ok(key);
        }
        let failure = self.refresh(now).await.err();
        let snapshot = self.snapshot();
        choose(&snapshot.keys, id, algorithm).ok_or_else(|| match failure {
            // Keys that were never read cannot refuse anybody.
            Some(reason) if snapshot.read.is_none() => AuthError::Unavailable(reason),
            _ => AuthError::Invalid("no key of the set fits: check kid and alg".into()),
        })
    }

    async fn refresh(&self, now: Instant) -> Result<(), String> {
        let mut last = self.reading.lock().await;
        if last.is_some_and(|at| at > now || now.duration_since(at) < limits::JWKS_MIN_INTERVAL) {
            return Err("the key set was tried a moment ago".into());
        }
        *last = Some(Instant::now());
        let result = self.read().await;
        match result {
            Ok(keys) => {
                self.replace(keys);
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(%reason, "key set not read; the last one stays in use");
                Err(reason)
            }
        }
    }

    async fn read(&self) -> Result<Vec<Arc<PublicKey>>, String> {
        let text = match &self.source {
            Source::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("{}: {error}", path.display()))?,
            Source::Url { url, client } => fetch(client, url)
                .await
                .map_err(|error| format!("{url}: {error}"))?,
        };
        parse(&text)
    }

    fn snapshot(&self) -> Snapshot {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, keys: Vec<Arc<PublicKey>>) {
        let snapshot = Snapshot {
            keys,
            read: Some(Instant::now()),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let mut response = client
        .get(url)
        .send()
        .await
        .map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + chunk.len() > limits::JWKS_BYTES {
            return Err(format!("larger than {} bytes", limits::JWKS_BYTES));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|error| error.to_string())
}

fn choose(
    keys: &[Arc<PublicKey>],
    id: Option<&str>,
    algorithm: Algorithm,
) -> Option<Arc<PublicKey>> {
    let mut fitting = keys.iter().filter(|key| key.algorithm == algorithm);
    match id {
        Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)).cloned(),
        None => fitting.next().filter(|_| fitting.next().is_none()).cloned(),
    }
}

/// Keys of other types (elliptic curves, shared secrets) are left out: a public set must never hold a secret.
fn parse(text: &str) -> Result<Vec<Arc<PublicKey>>, String> {
    let set: JwkSet =
        serde_json::from_str(text).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    let keys = set.keys.iter().filter_map(|jwk| {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
            _ => return None,
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Arc::new(PublicKey {
            id: jwk.common.key_id.clone(),
            algorithm,
            key,
        }))
    });
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() {
        return Err("the key set holds no RSA or Ed25519 key".into());
    }
    Ok(keys)
}
