//! Effects: kernel settings of the whole machine that a cluster changes, and their way back.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::state::Setting;
use crate::limits::{CONNTRACK_BUCKETS, CONNTRACK_MAX};

/// Connection tracking holds for all namespaces, and only the machine's own one may raise it.
const RAISED: [(&str, u64); 2] = [
    (
        "/proc/sys/net/netfilter/nf_conntrack_buckets",
        CONNTRACK_BUCKETS,
    ),
    ("/proc/sys/net/netfilter/nf_conntrack_max", CONNTRACK_MAX),
];

/// What every kubelet writes when it starts.
const KUBELETS: [&str; 6] = [
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/kernel/keys/root_maxbytes",
];

/// The settings as they are now; those that this kernel lacks are left out.
pub fn remember() -> Vec<Setting> {
    let raised = RAISED.iter().map(|(path, _)| path);
    raised
        .chain(&KUBELETS)
        .filter_map(|path| {
            Some(Setting {
                path: PathBuf::from(path),
                value: read(Path::new(path))?,
            })
        })
        .collect()
}

/// Raises the number of tracked connections where it is lower. A kernel that refuses keeps its own limit: only the
/// largest runs would notice.
pub fn raise() {
    for (path, wanted) in RAISED {
        let now = read(Path::new(path)).and_then(|v| v.parse::<u64>().ok());
        if now.is_some_and(|now| now < wanted) {
            let _ = std::fs::write(path, wanted.to_string());
        }
    }
}

/// Puts back what differs.
pub fn restore(settings: &[Setting]) -> Result<()> {
    for setting in settings {
        if read(&setting.path).is_some_and(|now| now != setting.value) {
            std::fs::write(&setting.path, &setting.value).with_context(|| {
                format!(
                    "putting {} back to {}",
                    setting.path.display(),
                    setting.value
                )
            })?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}
