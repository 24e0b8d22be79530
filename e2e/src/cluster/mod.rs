//! A real Kubernetes on this machine: control plane on the machine, three nodes in namespaces, one zone each.
//!
//! ```text
//! host ─► tools ─► images ─► Lock ─► start ─► Cluster ─► teardown
//!                             │        │ layout, node, control_plane: pure, decide names, files and command lines
//!                             │        │ network, cgroups, pki, process: effects, put them on the machine
//!                             │        └ node_init: the first process inside each node
//!                             └ state: what is on the machine, so that anybody can take it off again
//! ```
//!
//! For demo and scenarios:
//!
//! * [`Cluster::up`] starts one (or takes the one that runs, with [`Options::reuse`]); [`Cluster::attach`] only takes.
//! * A cluster belongs to the program that started it: when that has ended, the next `up` takes the cluster away first.
//!   [`Cluster::keep`] gives it up to stay. Nothing is taken away on drop, unless held by a [`Guard`].
//! * [`Cluster::client`], [`Cluster::kubeconfig`], [`Cluster::kubectl`], [`Cluster::helm`] talk to it; pods' and nodes'
//!   addresses and NodePorts are reachable from this machine, Services' addresses are not.
//! * [`Cluster::load_images`] and [`Cluster::load_product`] put images on every node.
//! * [`cut_zone`], [`restore_zone`], [`kill_container`] break it.
//! * [`Cluster::down`] and [`Cluster::down_if_up`] end it; [`Cluster::timings`] says how long the start took.

mod addons;
pub(crate) mod cgroups;
pub mod cli;
mod control_plane;
mod faults;
mod guard;
pub mod layout;
mod mounts;
mod network;
pub mod node;
pub mod node_init;
mod pki;
pub(crate) mod process;
mod settings;
mod start;
mod state;
mod status;
mod teardown;
mod timings;
pub mod tools;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::process::Command;

pub use faults::{cut_zone, kill_container, restore_zone};
pub use guard::Guard;
pub use layout::STORAGE_CLASS;
pub use timings::Timings;

use crate::progress::step;
use crate::{host, images};
use layout::{DATA_DIR, Layout, NODES, Node};
use state::{Found, Lock, State};
use tools::Tools;

/// How to start a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Take a cluster that runs already instead of refusing.
    pub reuse: bool,
    /// Build gateway and operator and load their images.
    pub product: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reuse: false,
            product: true,
        }
    }
}

/// A running cluster.
#[derive(Clone)]
pub struct Cluster {
    state: State,
    layout: Layout,
    kubeconfig: PathBuf,
    tools: Tools,
    timings: Timings,
}

impl Cluster {
    /// Starts a cluster: three Ready nodes with all images, DNS, metrics and volumes. Leftovers of one that was cut off are
    /// taken away first. When it fails or is dropped half-way, nothing of it stays but logs.
    ///
    /// # Errors
    /// When a cluster runs already (without [`Options::reuse`]), the machine lacks something, or a part does not start.
    pub async fn up(options: &Options) -> Result<Self> {
        let layout = Layout::new(data_folder()?);
        host::prepare().await?;
        let _lock = Lock::take()?;
        match State::find()? {
            Found::Running(state) if options.reuse => return Self::of(state).await,
            Found::Running(state) => bail!(
                "a cluster is already up{}: kubeconfig {}; use `cargo cluster down` to end it",
                state
                    .owner
                    .map(|o| format!(" (process {} uses it)", o.pid))
                    .unwrap_or_default(),
                state.layout().kubeconfig("admin").display()
            ),
            Found::Leftovers(state, why) => {
                let what = format!("taking away what is left of a cluster ({why})");
                step(&what, async { teardown::run(&state) }).await?;
            }
            Found::Nothing => {}
        }
        let tools = Tools::ready().await?;
        let folder = layout.data().join("images");
        let images = start::Images {
            store: images::store::ready(&tools).await?,
            pause: images::of_pause(&folder).await?,
            product: if options.product {
                Some(images::of_product(&folder).await?)
            } else {
                None
            },
        };
        let cluster = Box::pin(start::run(&layout, tools, &images)).await?;
        // Whoever starts a cluster and goes on acts as its clients.
        cgroups::join()?;
        Ok(cluster)
    }

    /// The cluster that runs on this machine.
    ///
    /// # Errors
    /// When there is none, or it does not work any more.
    pub async fn attach() -> Result<Self> {
        match State::find()? {
            Found::Running(state) => Self::of(state).await,
            Found::Leftovers(state, _) if state.complete && state.dead().is_empty() => {
                Self::of(state).await
            }
            Found::Leftovers(_, why) => {
                bail!(
                    "the local cluster does not work any more ({why}); `cargo cluster up` starts it anew"
                )
            }
            Found::Nothing => bail!("no local cluster is up; `cargo cluster up` starts one"),
        }
    }

