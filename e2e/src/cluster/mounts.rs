//! Pure, but for reading this process's mount table: where what is mounted.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// File system type.
    pub kind: String,
    /// Options of the file system itself, such as a cgroup hierarchy's controllers.
    pub options: String,
}

/// The mounts of this process's namespace, in the order in which they were made.
pub fn all() -> Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// The mount points at or below `folder`, innermost first.
pub fn below(mounts: &[Mount], folder: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mounts
        .iter()
        .map(|m| m.point.clone())
        .filter(|p| p.starts_with(folder))
        .collect();
    points.reverse();
    points
}

fn parse(table: &str) -> Vec<Mount> {
    table
        .lines()
        .filter_map(|line| {
            let (mount, system) = line.split_once(" - ")?;
            let mut system = system.split(' ');
            let kind = system.next()?.to_owned();
            Some(Mount {
                point: PathBuf::from(mount.split(' ').nth(4)?),
                kind,
                options: system.nth(1).unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        31 22 0:4 net:[4026532] /run/sluice-e2e/netns/n1 rw shared:1 - nsfs nsfs rw\n\
        35 24 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";

    #[test]
    fn fields_after_the_separator_are_found_with_and_without_options_before_it() {
        let mounts = parse(TABLE);
        assert_eq!(mounts[1].kind, "nsfs");
        assert_eq!(mounts[2].options, "rw,cpu");
        assert_eq!(
            below(&mounts, Path::new("/run/sluice-e2e")),
            [PathBuf::from("/run/sluice-e2e/netns/n1")]
        );
    }
}
