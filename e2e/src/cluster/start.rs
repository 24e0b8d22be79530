//! Effects: starts a cluster, in the order of its parts' needs and with what can overlap overlapping.
//!
//! ```text
//! keys, network ─► etcd, API server ─► controllers, scheduler, add-ons' objects ─► three Ready nodes ─► DNS
//!               └► containerd on each node, sandbox image ─► kubelet, kube-proxy        product's images ┘
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Client;
use kube::api::{Api, ListParams};

use super::layout::{ETCD_PEER_PORT, ETCD_PORT, Layout, NODES, Node};
use super::node::{self, Programs};
use super::process::{self, tail};
use super::state::State;
use super::tools::Tools;
use super::{Cluster, addons, cgroups, control_plane, is_ready, network, pki, settings, teardown};
use crate::limits::{API_READY, LOOK_API, NODES_READY};
use crate::progress::{note, step};
use crate::{host, images};

/// What nodes get to run.
pub(super) struct Images {
    /// A store with the images of other people's programs.
    pub(super) store: PathBuf,
    /// The archive of the sandbox's image, without which no pod starts.
    pub(super) pause: PathBuf,
    /// The archive of gateway and operator, if wanted.
    pub(super) product: Option<PathBuf>,
}

/// A cluster that is being started: taken away again unless it gets to the end.
struct Starting {
    cluster: Cluster,
    done: bool,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.done {
            note("taking the unfinished cluster away; its logs stay");
            if let Err(error) = teardown::run(&self.cluster.state) {
                note(&format!("error: {error:#}"));
            }
        }
    }
}

/// Starts a cluster with these images.
pub(super) async fn run(layout: &Layout, tools: Tools, images: &Images) -> Result<Cluster> {
    network::check_free()?;
    check_ports()?;
    let begun = Instant::now();
    let mut starting = Starting {
        cluster: Cluster::assemble(State::begin(layout)?, tools),
        done: false,
    };
    starting.cluster.state.save()?;
    let client = step("starting the API server", starting.api_server(images)).await?;
    step("starting three nodes", starting.nodes(&client)).await?;
    let took = begun.elapsed();
    starting.cluster.timings.note("three nodes Ready", took);
    let what = "starting DNS and metrics, loading images";
    step(what, starting.inside(&client, images)).await?;
    starting.cluster.timings.note("all", begun.elapsed());
    starting.cluster.state.complete = true;
    starting.cluster.state.save()?;
    starting.done = true;
    Ok(starting.cluster.clone())
}

impl Starting {
    /// Everything up to an API server that answers; the nodes' containerds start meanwhile.
    async fn api_server(&mut self, images: &Images) -> Result<Client> {
        let begun = Instant::now();
        self.prepare(&images.store)?;
        self.cluster
            .timings
            .note("network and keys", begun.elapsed());
        let begun = Instant::now();
        let layout = self.cluster.layout.clone();
        self.daemon("etcd", &control_plane::etcd(&layout))?;
        self.daemon("kube-apiserver", &control_plane::apiserver(&layout))?;
        for node in NODES {
            self.node(node)?;
        }
        let client = super::client_of(&layout.kubeconfig("admin")).await?;
        let answers = self.until(
            "the API server",
            API_READY,
            async || match super::api_health(&client).await.as_str() {
                "ok" => Ok(()),
                answer => Err(answer.to_owned()),
            },
        );
        tokio::try_join!(answers, self.sandbox_image(&images.pause))?;
        // Kubelets start with this.
        std::fs::write(layout.api_ready(), "")?;
        let arguments = control_plane::controller_manager(&layout);
        self.daemon("kube-controller-manager", &arguments)?;
        self.daemon("kube-scheduler", &control_plane::scheduler(&layout))?;
        self.cluster.timings.note("API server", begun.elapsed());
        Ok(client)
    }

    /// Folders, keys, control groups, network: all that is there before the first daemon.
    fn prepare(&mut self, store: &Path) -> Result<()> {
        let layout = self.cluster.layout.clone();
        let cni = host::cni_folder()?;
        let state = &mut self.cluster.state;
        state.settings = settings::remember();
        for point in node::mount_points() {
            make_mount_point(&point, &mut state.folders)?;
        }
        state.save()?;
        settings::raise();
        if layout.logs().exists() {
            std::fs::remove_dir_all(layout.logs())?;
        }
        for folder in [layout.logs(), layout.etcd()] {
            make(&folder)?;
        }
        for node in NODES {
            for folder in node::folders(&layout, node) {
                make(&folder)?;
            }
            for (path, text) in node::files(&layout, node, &cni) {
                std::fs::write(&path, text)
                    .with_context(|| format!("writing {}", path.display()))?;
            }
            images::store::clone_to(store, &node::image_store(&layout, node))
                .with_context(|| format!("giving {} its images", node.name()))?;
        }
        std::fs::copy("/proc/self/exe", layout.program())
            .context("keeping this program for the nodes")?;
        pki::create(&layout)?;
        cgroups::create()?;
        state.firewall = network::create()?;
        state.save()
    }

