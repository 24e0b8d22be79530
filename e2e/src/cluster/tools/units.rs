//! Pure: which programs there are, from which module each comes, and how it is built.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Characters of the hash in a cache folder's name.
const KEY_LENGTH: usize = 12;

/// Programs that are built together and kept in one folder.
pub(super) struct Unit {
    /// Name of the cache folder.
    pub(super) name: &'static str,
    /// Folder in `e2e/tools`.
    pub(super) module: &'static str,
    /// Build tags, with commas.
    pub(super) tags: &'static str,
    /// What is built.
    pub(super) programs: &'static [Program],
    /// A person or script talks to any cluster with it.
    pub(super) client: bool,
}

/// A program and its package.
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

const fn unit(name: &'static str, programs: &'static [Program]) -> Unit {
    Unit {
        name,
        module: name,
        tags: "",
        programs,
        client: false,
    }
}

/// Everything, in the order in which it is built. Kubernetes takes longest and compiles most of what the others need, which have
/// the same versions of it in their go.mod: those with little in common with it are built meanwhile, the rest finds it done.
pub(super) static UNITS: [Unit; 9] = [
    unit(
        "kubernetes",
        &[
            program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            program(
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            program("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ],
    ),
    unit(
        "nats",
        &[program("nats-server", "github.com/nats-io/nats-server/v2")],
    ),
    unit("etcd", &[program("etcd", "go.etcd.io/etcd/server/v3")]),
    unit(
        "containerd",
        &[
            program(
                "containerd",
                "github.com/containerd/containerd/v2/cmd/containerd",
            ),
            program(
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ),
            program("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
    ),
    // Service discovery for Kubernetes alone: a third of the memory and half of the time to build.
    Unit {
        tags: "remove_all_sd,enable_kubernetes_sd",
        ..unit(
            "prometheus",
            &[program(
                "prometheus",
                "github.com/prometheus/prometheus/cmd/prometheus",
            )],
        )
    },
    unit(
        "coredns",
        &[program("coredns", "github.com/coredns/coredns")],
    ),
    unit(
        "metrics-server",
        &[program(
            "metrics-server",
            "sigs.k8s.io/metrics-server/cmd/metrics-server",
        )],
    ),
    Unit {
        client: true,
        ..unit("helm", &[program("helm", "helm.sh/helm/v4/cmd/helm")])
    },
    Unit {
        module: "kubernetes",
        client: true,
        ..unit(
            "kubectl",
            &[program("kubectl", "k8s.io/kubernetes/cmd/kubectl")],
        )
    },
];

impl Unit {
    /// Flags of `go build`.
    pub(super) fn flags(&self, go_mod: &str) -> Result<Vec<String>> {
        let mut link = vec!["-s -w".to_owned()];
        if self.module == "kubernetes" {
            // Without a version, API server and kubectl call themselves v0.0.0, and skew checks fail.
            let version = required(go_mod, "k8s.io/kubernetes")
                .context("go.mod does not require k8s.io/kubernetes")?;
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            for (name, value) in [
                ("gitVersion", version),
                ("gitMajor", major),
                ("gitMinor", minor),
            ] {
                link.push(format!("-X k8s.io/component-base/version.{name}={value}"));
            }
        }
        let mut flags = vec![
            "-trimpath".to_owned(),
            format!("-ldflags={}", link.join(" ")),
        ];
        if !self.tags.is_empty() {
            flags.push(format!("-tags={}", self.tags));
        }
        Ok(flags)
    }

    /// Hash of everything that the programs are made of, but for Go itself.
    pub(super) fn key(&self, go_mod: &str, go_sum: &str) -> String {
        let mut hash = Sha256::new();
        let packages = self.programs.iter().map(|p| p.package);
        for part in [go_mod, go_sum, self.tags, std::env::consts::ARCH]
            .into_iter()
            .chain(packages)
        {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())[..KEY_LENGTH].to_owned()
    }
}

/// The version of `module` that a go.mod requires.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line
            .trim()
            .trim_start_matches("require ")
            .split_whitespace();
        (words.next()? == module)
            .then(|| words.next())
            .flatten()
            .filter(|v| v.starts_with('v'))
    })
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GO_MOD: &str = "module m\n\nrequire (\n\tk8s.io/api v0.36.3 // indirect\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";

    #[test]
    fn the_version_comes_from_go_mod_alone() {
        let kubernetes = UNITS.iter().find(|u| u.name == "kubernetes").unwrap();
        let flags = kubernetes.flags(GO_MOD).unwrap().join(" ");
        assert!(
            flags.contains("gitVersion=v1.36.3") && flags.contains("gitMinor=36"),
            "{flags}"
        );
        assert!(kubernetes.flags("module m").is_err());
    }

    #[test]
    fn any_change_of_the_sources_changes_the_key() {
        let unit = &UNITS[0];
        let key = unit.key(GO_MOD, "sum");
        assert_eq!(key, unit.key(GO_MOD, "sum"));
        assert_eq!(key.len(), KEY_LENGTH);
        assert_ne!(key, unit.key(GO_MOD, "sum2"));
        assert_ne!(key, unit.key(&format!("{GO_MOD}\n"), "sum"));
        // A character moved from one file to the other is a change, too.
        assert_ne!(unit.key("ab", "c"), unit.key("a", "bc"));
    }

    #[test]
    fn every_package_is_a_tool_of_its_module() {
        let tools = crate::repository_root().unwrap().join("e2e/tools");
        for unit in &UNITS {
            let go_mod = std::fs::read_to_string(tools.join(unit.module).join("go.mod")).unwrap();
            for program in unit.programs {
                let named = go_mod
                    .lines()
                    .any(|l| l.trim().trim_start_matches("tool ") == program.package);
                assert!(named, "{} lacks the tool {}", unit.module, program.package);
            }
        }
    }

    #[test]
    fn what_most_tools_need_is_compiled_once() {
        let tools = crate::repository_root().unwrap().join("e2e/tools");
        let shared = [
            "k8s.io/api",
            "k8s.io/apimachinery",
            "k8s.io/client-go",
            "google.golang.org/grpc",
            "google.golang.org/protobuf",
            "golang.org/x/net",
            "golang.org/x/text",
        ];
        for module in shared {
            let mut versions = std::collections::BTreeMap::new();
            for unit in &UNITS {
                let path = tools.join(unit.module).join("go.mod");
                let go_mod = std::fs::read_to_string(path).unwrap();
                if let Some(version) = required(&go_mod, module) {
                    versions.insert(unit.module, version.to_owned());
                }
            }
            let different: std::collections::BTreeSet<_> = versions.values().collect();
            assert!(
                different.len() == 1,
                "{module} is compiled once for each of its versions: {versions:?}"
            );
        }
    }
}
