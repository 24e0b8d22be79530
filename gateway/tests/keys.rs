//! Scenarios: login tokens signed with EdDSA and RS256, key sets in files and behind URLs, keys that change.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Client, End, config, eventually, memory};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};
use sluice_gateway::Gateway;
use sluice_gateway::config::{KeySource, TokenConfig};
use sluice_gateway::handshake::metrics::{Check, HandshakeResult};
use sluice_gateway::limits;

/// A signing key and its line in a key set.
struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

impl Signer {
    fn ed25519(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
        let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
        let public = json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x});
        Self {
            id,
            algorithm: Algorithm::EdDSA,
            key,
            public,
        }
    }

    fn rsa(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let (n, e) = rsa_numbers(pair.der_bytes());
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        let public = json!({"kty": "RSA", "kid": id, "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e)});
        Self {
            id,
            algorithm: Algorithm::RS256,
            key,
            public,
        }
    }

    fn token(&self) -> String {
        let header = Header {
            kid: Some(self.id.into()),
            ..Header::new(self.algorithm)
        };
        let claims = json!({"sub": "ann", "exp": sluice_gateway::auth::now_seconds() + 60});
        encode(&header, &claims, &self.key).unwrap()
    }
}

/// Modulus and exponent of a DER `RSAPublicKey`: a sequence of two integers.
fn rsa_numbers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            short if short < 0x80 => (short as usize, 2),
            long => {
                let count = (long & 0x7f) as usize;
                (
                    der[2..2 + count]
                        .iter()
                        .fold(0, |sum, b| sum * 256 + *b as usize),
                    2 + count,
                )
            }
        };
        (&der[start..start + length], &der[start + length..])
    }
    let (sequence, _) = element(der);
    let (modulus, rest) = element(sequence);
    let (exponent, _) = element(rest);
    let unsigned = |bytes: &[u8]| bytes.iter().copied().skip_while(|b| *b == 0).collect();
    (unsigned(modulus), unsigned(exponent))
}

fn key_set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|s| &s.public).collect::<Vec<_>>()}).to_string()
}

fn gateway(source: KeySource) -> Gateway {
    let mut config = config(&[]);
    config.tokens = Some(TokenConfig {
        source,
        issuer: None,
        audience: None,
    });
    Gateway::start(config, memory()).unwrap()
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    match Client::try_connect(gateway, &format!("token={token}"), &[]).await {
        Ok(_) => 101,
        Err(refused) => refused.status,
    }
}

#[tokio::test]
async fn a_key_set_file_takes_both_kinds_of_keys_and_no_others() {
    let (ed, rsa, stranger) = (
        Signer::ed25519("ed"),
        Signer::rsa("rsa"),
        Signer::ed25519("ed"),
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key_set(&[&ed, &rsa])).unwrap();
    let gateway = gateway(KeySource::JwksFile(file.path().into()));
    assert_eq!(status(&gateway, &ed.token()).await, 101);
    assert_eq!(status(&gateway, &rsa.token()).await, 101);
    assert_eq!(
        status(&gateway, &stranger.token()).await,
        401,
        "same id, other key"
    );
    // The public key used as a shared secret must not pass.
    let secret = EncodingKey::from_secret(ed.public["x"].as_str().unwrap().as_bytes());
    let header = Header {
        kid: Some("ed".into()),
        ..Header::new(Algorithm::HS256)
    };
    let claims = json!({"sub": "ann", "exp": sluice_gateway::auth::now_seconds() + 60});
    assert_eq!(
        status(&gateway, &encode(&header, &claims, &secret).unwrap()).await,
        401
    );
}

