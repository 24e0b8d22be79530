//! Effects (reads files below `/proc` and `/sys`): what this process's cgroup uses.

use std::fs::read_to_string;
use std::path::Path;

use super::cgroup::{self, Place, Usage, Version};

/// Knows where to look.
#[derive(Debug)]
pub struct Look(Option<Place>);

impl Look {
    /// Finds this process's memory cgroup; looks at nothing when there is none.
    pub fn new() -> Self {
        let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self(cgroup::place(&own, &mounts))
    }

    /// What is used now; `None` when the kernel does not say.
    pub fn memory(&self) -> Option<Usage> {
        let place = self.0.as_ref()?;
        let read = |name: &str| read_to_string(place.directory.join(name)).ok();
        match place.version {
            Version::V1 => cgroup::v1(
                &read("memory.usage_in_bytes")?,
                &read("memory.stat")?,
                &read("memory.kmem.tcp.usage_in_bytes").unwrap_or_default(),
            ),
            Version::V2 => {
                let maxima: Vec<_> = up_to(&place.directory, &place.top)
                    .filter_map(|directory| read_to_string(directory.join("memory.max")).ok())
                    .collect();
                cgroup::v2(
                    &read("memory.current")?,
                    &read("memory.stat")?,
                    maxima.iter().map(String::as_str),
                )
            }
        }
    }
}

impl Default for Look {
    fn default() -> Self {
        Self::new()
    }
}

/// A directory and those above it: a limit may be set on any of them.
fn up_to<'a>(directory: &'a Path, top: &'a Path) -> impl Iterator<Item = &'a Path> {
    directory
        .ancestors()
        .take_while(move |above| above.starts_with(top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_up_to_the_mount_is_asked() {
        let (own, top) = (Path::new("/sys/fs/cgroup/a/b"), Path::new("/sys/fs/cgroup"));
        let asked: Vec<_> = up_to(own, top).collect();
        assert_eq!(asked, [own, Path::new("/sys/fs/cgroup/a"), top]);
    }

    #[test]
    fn this_kernel_can_be_read() {
        // Where there is no memory cgroup there is no reading; where there is one it says something.
        if let Some(usage) = Look::new().memory() {
            assert!(usage.working_set > 0 && usage.working_set >= usage.sockets);
        }
    }
}
