//! Effects: starts a cluster, in the order of its parts' needs: network and keys, API server, nodes, images, add-ons.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Client;
use kube::api::{Api, ListParams};

use super::layout::{ETCD_PEER_PORT, ETCD_PORT, Layout, NODES, Node};
use super::node::{self, Programs};
use super::process::{self, Recorded, tail};
use super::state::State;
use super::timings::Timings;
use super::tools::Tools;
use super::{Cluster, addons, cgroups, control_plane, is_ready, network, pki, settings, teardown};
use crate::limits::{API_READY, LOOK_API, NODES_READY};
use crate::progress::{note, step};
use crate::{host, images};

/// A cluster that is being started: taken away again unless it gets to the end.
pub(super) struct Starting {
    state: State,
    layout: Layout,
    done: bool,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.done {
            note("taking the unfinished cluster away; its logs stay");
            if let Err(error) = teardown::run(&self.state) {
                note(&format!("error: {error:#}"));
            }
        }
    }
}

/// Starts a cluster whose nodes have the images of `store` and of `archives`.
pub(super) async fn run(
    layout: Layout,
    tools: Tools,
    store: &Path,
    archives: &[PathBuf],
) -> Result<Cluster> {
    let mut timings = Timings::default();
    network::check_free()?;
    check_ports()?;
    let begun = Instant::now();
    let mut starting = Starting {
        state: State::begin(&layout)?,
        layout,
        done: false,
    };
    starting.state.save()?;
    let client = step(
        "starting the API server",
        starting.control_plane(&tools, store, &mut timings),
    )
    .await?;
    step(
        "starting three nodes",
        starting.nodes_ready(&client, &mut timings),
    )
    .await?;
    timings.note("three nodes Ready", begun.elapsed());
    let mut cluster = Cluster::assemble(starting.state.clone(), tools);
    step(
        "loading images",
        timings.measure("images", cluster.load_images(archives)),
    )
    .await?;
    step(
        "starting DNS and metrics",
        timings.measure("DNS", async {
            addons::apply(&client, &cluster.layout).await?;
            addons::dns_ready(&client).await
        }),
    )
    .await?;
    timings.note("all", begun.elapsed());
    starting.state.complete = true;
    starting.state.save()?;
    starting.done = true;
    cluster.state = starting.state.clone();
    cluster.timings = timings;
    Ok(cluster)
}

impl Starting {
    /// Everything up to an API server that answers; the nodes' containerds start meanwhile.
    async fn control_plane(
        &mut self,
        tools: &Tools,
        store: &Path,
        timings: &mut Timings,
    ) -> Result<Client> {
        let begun = Instant::now();
        self.prepare(store)?;
        timings.note("network and keys", begun.elapsed());
        let begun = Instant::now();
        self.daemon(
            "etcd",
            &tools.binary("etcd"),
            &control_plane::etcd(&self.layout),
        )?;
        self.daemon(
            "kube-apiserver",
            &tools.binary("kube-apiserver"),
            &control_plane::apiserver(&self.layout),
        )?;
        for node in NODES {
            self.node(node, tools)?;
        }
        let client = super::client_of(&self.layout.kubeconfig("admin")).await?;
        self.until("the API server", API_READY, async || {
            let answer = super::api_health(&client).await;
            if answer == "ok" { Ok(()) } else { Err(answer) }
        })
        .await?;
        std::fs::write(self.layout.api_ready(), "")?;
        let manager = control_plane::controller_manager(&self.layout);
        self.daemon(
            "kube-controller-manager",
            &tools.binary("kube-controller-manager"),
            &manager,
        )?;
        self.daemon(
            "kube-scheduler",
            &tools.binary("kube-scheduler"),
            &control_plane::scheduler(&self.layout),
        )?;
        timings.note("API server", begun.elapsed());
        Ok(client)
    }

