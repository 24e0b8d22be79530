//! Pure: what the files of a memory cgroup say, version 1 and 2, and where they are.
//!
//! The working set is what the kernel cannot take back at once: usage less the inactive page cache, so that writing a heap
//! snapshot counts for nothing. Version 2 charges kernel socket memory to the same counter; version 1 keeps it in a counter
//! of its own (and only where a limit was set for it), which is added here.

use std::path::{Path, PathBuf};

/// Which files there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `memory.usage_in_bytes` and so on, in a hierarchy per controller.
    V1,
    /// `memory.current` and so on, in the one hierarchy.
    V2,
}

/// Where this process's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which files to read.
    pub version: Version,
    /// The cgroup's directory.
    pub directory: PathBuf,
    /// The top of what can be seen of the hierarchy.
    pub top: PathBuf,
}

/// What a cgroup uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the kernel cannot take back at once, sockets' included.
    pub working_set: u64,
    /// Of those, bytes in sockets' buffers.
    pub sockets: u64,
    /// Most bytes it may use; `None` when there is no limit.
    pub limit: Option<u64>,
}

/// Finds the memory cgroup. `cgroup` is `/proc/self/cgroup`, `mountinfo` is `/proc/self/mountinfo`.
pub fn place(cgroup: &str, mountinfo: &str) -> Option<Place> {
    let own = |wanted: &dyn Fn(&str) -> bool| {
        cgroup.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            wanted(controllers).then_some(parts.next()?)
        })
    };
    // On machines with both, memory is where version 1 names it.
    let v1 = own(&|controllers| controllers.split(',').any(|one| one == "memory"));
    let (version, path) = match v1 {
        Some(path) => (Version::V1, path),
        None => (Version::V2, own(&str::is_empty)?),
    };
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        let (kind, options) = (source.next()?, source.nth(1)?);
        let ours = match version {
            Version::V1 => kind == "cgroup" && options.split(',').any(|one| one == "memory"),
            Version::V2 => kind == "cgroup2",
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, top) = (fields.next()?, Path::new(fields.next()?));
        // A container may see only its own part of the hierarchy, under a path that it does not know.
        let below = Path::new(path).strip_prefix(root).ok();
        let below =
            below.filter(|below| below.components().next().is_some() && !path.contains(".."));
        ours.then(|| Place {
            version,
            directory: below.map_or_else(|| top.to_owned(), |below| top.join(below)),
            top: top.to_owned(),
        })
    })
}

/// Version 1: `memory.usage_in_bytes`, `memory.stat` and `memory.kmem.tcp.usage_in_bytes` (empty when the kernel has none).
pub fn v1(usage: &str, stat: &str, tcp: &str) -> Option<Usage> {
    let sockets = number(tcp).unwrap_or(0);
    let inactive = field(stat, "total_inactive_file")?;
    let limit = field(stat, "hierarchical_memory_limit");
    Some(Usage {
        working_set: number(usage)?
            .saturating_sub(inactive)
            .saturating_add(sockets),
        sockets,
        limit: limit.filter(|bytes| *bytes < UNLIMITED),
    })
}

/// Version 2: `memory.current`, `memory.stat`, and `memory.max` of the cgroup and all above it.
pub fn v2<'a>(
    current: &str,
    stat: &str,
    maxima: impl IntoIterator<Item = &'a str>,
) -> Option<Usage> {
    Some(Usage {
        working_set: number(current)?.saturating_sub(field(stat, "inactive_file")?),
        // Kernels before 4.18 do not say; the bytes are counted all the same.
        sockets: field(stat, "sock").unwrap_or(0),
        // "max" is no number.
        limit: maxima.into_iter().filter_map(number).min(),
    })
}

