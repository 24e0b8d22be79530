//! Effects (processes, sockets): one gateway under test: on the server's core, one shard, its metrics read from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::context::Context as Bench;
use super::http::Http;
use super::process::{Memory, Server};
use super::{limits, machine};

/// Live heap of the gateway, bytes, as its allocator counts it.
const HEAP: &str = "sluice_heap_allocated_bytes";

/// All bytes that were ever allocated.
const HEAP_TOTAL: &str = "sluice_heap_allocated_total_bytes";

/// How many allocations these were.
const ALLOCATIONS: &str = "sluice_heap_allocations";

/// What a gateway runs with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// A NATS server, instead of the memory broker.
    pub nats: Option<SocketAddr>,
    /// A key set for login tokens, instead of the shared secret.
    pub jwks: Option<&'a Path>,
    /// How long its allocator keeps freed memory, milliseconds, instead of the default.
    pub decay_ms: Option<u64>,
    /// A folder for heap snapshots.
    pub heap_dir: Option<&'a Path>,
    /// Settings of its allocator that must be known before its first allocation.
    pub malloc_conf: Option<&'a str>,
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its process.
    pub server: Server,
    /// Where clients connect.
    pub clients: SocketAddr,
    publish: Http,
    admin: Http,
}

/// The numbers of `/metrics`, summed over labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// One of them, if this gateway has it.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Reads the text format; `_total` of counters is kept in the name. Buckets keep their bound, as `name_bucket{le}`.
    fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (plain, labels) = name.split_once('{').unwrap_or((name, ""));
            let bound = labels
                .split_once("le=\"")
                .and_then(|(_, rest)| rest.split('"').next());
            let key = bound.map_or_else(|| plain.to_owned(), |le| format!("{plain}{{{le}}}"));
            if let Ok(value) = value.parse::<f64>() {
                *all.entry(key).or_insert(0.0) += value;
            }
        }
        Self(all)
    }

    /// Cumulative counts of a histogram, by upper bound.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let start = format!("{name}_bucket{{");
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .range(start.clone()..)
            .take_while(|(key, _)| key.starts_with(&start))
            .filter_map(|(key, count)| {
                let bound = key[start.len()..].trim_end_matches('}');
                let bound = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().ok()?
                };
                Some((bound, *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

impl Gateway {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or does not get ready.
    pub fn start(bench: &Bench, setup: Setup) -> Result<Self> {
        let (clients, publish, admin) = (bench.port()?, bench.port()?, bench.port()?);
        let mut command = Command::new(&bench.gateway);
        command
            .arg("--dev")
            .arg("--client-addr")
            .arg(clients.to_string())
            .arg("--publish-addr")
            .arg(publish.to_string())
            .arg("--admin-addr")
            .arg(admin.to_string())
            // A gateway of before the shards takes no notice.
            .env("SLUICE_SHARDS", "1")
            .env("RUST_LOG", "warn");
        match setup.jwks {
            Some(path) => command.arg("--jwks-file").arg(path),
            None => command.arg("--jwt-hmac-file").arg(&bench.secret_file),
        };
        if let Some(address) = setup.nats {
            command
                .args(["--broker", "nats", "--nats-url"])
                .arg(format!("nats://{address}"));
        }
        if let Some(decay) = setup.decay_ms {
            command.arg("--heap-decay-ms").arg(decay.to_string());
        }
        if let Some(folder) = setup.heap_dir {
            command.arg("--heap-dir").arg(folder);
        }
        if let Some(conf) = setup.malloc_conf {
            command.env("_RJEM_MALLOC_CONF", conf);
        }
        let mut server = Server::start("gateway", command, machine::SERVER_CORE, &bench.folder)?;
        let begun = Instant::now();
        let admin = loop {
            server.alive()?;
            if let Ok(mut http) = Http::connect(admin)
                && http.get("/readyz").is_ok()
            {
                break http;
            }
            ensure!(
                begun.elapsed() < limits::START_WITHIN,
                "the gateway did not get ready within {} s",
                limits::START_WITHIN.as_secs()
            );
            std::thread::sleep(limits::LOOK);
        };
        Ok(Self {
            server,
            clients,
            publish: Http::connect(publish)?,
            admin,
        })
    }

    /// Publishes to the common channel; the answer is taken with [`Self::published`].
    ///
    /// # Errors
    /// When the socket fails.
    pub fn publish(&mut self, data: &str) -> Result<()> {
        let body = format!("{{\"channel\":\"news\",\"data\":{data}}}");
        self.publish.post("/v1/publish", &body)
    }

    /// Waits for the answer to the last publish.
    ///
    /// # Errors
    /// When it was not stored.
    pub fn published(&mut self) -> Result<()> {
        self.publish.finish()
    }

    /// Reads `/metrics`.
    ///
    /// # Errors
    /// When the admin port does not answer.
    pub fn metrics(&mut self) -> Result<Metrics> {
        Ok(Metrics::parse(&self.admin.get("/metrics")?))
    }

    /// Heap and resident memory. Without a heap metric the anonymous memory stands for the heap.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub fn look(&mut self) -> Result<Look> {
        let metrics = self.metrics()?;
        Ok(Look {
            heap: metrics.get(HEAP),
            allocated: metrics.get(HEAP_TOTAL),
            allocations: metrics.get(ALLOCATIONS),
            memory: self.server.memory()?,
        })
    }

    /// Waits until it has no connection left.
    ///
    /// # Errors
    /// When some stay.
    pub fn emptied(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let open = self
                .metrics()?
                .get("sluice_connections")
                .context("no sluice_connections in /metrics")?;
            if open == 0.0 {
                return Ok(());
            }
            if begun.elapsed() > limits::FORGET_WITHIN {
                bail!(
                    "{open} connections are still there {} s after their clients left",
                    limits::FORGET_WITHIN.as_secs()
                );
            }
            std::thread::sleep(limits::LOOK);
        }
    }
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Live heap, if the gateway tells, bytes.
    pub heap: Option<f64>,
    /// Bytes ever allocated, if the gateway tells.
    pub allocated: Option<f64>,
    /// Allocations since the start, if the gateway tells.
    pub allocations: Option<f64>,
    /// What the kernel says.
    pub memory: Memory,
}

impl Look {
    /// The heap, or what comes nearest to it.
    pub fn user(&self) -> f64 {
        self.heap.unwrap_or(self.memory.anonymous)
    }

    /// What [`Self::user`] is.
    pub fn source(&self) -> &'static str {
        if self.heap.is_some() {
            "live heap"
        } else {
            "anonymous memory; this gateway exports no heap figure"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_summed_and_buckets_kept_apart() {
        let text = "# HELP x y\na 1\nb{r=\"x\"} 2\nb{r=\"y\"} 3\nh_bucket{le=\"0.5\"} 4\nh_bucket{le=\"+Inf\"} 6\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.get("a"), Some(1.0));
        assert_eq!(metrics.get("b"), Some(5.0));
        assert_eq!(metrics.get("c"), None);
        assert_eq!(metrics.buckets("h"), vec![(0.5, 4.0), (f64::INFINITY, 6.0)]);
    }
}
