//! Pure: every limit of the local cluster, with its unit and the reason for its value.

use std::time::Duration;

/// The API server answers `/readyz` after 3 to 6 s on two idle cores; a busy machine gets ten times that.
pub const API_READY: Duration = Duration::from_mins(1);

/// Nodes are Ready 2 to 4 s after the API server; a busy machine gets more.
pub const NODES_READY: Duration = Duration::from_mins(1);

/// CoreDNS is available 3 s after its image is there.
pub const DNS_READY: Duration = Duration::from_mins(1);

/// A node has hundreds of processes at most; the kernel ends them in well under a second unless the machine is swamped.
pub const PROCESSES_GONE: Duration = Duration::from_secs(30);

/// Control groups can be removed a moment after their last process is gone.
pub const CGROUPS_GONE: Duration = Duration::from_secs(10);

/// containerd listens within a second when it only keeps images.
pub const STORE_DAEMON: Duration = Duration::from_secs(30);

/// Time between two looks at something local that takes milliseconds.
pub const LOOK_LOCAL: Duration = Duration::from_millis(20);

/// Time between two looks at the API server while the cluster starts.
pub const LOOK_API: Duration = Duration::from_millis(100);

/// Pause before a node's daemon that ended is started again, as a service manager would.
pub const DAEMON_RESTART: Duration = Duration::from_secs(1);

/// Without a terminal, a step that takes long says so at this pace.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// Lines of a failed command's or daemon's output that an error shows.
pub const TAIL_LINES: usize = 25;

/// Tracked connections over all namespaces: the kernel's 262,144 is too small for the large runs, in which a node tracks
/// each client connection once. An entry costs about 300 bytes, and only while it is used.
pub const CONNTRACK_MAX: u64 = 2_097_152;

/// Slots of the table in which tracked connections are found, 8 bytes each: four connections to a slot when it is full.
pub const CONNTRACK_BUCKETS: u64 = 524_288;

/// Pods per node, the kubelet's own default.
pub const PODS_PER_NODE: u32 = 110;

/// Persistent volumes made per node: one for NATS, one to spare.
pub const VOLUMES_PER_NODE: u32 = 2;