#[tokio::test]
async fn a_key_set_url_is_read_once_and_again_for_a_new_key() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let served = Arc::new(Mutex::new(key_set(&[&old])));
    let reads = Arc::new(AtomicUsize::new(0));
    let (text, count) = (served.clone(), reads.clone());
    let router = axum::Router::new().route(
        "/jwks.json",
        axum::routing::get(move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            text.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let first = gateway(KeySource::JwksUrl(url.clone()));
    for _ in 0..5 {
        assert_eq!(status(&first, &old.token()).await, 101);
    }
    assert_eq!(reads.load(Ordering::SeqCst), 1);
    assert_eq!(status(&first, &new.token()).await, 401);
    assert_eq!(
        reads.load(Ordering::SeqCst),
        1,
        "unknown keys cannot make it read all the time"
    );

    *served.lock().unwrap() = key_set(&[&old, &new]);
    let second = gateway(KeySource::JwksUrl(url));
    assert_eq!(status(&second, &new.token()).await, 101);
}

#[tokio::test]
async fn keys_that_were_never_read_refuse_nobody_for_good() {
    let signer = Signer::ed25519("a");
    let gateway = gateway(KeySource::JwksUrl("http://127.0.0.1:1/jwks.json".into()));
    assert_eq!(status(&gateway, &signer.token()).await, 503);
}

#[tokio::test]
async fn a_signature_is_checked_once_until_the_keys_change() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key_set(&[&old])).unwrap();
    let gateway = gateway(KeySource::JwksFile(file.path().into()));
    let checks = |check| gateway.core().metrics.handshakes.checks(check);
    let token = old.token();
    for _ in 0..4 {
        assert_eq!(status(&gateway, &token).await, 101);
    }
    assert_eq!((checks(Check::Signature), checks(Check::Cached)), (1, 3));
    let mut forged = token.clone();
    forged.replace_range(token.len() - 9..token.len() - 5, "AAAA");
    assert_eq!(
        status(&gateway, &forged).await,
        401,
        "only the very same token is known"
    );

    // The old key is taken out; the first token with the new one makes the set be read again.
    std::fs::write(file.path(), key_set(&[&new])).unwrap();
    assert_eq!(status(&gateway, &new.token()).await, 101);
    assert_eq!(
        status(&gateway, &token).await,
        401,
        "its key is not trusted any more"
    );
}

#[tokio::test]
async fn a_remembered_token_ends_with_its_expiry() {
    let secret = b"a secret of the application";
    let mut config = config(&[]);
    config.tokens = Some(TokenConfig {
        source: KeySource::Hmac(secret.to_vec()),
        issuer: None,
        audience: None,
    });
    let gateway = Gateway::start(config, memory()).unwrap();
    let expires = sluice_gateway::auth::now_seconds() + 2;
    let claims = json!({"sub": "ann", "exp": expires});
    let token = encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret),
    )
    .unwrap();
    let query = format!("token={token}");
    let mut first = Client::welcomed(&gateway, &query, 1).await;
    let (_, end) = first.rest().await;
    assert_eq!(end, End::Close(1008, "credentials".into()));
    let checks = |check| gateway.core().metrics.handshakes.checks(check);
    assert_eq!((checks(Check::Signature), checks(Check::Cached)), (1, 0));
    // Within the leeway for clocks a signature still counts, what was remembered does not.
    let _ = Client::try_connect(&gateway, &query, &[]).await;
    assert_eq!((checks(Check::Signature), checks(Check::Cached)), (2, 0));
}

#[tokio::test]
async fn a_crowd_with_a_new_key_reads_the_set_once() {
    let signer = Signer::ed25519("a");
    let served = key_set(&[&signer]);
    let reads = Arc::new(AtomicUsize::new(0));
    let (gate, count) = (Arc::new(tokio::sync::Semaphore::new(0)), reads.clone());
    let opened = gate.clone();
    let router = axum::Router::new().route(
        "/jwks.json",
        axum::routing::get(move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = gate.acquire().await;
            served
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let gateway = gateway(KeySource::JwksUrl(url));
    let tokens: Vec<_> = (0..60).map(|_| signer.token()).collect();
    let crowd: Vec<_> = tokens.iter().map(|token| status(&gateway, token)).collect();
    let waiting = async {
        eventually("all wait", || gateway.core().handshakes_in_progress() == 60).await;
        opened.add_permits(1);
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(crowd), waiting);
    assert!(answers.iter().all(|answer| *answer == 101), "{answers:?}");
    assert_eq!(reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_key_source_that_hangs_stops_no_resume_tokens() {
    let signer = Signer::ed25519("a");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", silent.local_addr().unwrap());
    let gateway = gateway(KeySource::JwksUrl(url));
    let named = Client::welcomed(&gateway, "user=ann", 1).await;
    let token = signer.token();
    let crowd = (0..2 * limits::JWKS_WAITERS).map(|_| status(&gateway, &token));
    let crowd = futures::future::join_all(crowd);
    let resuming = async {
        eventually("as many wait as may", || {
            gateway.core().handshakes_in_progress() == limits::JWKS_WAITERS
                && gateway
                    .core()
                    .metrics
                    .handshakes
                    .results(HandshakeResult::Overload)
                    == limits::JWKS_WAITERS as u64
        })
        .await;
        Client::welcomed(&gateway, &format!("resume={}", named.resume_token), 1).await
    };
    let (answers, _resumed) = tokio::join!(crowd, resuming);
    assert!(
        answers.iter().all(|answer| *answer == 503),
        "nobody is refused for good"
    );
}
