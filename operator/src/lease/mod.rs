//! Leader election on a Lease (effects): sends what [`election`] decides, by create and replace with
//! the resourceVersion, and runs the leader's work only while it leads.

pub mod election;
#[cfg(test)]
mod model;

use crate::events::Facts;
use crate::limits::{LEASE_REQUEST_TIMEOUT, LEASE_TIMING};
pub use election::Term;
use election::{Answer, Candidate, Draft, Record, Request};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One process that wants to lead.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    acquired: Option<MicroTime>,
    tenure: Arc<Tenure>,
    facts: Arc<Facts>,
    pulse: Arc<Pulse>,
}

/// Signs of life of the election, for the health endpoints.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Milliseconds since `Elector` started, at the last round; 0 before the first.
    last_round: AtomicU64,
    /// As above, at the last answer of the API server.
    last_answer: AtomicU64,
}

impl Pulse {
    /// Whether the API server has ever answered.
    pub fn answered(&self) -> bool {
        self.last_answer.load(Ordering::Relaxed) > 0
    }

    /// Time of the last round since the process began to elect.
    pub fn last_round(&self) -> Duration {
        Duration::from_millis(self.last_round.load(Ordering::Relaxed))
    }
}

/// Until when this process leads, by its own clock. Whoever is about to write asks: a process that
/// was stopped for a while and wakes up has controllers that do not know yet.
#[derive(Debug)]
pub struct Tenure {
    started: Instant,
    /// Milliseconds since `started`.
    until: AtomicU64,
}

impl Tenure {
    /// A tenure that ends after `length`, unless it is prolonged.
    pub fn lasting(length: Duration) -> Self {
        let tenure = Self {
            started: Instant::now(),
            until: AtomicU64::new(0),
        };
        tenure.set(length);
        tenure
    }

    /// Whether this process still leads.
    pub fn holds(&self) -> bool {
        self.started.elapsed() < Duration::from_millis(self.until.load(Ordering::Acquire))
    }

    fn set(&self, until: Duration) {
        let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(millis, Ordering::Release);
    }
}

