//! Pure: what a node is made of: its mounts, its daemons' configurations and command lines.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::layout::{DNS_SERVICE, Layout, Node, POD_NETWORK};
use crate::limits::PODS_PER_NODE;

/// The image of every pod's sandbox.
pub const PAUSE_IMAGE: &str = "sluice.dev/pause:1";
/// containerd's socket as the node sees it.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// The kubelet's folder; mounts in it must be seen by containers and back.
const KUBELET: &str = "/var/lib/kubelet";
/// Where CNI plugins find the node's network.
const CNI: &str = "/etc/cni/net.d";

/// Folder in the node's own place on the machine, and where the node sees it.
const BOUND: [(&str, &str); 5] = [
    ("kubelet", KUBELET),
    ("containerd", "/var/lib/containerd"),
    ("cni", CNI),
    ("log-pods", "/var/log/pods"),
    ("log-containers", "/var/log/containers"),
];

/// Everything the first process of a node's namespaces does, decided beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Folders of the machine that the node sees elsewhere.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// The one among them whose mounts are shared with containers.
    pub shared: PathBuf,
    /// Folders of the machine that are empty and fleeting on the node.
    pub fleeting: Vec<PathBuf>,
    /// Bound after the fleeting ones were made: the machine reaches containerd through it.
    pub run: (PathBuf, PathBuf),
    /// Kernel settings of the node's network.
    pub settings: Vec<(PathBuf, String)>,
    /// Daemons in their order.
    pub daemons: Vec<Daemon>,
}

/// A daemon of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its name.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its log.
    pub log: PathBuf,
    /// It starts when all of these files are there.
    pub after: Vec<PathBuf>,
}

/// Programs of a node.
pub struct Programs {
    /// containerd, beside its shim.
    pub containerd: PathBuf,
    /// The kubelet.
    pub kubelet: PathBuf,
    /// kube-proxy.
    pub proxy: PathBuf,
}

/// Mount points that must exist on the machine, so that something can be mounted on them in the node.
pub fn mount_points() -> Vec<PathBuf> {
    let bound = BOUND.iter().map(|(_, target)| PathBuf::from(target));
    bound.chain([PathBuf::from("/var/lib/cni")]).collect()
}

/// containerd's folder in the node's own place.
pub fn image_store(layout: &Layout, node: Node) -> PathBuf {
    layout.node(node).join("containerd")
}

/// Folders of the node's own place.
pub fn folders(layout: &Layout, node: Node) -> Vec<PathBuf> {
    let own = layout.node(node);
    BOUND
        .iter()
        .map(|(name, _)| *name)
        .chain(["run", "etc"])
        .map(|name| own.join(name))
        .collect()
}

/// Files to write into the node's own place before it starts.
pub fn files(layout: &Layout, node: Node, cni_plugins: &Path) -> Vec<(PathBuf, String)> {
    let own = layout.node(node);
    vec![
        (own.join("cni/10-pods.conflist"), pretty(&cni(node))),
        (own.join("etc/containerd.toml"), containerd(cni_plugins)),
        (own.join("etc/kubelet.yaml"), pretty(&kubelet(layout, node))),
        (own.join("etc/proxy.yaml"), pretty(&proxy(layout, node))),
    ]
}

/// The node's plan.
pub fn plan(layout: &Layout, node: Node, programs: &Programs) -> NodePlan {
    let own = layout.node(node);
    let name = node.name();
    let daemon =
        |daemon: &str, program: &Path, arguments: Vec<String>, after: Vec<PathBuf>| Daemon {
            name: daemon.to_owned(),
            program: program.to_owned(),
            arguments,
            log: layout.log(&format!("{daemon}-{name}")),
            after,
        };
    let etc = |file: &str| format!("--config={}", own.join("etc").join(file).display());
    NodePlan {
        binds: BOUND
            .iter()
            .map(|(from, to)| (own.join(from), PathBuf::from(to)))
            .collect(),
        shared: PathBuf::from(KUBELET),
        fleeting: vec![PathBuf::from("/run"), PathBuf::from("/var/lib/cni")],
        run: (own.join("run"), PathBuf::from("/run/containerd")),
        settings: vec![
            (
                PathBuf::from("/proc/sys/net/ipv4/ip_forward"),
                "1".to_owned(),
            ),
            // Answers of a pod to another pod of its node must pass the translation of Service addresses, too.
            (
                PathBuf::from("/proc/sys/net/bridge/bridge-nf-call-iptables"),
                "1".to_owned(),
            ),
        ],
        daemons: vec![
            daemon(
                "containerd",
                &programs.containerd,
                vec![etc("containerd.toml")],
                vec![],
            ),
            daemon(
                "kubelet",
                &programs.kubelet,
                kubelet_arguments(layout, node, etc("kubelet.yaml")),
                vec![PathBuf::from(SOCKET), layout.api_ready()],
            ),
            daemon(
                "kube-proxy",
                &programs.proxy,
                vec![etc("proxy.yaml")],
                vec![layout.api_ready()],
            ),
        ],
    }
}

