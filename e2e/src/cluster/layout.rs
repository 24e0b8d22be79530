//! Pure: names, addresses and paths of the local cluster. Everything visible outside its folders carries the prefix `slc`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The bridge between the machine and the nodes.
pub const BRIDGE: &str = "slc0";
/// The parent of the nodes' control groups, in every hierarchy.
pub const CGROUP: &str = "slc";
/// The machine's own address on the bridge; the API server listens there and nowhere else.
pub const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// The network of the machine and the nodes.
pub const NODE_NETWORK: &str = "10.200.0.0/24";
/// The network of all pods, one /24 per node.
pub const POD_NETWORK: &str = "10.201.0.0/16";
/// The network of Service addresses.
pub const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// The API server's Service address, the first of the network.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The cluster's DNS server.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The API server's port.
pub const API_PORT: u16 = 6443;
/// etcd's port for clients, on loopback and unlike the usual one, so that an etcd of the machine is left alone.
pub const ETCD_PORT: u16 = 23_790;
/// etcd's port for peers, on loopback.
pub const ETCD_PEER_PORT: u16 = 23_800;
/// The storage class of the volumes that outlive their pods; also the cluster's default class.
pub const STORAGE_CLASS: &str = "sluice-local";
/// Lock, state and network namespaces: one place for the whole machine, since names of interfaces are the machine's too.
pub const RUN_DIR: &str = "/run/sluice-e2e";
/// Default folder of everything else; the environment variable `SLUICE_STATE` names another.
pub const DATA_DIR: &str = "/var/lib/sluice-e2e";
/// User and group of the workloads that need no other.
pub const NOBODY: u32 = 65_532;

/// One of the three nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(u8);

/// All nodes in order.
pub const NODES: [Node; 3] = [Node(1), Node(2), Node(3)];

impl Node {
    /// `n1` to `n3`, the Kubernetes name.
    pub fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// `zone-a` to `zone-c`.
    pub fn zone(self) -> String {
        format!("zone-{}", char::from(b'a' + self.0 - 1))
    }

    /// Its address on the bridge.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, 0, 10 + self.0)
    }

    /// Its pods' network.
    pub fn pod_network(self) -> String {
        format!("10.201.{}.0/24", self.0 - 1)
    }

    /// The machine's end of its cable.
    pub fn cable(self) -> String {
        format!("slc-n{}", self.0)
    }

    /// The file that holds its network namespace.
    pub fn namespace(self) -> PathBuf {
        Path::new(RUN_DIR).join("netns").join(self.name())
    }

    /// Its control group as the kubelet writes it.
    pub fn cgroup(self) -> String {
        format!("/{CGROUP}/{}", self.name())
    }

    /// The node with this name or in this zone.
    pub fn find(name_or_zone: &str) -> Option<Self> {
        NODES
            .into_iter()
            .find(|n| n.name() == name_or_zone || n.zone() == name_or_zone)
    }
}

/// The folder of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    data: PathBuf,
}

impl Layout {
    /// A cluster in `data`.
    pub fn new(data: PathBuf) -> Self {
        Self { data }
    }

    /// The folder itself.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Keys and certificates.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.data.join("pki").join(file)
    }

    /// The kubeconfig of a component; `admin` is the user's.
    pub fn kubeconfig(&self, of: &str) -> PathBuf {
        self.data.join("pki").join(format!("{of}.kubeconfig"))
    }

    /// Logs of all daemons. They stay until the next start.
    pub fn logs(&self) -> PathBuf {
        self.data.join("log")
    }

    /// One daemon's log.
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.logs().join(format!("{daemon}.log"))
    }

    /// etcd's data.
    pub fn etcd(&self) -> PathBuf {
        self.data.join("etcd")
    }

    /// One node's folder.
    pub fn node(&self, node: Node) -> PathBuf {
        self.data.join("nodes").join(node.name())
    }

    /// containerd's socket of a node, as the machine sees it.
    pub fn socket(&self, node: Node) -> PathBuf {
        self.node(node).join("run/containerd.sock")
    }

    /// A persistent volume's folder.
    pub fn volume(&self, node: Node, number: u32) -> PathBuf {
        self.data
            .join("volumes")
            .join(format!("{}-{number}", node.name()))
    }

    /// This very program, kept for the nodes: cargo may replace the original at any time.
    pub fn program(&self) -> PathBuf {
        self.data.join("sluice-e2e")
    }

    /// Kubelets start when this file is there: before the API server answers they would only fail and wait.
    pub fn api_ready(&self) -> PathBuf {
        self.data.join("api-ready")
    }
}

/// Where the API server is.
pub fn api_url() -> String {
    format!("https://{MACHINE}:{API_PORT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_by_name_and_by_zone() {
        assert_eq!(Node::find("n2"), Some(NODES[1]));
        assert_eq!(Node::find("zone-c"), Some(NODES[2]));
        assert_eq!(Node::find("zone-d"), None);
        assert_eq!(NODES[2].address().to_string(), "10.200.0.13");
        assert_eq!(NODES[0].pod_network(), "10.201.0.0/24");
    }

    #[test]
    fn interface_names_fit_the_kernels_fifteen_bytes() {
        assert!(NODES.iter().all(|n| n.cable().len() <= 15));
    }
}