/// Work that ends when this is dropped.
struct Work(JoinHandle<()>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Elector {
    /// A candidate for the Lease `name` in `namespace`. `client` should not retry by itself: a
    /// renewal that comes late is worse than one that fails. `identity` is the pod's name; a random
    /// part makes it this process's own.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        facts: Arc<Facts>,
    ) -> Self {
        let identity = format!("{identity}_{:08x}", rand::random::<u32>());
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            candidate: Candidate::new(&identity, LEASE_TIMING),
            acquired: None,
            tenure: Arc::new(Tenure::lasting(Duration::ZERO)),
            facts,
            pulse: Arc::default(),
        }
    }

    /// Signs of life.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Runs `lead` whenever this process leads, until `stop`; then the work has ended and the lease
    /// is released. Work that ends by itself gives the lease up, and the process stands again.
    pub async fn run<F, Fut>(mut self, stop: CancellationToken, lead: F)
    where
        F: Fn(Term, Arc<Tenure>) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        while !stop.is_cancelled() {
            self.round().await;
            let mut pause = self.candidate.pause(self.now());
            if let Some(term) = self.candidate.leading(self.now()).cloned() {
                self.facts.leading(&term);
                let mut work = Work(tokio::spawn(lead(term, Arc::clone(&self.tenure))));
                let why = self.hold(&stop, &mut work).await;
                self.tenure.set(Duration::ZERO);
                work.0.abort();
                // An aborted task ends at its next await; nothing is written after this line.
                let _ = (&mut work.0).await;
                self.facts.not_leading(why);
                self.release().await;
                // Another one gets its turn first, should the work have failed here only.
                pause = LEASE_TIMING.retry;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(jittered(pause)) => {}
            }
        }
    }

    /// Renews until leading ends, and says why it did.
    async fn hold(&mut self, stop: &CancellationToken, work: &mut Work) -> &'static str {
        loop {
            let pause = self.candidate.pause(self.now());
            tokio::select! {
                () = stop.cancelled() => return "asked to stop",
                _ = &mut work.0 => return "the controllers ended",
                () = tokio::time::sleep(pause) => {}
            }
            if self.tenure.holds() {
                self.round().await;
            }
            if self.candidate.leading(self.now()).is_none() {
                return "the lease could not be renewed, or passed on";
            }
        }
    }

    /// One request and its answer. Never lasts beyond the end of leading.
    async fn round(&mut self) {
        let sent = self.now();
        let request = self.candidate.request(sent);
        let left = self
            .candidate
            .leads_until()
            .map_or(LEASE_REQUEST_TIMEOUT, |until| until.saturating_sub(sent));
        let answer = self.send(&request, left.min(LEASE_REQUEST_TIMEOUT)).await;
        let now = self.now();
        let millis = now.as_millis().max(1) as u64;
        self.pulse.last_round.store(millis, Ordering::Relaxed);
        if answer != Answer::Unknown {
            self.pulse.last_answer.store(millis, Ordering::Relaxed);
        }
        self.candidate.answer(&request, sent, now, answer);
        let until = self.candidate.leads_until();
        self.tenure.set(until.unwrap_or_default());
    }

    /// Lets the next one lead at once. Failing is no harm: the lease then runs out.
    async fn release(&mut self) {
        for _ in 0..2 {
            let Some(request) = self.candidate.release() else {
                return;
            };
            let sent = self.now();
            let answer = self.send(&request, LEASE_REQUEST_TIMEOUT).await;
            let conflict = answer == Answer::Conflict;
            self.candidate.answer(&request, sent, self.now(), answer);
            if !conflict {
                return;
            }
            // A renewal without an answer may have moved the version on.
            let sent = self.now();
            let look = self.send(&Request::Look, LEASE_REQUEST_TIMEOUT).await;
            self.candidate
                .answer(&Request::Look, sent, self.now(), look);
        }
    }

    async fn send(&mut self, request: &Request, limit: Duration) -> Answer {
        let written = match request {
            Request::Look => None,
            Request::Create(draft) => Some(self.lease(draft, None)),
            Request::Replace { version, draft } => Some(self.lease(draft, Some(version))),
        };
        let how = PostParams::default();
        let call = async {
            match (request, &written) {
                (Request::Create(_), Some(lease)) => self.api.create(&how, lease).await.map(Some),
                (_, Some(lease)) => self.api.replace(&self.name, &how, lease).await.map(Some),
                (_, None) => self.api.get_opt(&self.name).await,
            }
        };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(Some(lease))) => Answer::Now(record(&lease)),
            Ok(Ok(None)) => Answer::Absent,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Answer::Conflict,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Answer::Absent,
            Ok(Err(error)) => {
                self.facts.lease_failed(&self.name, &error.to_string());
                Answer::Unknown
            }
            Err(_) => {
                self.facts.lease_failed(&self.name, "no answer in time");
                Answer::Unknown
            }
        }
    }

    fn lease(&mut self, draft: &Draft, version: Option<&str>) -> Lease {
        let now = MicroTime(jiff::Timestamp::now());
        if draft.begins {
            self.acquired = Some(now.clone());
        }
        let seconds = if draft.holder.is_empty() {
            1
        } else {
            LEASE_TIMING.lease.as_secs() as i32
        };
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(draft.holder.clone()),
                lease_duration_seconds: Some(seconds),
                lease_transitions: Some(draft.transitions),
                renew_time: Some(now),
                acquire_time: self.acquired.clone(),
                ..LeaseSpec::default()
            }),
        }
    }

    fn now(&self) -> Duration {
        self.tenure.started.elapsed()
    }
}

/// Up to a fifth shorter, so that standbys do not ask in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - 0.2 * rand::random::<f64>())
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let beat = spec.renew_time.map(|time| time.0.to_string());
    Record {
        uid: lease.uid().unwrap_or_default(),
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        duration: Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default().max(0) as u64),
        beat: beat.unwrap_or_default(),
    }
}