    /// Starts one of the control plane's programs.
    fn daemon(&mut self, name: &str, arguments: &[String]) -> Result<()> {
        let program = self.cluster.tools.binary(name);
        self.spawn(name, &program, arguments)
    }

    fn spawn(&mut self, name: &str, program: &Path, arguments: &[String]) -> Result<()> {
        let log = self.cluster.layout.log(name);
        let recorded = process::spawn(name, program, arguments, &log)?;
        self.cluster.state.record(recorded)
    }

    /// Starts a node: this program again, as the first process of namespaces of its own.
    fn node(&mut self, node: Node) -> Result<()> {
        let (layout, tools) = (&self.cluster.layout, &self.cluster.tools);
        let programs = Programs {
            containerd: tools.binary("containerd"),
            kubelet: tools.binary("kubelet"),
            proxy: tools.binary("kube-proxy"),
        };
        let file = layout.node(node).join("plan.json");
        let plan = serde_json::to_vec_pretty(&node::plan(layout, node, &programs))?;
        std::fs::write(&file, plan).with_context(|| format!("writing {}", file.display()))?;
        let arguments = [
            format!("--net={}", node.namespace().display()),
            "unshare".into(),
            "--mount".into(),
            "--pid".into(),
            "--fork".into(),
            // Whatever ends this process ends the node.
            "--kill-child".into(),
            "--mount-proc".into(),
            layout.program().display().to_string(),
            "cluster".into(),
            "node-init".into(),
            file.display().to_string(),
        ];
        let name = format!("node-{}", node.name());
        self.spawn(&name, Path::new("nsenter"), &arguments)
    }

    /// Loads the image of sandboxes as soon as each node's containerd listens.
    async fn sandbox_image(&self, archive: &Path) -> Result<()> {
        let sockets = NODES.map(|node| self.cluster.layout.socket(node));
        self.until("containerd on every node", NODES_READY, async || {
            let silent = sockets
                .iter()
                .find(|s| std::os::unix::net::UnixStream::connect(s).is_err());
            silent.map_or(Ok(()), |socket| {
                Err(format!("nobody listens on {}", socket.display()))
            })
        })
        .await?;
        self.cluster.load_images(&[archive.to_owned()]).await
    }

    /// Makes the add-ons' objects and waits until the nodes are Ready; the objects' pods wait for that, too.
    async fn nodes(&mut self, client: &Client) -> Result<()> {
        let begun = Instant::now();
        let nodes: Api<NodeObject> = Api::all(client.clone());
        let ready = self.until("three Ready nodes", NODES_READY, async || {
            let list = nodes
                .list(&ListParams::default())
                .await
                .map_err(|e| e.to_string())?;
            match list.iter().filter(|n| is_ready(n)).count() {
                all if all == NODES.len() => Ok(()),
                some => Err(format!("{some} nodes are Ready")),
            }
        });
        tokio::try_join!(ready, addons::apply(client, &self.cluster.layout))?;
        self.cluster.timings.note("nodes", begun.elapsed());
        Ok(())
    }

    /// What is left to do on Ready nodes.
    async fn inside(&mut self, client: &Client, images: &Images) -> Result<()> {
        let begun = Instant::now();
        let product: Vec<PathBuf> = images.product.iter().cloned().collect();
        tokio::try_join!(
            self.cluster.load_images(&product),
            addons::dns_ready(client)
        )?;
        self.cluster.timings.note("DNS and images", begun.elapsed());
        Ok(())
    }

    /// Waits until `look` is content; gives up when a daemon ends or the time is over, with what the logs say.
    async fn until(
        &self,
        what: &str,
        limit: Duration,
        look: impl AsyncFn() -> Result<(), String>,
    ) -> Result<()> {
        let begun = Instant::now();
        let logs = self.cluster.layout.logs();
        loop {
            let Err(seen) = look().await else {
                return Ok(());
            };
            if let Some(dead) = self.cluster.state.dead().first() {
                let log = self.cluster.layout.log(&dead.name);
                bail!("{} has ended:\n{}", dead.name, tail(&log));
            }
            if begun.elapsed() > limit {
                let (limit, logs) = (limit.as_secs(), logs.display());
                bail!("waited {limit} s for {what}, last seen: {seen}; the logs are in {logs}");
            }
            tokio::time::sleep(LOOK_API).await;
        }
    }
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

/// Makes a folder of the machine if it is not there, and notes every folder that was made for it.
fn make_mount_point(point: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let missing: Vec<&Path> = point.ancestors().take_while(|p| !p.exists()).collect();
    for folder in missing.into_iter().rev() {
        std::fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
        made.push(folder.to_owned());
    }
    Ok(())
}

/// etcd's ports are the machine's.
fn check_ports() -> Result<()> {
    for port in [ETCD_PORT, ETCD_PEER_PORT] {
        std::net::TcpListener::bind(("127.0.0.1", port)).with_context(|| {
            let filter = format!("sport = :{port}");
            let users =
                process::run(Command::new("ss").args(["-Hltnp", &filter])).unwrap_or_default();
            format!(
                "the cluster's etcd needs port {port} on 127.0.0.1, but something has it: {}",
                users.trim()
            )
        })?;
    }
    Ok(())
}
