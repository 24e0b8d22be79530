//! Effects: the laboratory that demo and scenarios share: the chart installed with real Helm, a fleet applied as an SRE would,
//! and a load with its auditor connected to it.

pub mod broker;
pub mod fleet;
pub mod traffic;
pub mod wait;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::cluster::tools::Tools;
use fleet::Fleet;

/// Namespace of the operator, NATS and Prometheus.
pub const SYSTEM: &str = "sluice-system";
/// Namespace of the demo fleet.
pub const NAMESPACE: &str = "demo";
/// Name of the demo fleet.
pub const FLEET: &str = "notify";
/// The JetStream stream that the fleet's manifest names.
pub const FLEET_STREAM: &str = "NOTIFY";
/// The reconnect budget that the fleet's manifest gives, per second.
pub const FLEET_RATE: u32 = 300;
/// Node port of the Service through which publishers outside the cluster reach the fleet.
pub const PUBLISH_NODE_PORT: i32 = 30_081;
/// The fleet's manifest.
pub const FLEET_YAML: &str = include_str!("manifests/fleet.yaml");
/// The Service for publishers outside the cluster.
const PUBLISH_YAML: &str = include_str!("manifests/publish.yaml");
/// The drill's manifest.
pub const DRILL_YAML: &str = include_str!("manifests/drill.yaml");
/// Random bytes in the key that signs the clients' tokens; the key is their text, because a key file may end in a newline.
const TOKEN_KEY_BYTES: usize = 32;

/// A cluster with Sluice's chart on it, ours or any other (`--context`).
pub struct Lab {
    /// Client of the API server.
    pub client: Client,
    /// Pinned kubectl and Helm.
    pub tools: Tools,
    /// Where kubectl and Helm find the cluster.
    pub kubeconfig: PathBuf,
    /// A context of the kubeconfig, when not the current one.
    pub context: Option<String>,
    /// The key that signs the clients' tokens.
    pub token_key: Vec<u8>,
    root: PathBuf,
}

impl Lab {
    /// A laboratory on a cluster that is up; installs nothing yet.
    #[must_use]
    pub fn new(
        client: Client,
        tools: Tools,
        kubeconfig: PathBuf,
        context: Option<String>,
        root: PathBuf,
    ) -> Self {
        let random: [u8; TOKEN_KEY_BYTES] = rand::random();
        Self {
            client,
            tools,
            kubeconfig,
            context,
            token_key: URL_SAFE_NO_PAD.encode(random).into_bytes(),
            root,
        }
    }

    /// Installs the chart with NATS and Prometheus for trying out and waits until all of it is available.
    ///
    /// # Errors
    /// With Helm's own text.
    pub async fn install_chart(&self, storage_class: Option<&str>) -> Result<()> {
        let mut helm = self.helm();
        helm.args(["upgrade", "--install", "sluice"])
            .arg(self.root.join("charts/sluice"))
            .args(["--namespace", SYSTEM, "--create-namespace"])
            .args(["--set", "nats.enabled=true"])
            .args(["--set", "prometheus.enabled=true"])
            .args(["--set", "prometheus.scrapeIntervalSeconds=2"])
            .args(["--wait", "--timeout", "180s"]);
        if let Some(class) = storage_class {
            helm.args(["--set", &format!("nats.storageClass={class}")]);
        }
        crate::verify::code::run(&mut helm).await?;
        Ok(())
    }

    /// Makes the namespace and the token key, applies the fleet with kubectl, and returns it.
    ///
    /// # Errors
    /// When the API server refuses something.
    pub async fn apply_fleet(&self) -> Result<Fleet> {
        let ours = PatchParams::apply("sluice-e2e").force();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        namespaces
            .patch(NAMESPACE, &ours, &Patch::Apply(namespace))
            .await?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "notify-tokens" },
            "data": { "key": STANDARD.encode(&self.token_key) } });
        secrets
            .patch("notify-tokens", &ours, &Patch::Apply(secret))
            .await?;
        self.apply(PUBLISH_YAML).await?;
        self.apply(FLEET_YAML).await?;
        Ok(Fleet::new(self.client.clone(), NAMESPACE, FLEET))
    }

    /// `kubectl apply -f -` in the fleet's namespace; returns what kubectl printed.
    ///
    /// # Errors
    /// With kubectl's own text.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_with(&["-n", NAMESPACE, "apply", "-f", "-"], yaml)
            .await
    }

    /// Runs kubectl to its end and returns its standard output.
    ///
    /// # Errors
    /// With kubectl's own text.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "").await
    }

    /// Starts kubectl and returns it running, its output collected by the caller.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl_start(&self, args: &[&str]) -> Result<Child> {
        self.kubectl_command()
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl")
    }

    async fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        use tokio::io::AsyncWriteExt;
        let mut child = self
            .kubectl_command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!(
                "kubectl {} ended with {}: {}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Names and addresses of the nodes.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn nodes(&self) -> Result<Vec<(String, String)>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes
            .list(&ListParams::default())
            .await?
            .items
            .iter()
            .filter_map(|node| {
                let addresses = node.status.as_ref()?.addresses.as_ref()?;
                let address = addresses.iter().find(|a| a.type_ == "InternalIP")?;
                Some((node.name_any(), address.address.clone()))
            })
            .collect())
    }

    /// Addresses of the nodes.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn node_addresses(&self) -> Result<Vec<String>> {
        Ok(self.nodes().await?.into_iter().map(|(_, a)| a).collect())
    }

    /// Removes the fleet's namespace and the chart.
    ///
    /// # Errors
    /// With kubectl's or Helm's own text.
    pub async fn remove(&self) -> Result<()> {
        self.kubectl(&[
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--timeout=150s",
        ])
        .await?;
        let mut helm = self.helm();
        helm.args([
            "uninstall",
            "sluice",
            "--namespace",
            SYSTEM,
            "--ignore-not-found",
            "--wait",
        ]);
        crate::verify::code::run(&mut helm).await?;
        Ok(())
    }

    /// Sets a Deployment's replicas in the operator's namespace and waits until it has them.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn scale_deployment(&self, name: &str, replicas: u32) -> Result<()> {
        let deployment = format!("deployment/{name}");
        self.kubectl(&[
            "-n",
            SYSTEM,
            "scale",
            &deployment,
            &format!("--replicas={replicas}"),
        ])
        .await?;
        let wanted = replicas.to_string();
        let what = format!("{deployment} has {replicas} ready pods");
        wait::until(&what, Duration::from_mins(1), || async {
            let seen = self
                .kubectl(&[
                    "-n",
                    SYSTEM,
                    "get",
                    &deployment,
                    "-o",
                    "jsonpath={.status.replicas}/{.status.readyReplicas}",
                ])
                .await?;
            let none = replicas == 0 && (seen == "/" || seen == "0/");
            if none || seen == format!("{wanted}/{wanted}") {
                return Ok(wait::Look::Done(()));
            }
            Ok(wait::Look::NotYet(seen))
        })
        .await?;
        Ok(())
    }

    fn kubectl_command(&self) -> Command {
        let mut kubectl = Command::new(self.tools.kubectl());
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(context) = &self.context {
            kubectl.args(["--context", context]);
        }
        kubectl
    }

    fn helm(&self) -> Command {
        let mut helm = Command::new(self.tools.helm());
        helm.arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(context) = &self.context {
            helm.args(["--kube-context", context]);
        }
        helm
    }

    /// The repository's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}