    /// Folders, keys, control groups, network: all that is there before the first daemon.
    fn prepare(&mut self, store: &Path) -> Result<()> {
        let layout = self.layout.clone();
        let cni = host::cni_folder()?;
        self.state.settings = settings::remember();
        for point in node::mount_points() {
            self.mount_point(&point)?;
        }
        self.state.save()?;
        settings::raise();
        if layout.logs().exists() {
            std::fs::remove_dir_all(layout.logs())?;
        }
        for folder in [layout.logs(), layout.etcd()] {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("making {}", folder.display()))?;
        }
        for node in NODES {
            for folder in node::folders(&layout, node) {
                std::fs::create_dir_all(&folder)?;
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
        self.state.firewall = network::create()?;
        self.state.save()
    }

    /// Makes a folder of the machine if it is not there, and notes what was made.
    fn mount_point(&mut self, point: &Path) -> Result<()> {
        let missing: Vec<&Path> = point.ancestors().take_while(|p| !p.exists()).collect();
        for folder in missing.into_iter().rev() {
            std::fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
            self.state.folders.push(folder.to_owned());
        }
        Ok(())
    }

    fn daemon(&mut self, name: &str, program: &Path, arguments: &[String]) -> Result<()> {
        let recorded = process::spawn(name, program, arguments, &self.layout.log(name))?;
        self.state.record(recorded)
    }

    /// Starts a node: this program again, as the first process of namespaces of its own.
    fn node(&mut self, node: Node, tools: &Tools) -> Result<()> {
        let programs = Programs {
            containerd: tools.binary("containerd"),
            kubelet: tools.binary("kubelet"),
            proxy: tools.binary("kube-proxy"),
        };
        let plan = self.layout.node(node).join("plan.json");
        std::fs::write(
            &plan,
            serde_json::to_vec_pretty(&node::plan(&self.layout, node, &programs))?,
        )?;
        let arguments = [
            format!("--net={}", node.namespace().display()),
            "unshare".into(),
            "--mount".into(),
            "--pid".into(),
            "--fork".into(),
            // Whatever ends this process ends the node.
            "--kill-child".into(),
            "--mount-proc".into(),
            self.layout.program().display().to_string(),
            "cluster".into(),
            "node-init".into(),
            plan.display().to_string(),
        ];
        self.daemon(
            &format!("node-{}", node.name()),
            Path::new("nsenter"),
            &arguments,
        )
    }

    async fn nodes_ready(&mut self, client: &Client, timings: &mut Timings) -> Result<()> {
        let nodes: Api<NodeObject> = Api::all(client.clone());
        let begun = Instant::now();
        self.until("three Ready nodes", NODES_READY, async || {
            let list = nodes
                .list(&ListParams::default())
                .await
                .map_err(|e| e.to_string())?;
            let ready = list.items.iter().filter(|n| is_ready(n)).count();
            if ready == NODES.len() {
                Ok(())
            } else {
                Err(format!("{ready} nodes are Ready"))
            }
        })
        .await?;
        timings.note("nodes", begun.elapsed());
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
        loop {
            let Err(seen) = look().await else {
                return Ok(());
            };
            if let Some(dead) = self.state.dead().first() {
                bail!("{} has ended:\n{}", dead.name, self.tail_of(dead));
            }
            if begun.elapsed() > limit {
                bail!(
                    "waited {} s for {what}, last seen: {seen}; the logs are in {}",
                    limit.as_secs(),
                    self.layout.logs().display()
                );
            }
            tokio::time::sleep(LOOK_API).await;
        }
    }

    fn tail_of(&self, daemon: &Recorded) -> String {
        tail(&self.layout.log(&daemon.name))
    }
}

/// etcd's ports are the machine's; whoever has them is named by the error's reader more easily than by us.
fn check_ports() -> Result<()> {
    for port in [ETCD_PORT, ETCD_PEER_PORT] {
        std::net::TcpListener::bind(("127.0.0.1", port)).with_context(|| {
            let users = process::run(Command::new("ss").args(["-ltnp", &format!("sport = :{port}")])).unwrap_or_default();
            format!("the cluster's etcd needs port {port} on 127.0.0.1, but something else has it\n{users}")
        })?;
    }
    Ok(())
}