    /// Whatever cluster there is, and what is wrong with it, for those who only look.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn look() -> Result<(Self, Option<&'static str>)> {
        match State::find()? {
            Found::Running(state) => Ok((Self::of(state).await?, None)),
            Found::Leftovers(state, why) => Ok((Self::of(state).await?, Some(why))),
            Found::Nothing => bail!("no local cluster is up; `cargo cluster up` starts one"),
        }
    }

    async fn of(state: State) -> Result<Self> {
        Ok(Self::assemble(state, Tools::ready().await?))
    }

    fn assemble(state: State, tools: Tools) -> Self {
        let layout = state.layout();
        Self {
            kubeconfig: layout.kubeconfig("admin"),
            layout,
            state,
            tools,
            timings: Timings::default(),
        }
    }

    /// Gives the cluster up: it stays when this program ends, until somebody takes it down.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn keep(&mut self) -> Result<()> {
        self.state.owner = None;
        self.state.save()
    }

    /// Takes the cluster away; logs stay until the next start.
    ///
    /// # Errors
    /// With what could not be taken away.
    pub async fn down(self) -> Result<()> {
        tokio::task::spawn_blocking(move || teardown::if_still(&self.state)).await?
    }

    /// Takes away whatever cluster there is, whole or not. True when there was one.
    ///
    /// # Errors
    /// With what could not be taken away.
    pub async fn down_if_up() -> Result<bool> {
        tokio::task::spawn_blocking(|| {
            if matches!(State::find()?, Found::Nothing) {
                return Ok(false);
            }
            ensure!(
                nix::unistd::geteuid().is_root(),
                "taking the local cluster down needs root, as starting it did"
            );
            let _lock = Lock::take()?;
            // Whoever held the lock may have taken it away meanwhile.
            match State::find()? {
                Found::Nothing => Ok(false),
                Found::Running(state) | Found::Leftovers(state, _) => {
                    teardown::run(&state).map(|()| true)
                }
            }
        })
        .await?
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client with the administrator's rights.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        client_of(self.kubeconfig()).await
    }

    /// Runs kubectl to its end.
    ///
    /// # Errors
    /// When it cannot be started; its own failure is in the output's status.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.run(self.tools.kubectl(), arguments).await
    }

    /// Runs Helm to its end.
    ///
    /// # Errors
    /// When it cannot be started; its own failure is in the output's status.
    pub async fn helm(&self, arguments: &[&str]) -> Result<Output> {
        self.run(self.tools.helm(), arguments).await
    }

    async fn run(&self, program: PathBuf, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
            .output()
            .await
            .with_context(|| format!("starting {}", program.display()))
    }

    /// The programs the cluster is made of.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// A node's address, by its name or zone; NodePorts are there.
    pub fn node_ip(&self, node: &str) -> Option<Ipv4Addr> {
        Node::find(node).map(Node::address)
    }

    /// How long each step of the start took; empty for a cluster that was already up.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Loads archives of images into every node.
    ///
    /// # Errors
    /// When a node does not take one.
    pub async fn load_images(&self, archives: &[PathBuf]) -> Result<()> {
        let nodes = NODES.into_iter().map(|node| async move {
            for archive in archives {
                let archive = archive
                    .to_str()
                    .context("an archive's path must be UTF-8")?;
                self.ctr(node, &["images", "import", "--local", archive])
                    .await
                    .with_context(|| format!("loading {archive} into {}", node.name()))?;
            }
            Ok(())
        });
        futures::future::try_join_all(nodes)
            .await
            .map(|_: Vec<()>| ())
    }

    /// Builds gateway and operator anew and loads their images into every node. Running pods keep the old ones.
    ///
    /// # Errors
    /// With the compiler's own words, or when a node does not take an image.
    pub async fn load_product(&self) -> Result<()> {
        let archive = images::of_product(&self.layout.data().join("images")).await?;
        step("loading images", self.load_images(&[archive])).await
    }

    /// containerd's own client, on a node.
    pub(crate) async fn ctr(&self, node: Node, arguments: &[&str]) -> Result<String> {
        let mut ctr = Command::new(self.tools.binary("ctr"));
        ctr.arg("--address")
            .arg(self.layout.socket(node))
            .args(["--namespace", "k8s.io"])
            .args(arguments);
        let output = ctr
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("starting ctr")?;
        ensure!(
            output.status.success(),
            "ctr {} on {}: {}",
            arguments.join(" "),
            node.name(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }
}

/// The cluster's folder: `$SLUICE_STATE`, or the usual place.
pub(crate) fn data_folder() -> Result<PathBuf> {
    let named = std::env::var_os("SLUICE_STATE").filter(|v| !v.is_empty());
    let folder = named.map_or_else(|| PathBuf::from(DATA_DIR), PathBuf::from);
    ensure!(
        folder.is_absolute(),
        "SLUICE_STATE must be an absolute path, not {}",
        folder.display()
    );
    for covered in ["/run", "/var/run"]
        .iter()
        .map(PathBuf::from)
        .chain(node::mount_points())
    {
        ensure!(
            !folder.starts_with(&covered),
            "SLUICE_STATE must not be below {}: nodes have something else there",
            covered.display()
        );
    }
    Ok(folder)
}

async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// What the API server says about itself: `ok`, or why not.
pub(crate) async fn api_health(client: &Client) -> String {
    let request = http::Request::get("/readyz").body(Vec::new());
    match request {
        Ok(request) => client
            .request_text(request)
            .await
            .unwrap_or_else(|error| error.to_string()),
        Err(error) => error.to_string(),
    }
}

/// The node's Ready condition.
pub(crate) fn is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
