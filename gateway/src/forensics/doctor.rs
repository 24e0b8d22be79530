//! Effects (HTTP client, printing): `sluice-gateway doctor`: looks at a running gateway twice and says what the change means.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::{Response, StatusCode};
use thiserror::Error;

use super::diff::diff;
use super::look::{Look, NoMetric, look};
use super::pprof::{DecodeError, Kind, Profile, decode};
use super::verdict::{Change, Finding};
use crate::limits;

/// Memory that taking a snapshot needs: the doctor's own doing, not the gateway's.
const OWN: &str = "sluice_gateway::forensics::";

/// Flags of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// The gateway's admin port, for example `http://localhost:9090`.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// File with the fleet's admin key; not needed for a gateway in development mode.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Seconds between the looks. A slow leak needs more.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "N")]
    pub seconds: u64,
    /// Call paths to show.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub top: usize,
}

/// Why there is no diagnosis.
#[derive(Debug, Error)]
pub enum DoctorError {
    /// The key file.
    #[error("cannot read the key in {path}: {source}")]
    Key {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No HTTP client.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
    /// Nobody answered.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// Asked for.
        url: String,
        /// Why.
        why: String,
    },
    /// Wrong key.
    #[error("{0} wants the fleet's admin key: pass --key-file FILE")]
    Unauthorized(String),
    /// Another answer than 200.
    #[error("{url} answered {status}: {body}")]
    Refused {
        /// Asked for.
        url: String,
        /// What came.
        status: StatusCode,
        /// Its text.
        body: String,
    },
    /// An answer that makes no sense.
    #[error(transparent)]
    Metrics(#[from] NoMetric),
    /// A snapshot that makes no sense.
    #[error("the gateway's heap snapshot cannot be read: {0}")]
    Snapshot(#[from] DecodeError),
    /// The report cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// Looks twice and prints the report; true when something is wrong with the gateway.
pub async fn run(flags: &Doctor) -> Result<bool, DoctorError> {
    let gateway = Gateway::new(flags)?;
    // Snapshots stay outside the two looks, so that their own memory does not count.
    let untouched = gateway.look().await?;
    let first = gateway.snapshot().await?;
    let before = Look {
        resident: untouched.resident,
        ..gateway.look().await?
    };
    tokio::time::sleep(Duration::from_secs(flags.seconds)).await;
    let after = gateway.look().await?;
    let second = gateway.snapshot().await?;
    let compare = |kind| Some(diff(first.as_ref()?, second.as_ref()?, kind));
    let change = Change {
        before,
        after,
        live: compare(Kind::Inuse),
        made: compare(Kind::Allocs).map(|made| made.without(OWN)),
    };
    std::io::stdout().write_all(change.report(flags.top).as_bytes())?;
    Ok(change.findings().into_iter().any(Finding::is_alarm))
}

/// In an image without certificates only plain HTTP works, which is what admin ports speak.
fn client() -> Result<reqwest::Client, reqwest::Error> {
    let without = || reqwest::Client::builder().tls_certs_only([]).build();
    reqwest::Client::builder().build().or_else(|_| without())
}

struct Gateway {
    base: String,
    key: Option<String>,
    client: reqwest::Client,
    began: Instant,
}

impl Gateway {
    fn new(flags: &Doctor) -> Result<Self, DoctorError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| DoctorError::Key {
                path: path.clone(),
                source,
            })
        };
        let key = flags.key_file.as_ref().map(read).transpose()?;
        Ok(Self {
            base: flags.url.trim_end_matches('/').to_owned(),
            key: key.map(|key| key.trim_end().to_owned()),
            client: client().map_err(DoctorError::Client)?,
            began: Instant::now(),
        })
    }

    async fn look(&self) -> Result<Look, DoctorError> {
        let path = "/metrics";
        let answer = self.get(path).await?;
        let text = answer.text().await.map_err(|e| self.unreachable(path, e))?;
        Ok(look(self.began.elapsed(), &text)?)
    }

    /// `None` when the gateway keeps no profile: the figures alone still say much.
    async fn snapshot(&self) -> Result<Option<Profile>, DoctorError> {
        let path = format!("/debug/heap?kind={}", Kind::Allocs.word());
        match self.get(&path).await {
            Ok(answer) => {
                let file = answer
                    .bytes()
                    .await
                    .map_err(|e| self.unreachable(&path, e))?;
                Ok(Some(decode(&file)?))
            }
            Err(DoctorError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn get(&self, path: &str) -> Result<Response, DoctorError> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.get(&url).timeout(limits::DOCTOR_REQUEST);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let answer = request
            .send()
            .await
            .map_err(|e| self.unreachable(path, e))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(DoctorError::Unauthorized(url)),
            status => Err(DoctorError::Refused {
                url,
                status,
                body: answer.text().await.unwrap_or_default(),
            }),
        }
    }

    fn unreachable(&self, path: &str, error: reqwest::Error) -> DoctorError {
        // The address is in front of the sentence already, and the innermost cause is the one that tells.
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        DoctorError::Unreachable {
            url: format!("{}{path}", self.base),
            why: cause.to_string(),
        }
    }
}