fn kubelet_arguments(layout: &Layout, node: Node, config: String) -> Vec<String> {
    vec![
        config,
        format!("--kubeconfig={}", layout.kubeconfig(&node.name()).display()),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.address()),
        format!("--root-dir={KUBELET}"),
        format!("--node-labels=topology.kubernetes.io/zone={}", node.zone()),
    ]
}

/// Pods hang on a bridge of their node, with their own addresses everywhere: no translation between pods, nodes and machine.
fn cni(node: Node) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
              "ipam": { "type": "host-local", "ranges": [[{ "subnet": node.pod_network() }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// `restrict_oom_score_adj`: without the right to lower it (many containers and sandboxes lack CAP_SYS_RESOURCE), every
/// sandbox would fail with "can't get final child's PID from pipe". The disabled plugins would make folders on the machine.
fn containerd(cni_plugins: &Path) -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs"]

[debug]
  level = "warn"

[grpc]
  address = "{SOCKET}"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{}"]
    conf_dir = "{CNI}"

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        cni_plugins.display()
    )
}

/// Every grace period and update interval is the default one: scenarios must see what a real node does.
fn kubelet(layout: &Layout, node: Node) -> Value {
    let pki = |file: String| layout.pki(&file).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki("ca.crt".into()) },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": pki(format!("{}.crt", node.name())),
        "tlsPrivateKeyFile": pki(format!("{}.key", node.name())),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup(),
        "failCgroupV1": false,
        "failSwapOn": false,
        // Pods resolve names in the cluster only; the machine's own resolver is none of their business.
        "resolvConf": "/dev/null",
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE.to_string()],
        // Three nodes share one disk and one memory: what one takes must not evict pods of another.
        "evictionHard": { "nodefs.available": "1%", "imagefs.available": "1%" },
        "imageGCHighThresholdPercent": 100,
        "maxPods": PODS_PER_NODE,
        // Lowering it needs a right that many sandboxes lack.
        "oomScoreAdj": 0,
        "volumePluginDir": format!("{KUBELET}/volumeplugins"),
    })
}

fn proxy(layout: &Layout, node: Node) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": node.name(),
        "clientConnection": { "kubeconfig": layout.kubeconfig("proxy").display().to_string() },
        // The limit is the machine's, see `settings`; a node's namespace may not write it.
        "conntrack": { "maxPerCore": 0 },
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cluster::layout::NODES;

    fn programs() -> Programs {
        Programs {
            containerd: "/t/containerd".into(),
            kubelet: "/t/kubelet".into(),
            proxy: "/t/kube-proxy".into(),
        }
    }

    #[test]
    fn a_plan_survives_its_way_through_a_file() {
        let plan = plan(&Layout::new("/data".into()), NODES[1], &programs());
        let read: NodePlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(read, plan);
        let arguments = plan.daemons[1].arguments.join(" ");
        assert!(
            arguments.contains("--node-ip=10.200.0.12") && arguments.contains("zone=zone-b"),
            "{arguments}"
        );
    }

    #[test]
    fn everything_bound_is_made_beforehand_on_both_sides() {
        let layout = Layout::new("/data".into());
        let plan = plan(&layout, NODES[0], &programs());
        let (made, points) = (folders(&layout, NODES[0]), mount_points());
        for (from, to) in &plan.binds {
            assert!(
                made.contains(from) && points.contains(to),
                "{}",
                to.display()
            );
        }
        assert!(made.contains(&plan.run.0));
    }

    #[test]
    fn configurations_are_well_formed() {
        let files = files(
            &Layout::new("/data".into()),
            NODES[2],
            Path::new("/usr/lib/cni"),
        );
        assert_eq!(files.len(), 4);
        for (path, text) in files
            .iter()
            .filter(|(p, _)| p.extension().is_some_and(|e| e != "toml"))
        {
            let value: Value = serde_yaml::from_str(text).unwrap();
            assert!(value.is_object(), "{}", path.display());
        }
    }
}