/// Version 1 says "no limit" by the largest number of whole pages.
const UNLIMITED: u64 = i64::MAX as u64 / 2;

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines()
        .find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// 20 MB of heap, a file of 40 MB just written, 40 connections that nobody reads: recorded with version 1, and the same
    /// load in the form of version 2.
    const V1_USAGE: &str = include_str!("samples/v1/memory.usage_in_bytes");
    const V1_STAT: &str = include_str!("samples/v1/memory.stat");
    const V1_TCP: &str = include_str!("samples/v1/memory.kmem.tcp.usage_in_bytes");
    const V2_CURRENT: &str = include_str!("samples/v2/memory.current");
    const V2_STAT: &str = include_str!("samples/v2/memory.stat");

    #[test]
    fn version_1_adds_sockets_and_leaves_page_cache_out() {
        let usage = v1(V1_USAGE, V1_STAT, V1_TCP).unwrap();
        let inactive = field(V1_STAT, "total_inactive_file").unwrap();
        assert!(inactive > 40_000_000, "the written file is in there");
        assert_eq!(usage.sockets, 134_541_312);
        assert_eq!(
            usage.working_set,
            number(V1_USAGE).unwrap() - inactive + 134_541_312
        );
        assert_eq!(usage.limit, Some(256 * 1024 * 1024));
        let without = v1(V1_USAGE, V1_STAT, "").unwrap();
        assert_eq!(
            (without.sockets, without.working_set),
            (0, usage.working_set - usage.sockets)
        );
    }

    #[test]
    fn version_2_has_sockets_in_its_counter_already() {
        let usage = v2(V2_CURRENT, V2_STAT, ["max\n", "268435456\n", "536870912\n"]).unwrap();
        assert_eq!(
            usage,
            Usage {
                working_set: 203_423_744 - 40_624_128,
                sockets: 134_217_728,
                limit: Some(268_435_456),
            }
        );
        assert_eq!(v2(V2_CURRENT, V2_STAT, ["max\n"]).unwrap().limit, None);
    }

    #[test]
    fn a_heap_snapshot_in_the_page_cache_changes_nothing() {
        let before = v2("100000000", "file 0\ninactive_file 0\nsock 0\n", []).unwrap();
        let after = v2(
            "400000000",
            "file 300000000\ninactive_file 300000000\nsock 0\n",
            [],
        )
        .unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn no_limit_is_none() {
        let stat = "hierarchical_memory_limit 9223372036854771712\ntotal_inactive_file 0\n";
        assert_eq!(v1("5\n", stat, "0\n").unwrap().limit, None);
    }

    #[test]
    fn files_that_say_nothing_are_no_reading() {
        assert_eq!(v1("", V1_STAT, V1_TCP), None);
        assert_eq!(v1(V1_USAGE, "", V1_TCP), None);
        assert_eq!(v2("max", V2_STAT, []), None);
    }

    #[test]
    fn the_directory_is_found_on_hosts_and_in_containers() {
        let v1_mount = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let v1_own = "9:name=systemd:/\n4:memory:/kubepods/pod1/c1\n1:cpu,cpuacct:/\n0::/\n";
        let v2_mount =
            "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let inner_mount = "903 895 0:32 /kubepods/pod1/c1 /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n";
        let cases = [
            (
                v1_own,
                v1_mount,
                "/sys/fs/cgroup/memory/kubepods/pod1/c1",
                Version::V1,
            ),
            (v1_own, inner_mount, "/sys/fs/cgroup/memory", Version::V1),
            (
                "0::/user.slice/a.scope\n",
                v2_mount,
                "/sys/fs/cgroup/user.slice/a.scope",
                Version::V2,
            ),
            ("0::/\n", v2_mount, "/sys/fs/cgroup", Version::V2),
            (
                "0::/../../outside\n",
                v2_mount,
                "/sys/fs/cgroup",
                Version::V2,
            ),
        ];
        for (own, mounts, directory, version) in cases {
            let place = place(own, mounts).unwrap();
            assert_eq!(
                (place.directory.to_str().unwrap(), place.version),
                (directory, version),
                "{own}"
            );
            assert!(place.directory.starts_with(&place.top));
        }
        assert_eq!(place("0::/\n", v1_mount.split_once('\n').unwrap().0), None);
        assert_eq!(place("", v2_mount), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC*", stat in "[a-z_0-9 \n]*") {
            let _ = (v1(&text, &stat, &text), v2(&text, &stat, [text.as_str()]), place(&text, &stat));
        }

        #[test]
        fn the_working_set_never_exceeds_usage_and_sockets(usage in 0u64..1 << 50, inactive in 0u64..1 << 50, tcp in 0u64..1 << 40) {
            let stat = format!("total_inactive_file {inactive}\n");
            let seen = v1(&usage.to_string(), &stat, &tcp.to_string()).unwrap();
            prop_assert!(seen.working_set <= usage + tcp && seen.working_set >= tcp);
        }
    }
}
