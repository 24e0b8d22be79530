//! Effects (files, HTTP): a JSON Web Key Set, kept in memory, read again when it ages or a token names a key it lacks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, Semaphore};

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
#[derive(Default)]
struct Snapshot {
    text: String,
    keys: Vec<Arc<PublicKey>>,
    /// Changes with the keys.
    version: u64,
    /// When they are to be read again; `None` when they were never read.
    due: Option<Instant>,
}

enum Source {
    File(PathBuf),
    Url {
        url: String,
        client: reqwest::Client,
    },
}

/// A key set and where it comes from.
#[derive(Clone)]
pub struct KeySet(Arc<Inner>);

struct Inner {
    source: Source,
    /// Reads the set: shards have no time for it, and come and go with their threads.
    runtime: Handle,
    current: RwLock<Arc<Snapshot>>,
    /// One read at a time, so that a thousand tokens with a new key cause one.
    turn: Turn<()>,
    /// When the last read began.
    tried: Mutex<Option<Instant>>,
    refreshing: AtomicBool,
    /// Handshakes that may wait for a read; a source that hangs must not hold every one of them.
    waiters: Arc<Semaphore>,
}

/// A key and the version of the set that it is from.
pub type Found = (Arc<PublicKey>, u64);

impl KeySet {
    /// From a file, which must be readable now. Later reads are `runtime`'s.
    pub fn file(path: PathBuf, runtime: Handle) -> Result<Self, ConfigError> {
        let wrong = |source| ConfigError::File {
            path: path.clone(),
            source,
        };
        let text = std::fs::read_to_string(&path).map_err(wrong)?;
        let keys = parse(&text).map_err(|reason| {
            wrong(std::io::Error::new(std::io::ErrorKind::InvalidData, reason))
        })?;
        let set = Self::new(Source::File(path), runtime);
        set.0.replace(text, keys);
        Ok(set)
    }

    /// From a URL, fetched by `runtime` when first needed.
    pub fn url(url: String, runtime: Handle) -> Self {
        let builder = || reqwest::Client::builder().timeout(limits::JWKS_REQUEST);
        // Without a trust store, as in an image with nothing else in it, plain HTTP still works.
        let client = builder()
            .build()
            .or_else(|_| builder().tls_certs_only([]).build())
            .unwrap_or_default();
        Self::new(Source::Url { url, client }, runtime)
    }

    fn new(source: Source, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            source,
            runtime,
            current: RwLock::default(),
            turn: Turn::new(()),
            tried: Mutex::default(),
            refreshing: AtomicBool::new(false),
            waiters: Arc::new(Semaphore::new(limits::JWKS_WAITERS)),
        }))
    }

    /// The version of the keys. Keys that are due are read again beside it, while everybody goes on with those there are.
    pub fn version(&self) -> u64 {
        self.current().version
    }

    /// The key a token names, of those at hand; without a key id, the only one of that algorithm.
    pub fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Found> {
        let current = self.current();
        choose(&current.keys, id, algorithm).map(|key| (key, current.version))
    }

    /// The same, and reads the set again when it lacks the key.
    pub async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Found, AuthError> {
        let asked = Instant::now();
        if let Some(found) = self.known(id, algorithm) {
            return Ok(found);
        }
        let Ok(waiter) = Arc::clone(&self.0.waiters).try_acquire_owned() else {
            return Err(AuthError::Unavailable("too many wait for the keys".into()));
        };
        let inner = Arc::clone(&self.0);
        let reading = self.0.runtime.spawn(async move {
            let _waiter = waiter;
            inner.refresh(asked).await
        });
        let read = reading.await.unwrap_or_else(|error| Err(error.to_string()));
        let failure = read.err();
        let current = self.0.snapshot();
        let key = choose(&current.keys, id, algorithm).ok_or_else(|| match failure {
            // Keys that were never read cannot refuse anybody.
            Some(reason) if current.due.is_none() => AuthError::Unavailable(reason),
            _ => AuthError::Invalid("no key of the set fits: check kid and alg".into()),
        })?;
        Ok((key, current.version))
    }

    fn current(&self) -> Arc<Snapshot> {
        let current = self.0.snapshot();
        if current.due.is_some_and(|due| due <= Instant::now()) {
            self.refresh_beside();
        }
        current
    }

    fn refresh_beside(&self) {
        if self.0.tried_lately() || self.0.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(&self.0);
        self.0.runtime.spawn(async move {
            // A failure is logged, and tried again with the next token.
            let _ = inner.refresh(Instant::now()).await;
            inner.refreshing.store(false, Ordering::Release);
        });
    }
}

impl Inner {
    /// Reads the set, unless somebody did since `asked` or a moment ago.
    async fn refresh(&self, asked: Instant) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        if self.tried().is_some_and(|at| at > asked) || self.tried_lately() {
            return Err("the key set was tried a moment ago".into());
        }
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        match self.read().await {
            Ok((text, keys)) => {
                self.replace(text, keys);
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(%reason, "key set not read; the last one stays in use");
                Err(reason)
            }
        }
    }

    async fn read(&self) -> Result<(String, Vec<Arc<PublicKey>>), String> {
        let text = match &self.source {
            Source::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("{}: {error}", path.display()))?,
            Source::Url { url, client } => fetch(client, url)
                .await
                .map_err(|error| format!("{url}: {error}"))?,
        };
        let keys = parse(&text)?;
        Ok((text, keys))
    }

    fn tried(&self) -> Option<Instant> {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tried_lately(&self) -> bool {
        self.tried()
            .is_some_and(|at| at.elapsed() < limits::JWKS_MIN_INTERVAL)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    fn replace(&self, text: String, keys: Vec<Arc<PublicKey>>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.text != text;
        *current = Arc::new(Snapshot {
            version: current.version + u64::from(changed),
            text,
            keys,
            due: Some(Instant::now() + until_due()),
        });
    }
}

/// A little early each time, so that pods that started together do not ask together.
fn until_due() -> Duration {
    limits::JWKS_REFRESH.mul_f64(rand::random_range(0.8..=1.0))
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
